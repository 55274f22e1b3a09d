"""The sender_domains table: what domains a tenant has shown to be its own, so that its e-mail may be from them."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

from psycopg import Connection
from psycopg.rows import class_row, scalar_row


@dataclass(frozen=True, slots=True)
class SenderDomain:
    """A domain and the token its owner puts into DNS. `verified_at` None: that has not been seen yet."""

    tenant_id: str
    domain: str
    token: str
    created_at: datetime
    verified_at: datetime | None

    @property
    def verified(self) -> bool:
        """Say whether e-mail may be from it."""
        return self.verified_at is not None


_COLUMNS: Final[LiteralString] = "tenant_id, domain, token, created_at, verified_at"


def add(conn: Connection[Any], domain: str, token: str, *, tenant_id: str) -> bool:
    """Store a domain, not verified, with its token; return whether it was new: one that is there stays as it is."""
    query = "INSERT INTO sender_domains (tenant_id, domain, token) VALUES (%s, %s, %s) ON CONFLICT DO NOTHING"
    return bool(conn.execute(query, (tenant_id, domain, token)).rowcount)


def find(conn: Connection[Any], domain: str, *, tenant_id: str) -> SenderDomain | None:
    """Return one domain of a tenant."""
    query = f"SELECT {_COLUMNS} FROM sender_domains WHERE tenant_id = %s AND domain = %s"
    return conn.cursor(row_factory=class_row(SenderDomain)).execute(query, (tenant_id, domain)).fetchone()


def list_all(conn: Connection[Any], *, tenant_id: str) -> list[SenderDomain]:
    """Return a tenant's domains by name; the API keeps them few."""
    query = f"SELECT {_COLUMNS} FROM sender_domains WHERE tenant_id = %s ORDER BY domain"
    return conn.cursor(row_factory=class_row(SenderDomain)).execute(query, (tenant_id,)).fetchall()


def verify(conn: Connection[Any], domain: str, *, tenant_id: str) -> bool:
    """Note that a domain is the tenant's; return whether that is news."""
    query = """
        UPDATE sender_domains SET verified_at = now() WHERE tenant_id = %s AND domain = %s AND verified_at IS NULL
    """
    return bool(conn.execute(query, (tenant_id, domain)).rowcount)


def delete(conn: Connection[Any], domain: str, *, tenant_id: str) -> bool:
    """Forget a domain; return whether it was there."""
    query = "DELETE FROM sender_domains WHERE tenant_id = %s AND domain = %s"
    return bool(conn.execute(query, (tenant_id, domain)).rowcount)


def allowed(conn: Connection[Any], domains: Collection[str], *, tenant_id: str) -> set[str]:
    """Return those of some domains that a tenant's e-mail may be from: verified, or below one that is."""
    query = """
        SELECT asked FROM unnest(%(domains)s::text[]) AS asked
         WHERE EXISTS (SELECT FROM sender_domains d
                        WHERE d.tenant_id = %(tenant_id)s AND d.verified_at IS NOT NULL
                          AND (asked = d.domain OR right(asked, length(d.domain) + 1) = '.' || d.domain))
    """
    parameters = {"domains": list(domains), "tenant_id": tenant_id}
    return set(conn.cursor(row_factory=scalar_row).execute(query, parameters).fetchall())
