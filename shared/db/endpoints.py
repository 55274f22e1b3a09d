"""The endpoints table: webhook receivers with a name of their own.

Whether one is disabled is in suppressions: an active one of (tenant, webhook, ep_…) holds back what comes for it.
"""

from collections.abc import Collection, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any, Final, LiteralString
from uuid import UUID

from psycopg import Connection
from psycopg.rows import class_row, scalar_row

from shared.endpoints import endpoint_name


@dataclass(frozen=True, slots=True)
class NewEndpoint:
    """An endpoint about to be stored. Its headers are sealed for its id; their names are not."""

    id: UUID
    tenant_id: str
    url: str
    description: str | None
    header_names: Sequence[str]
    sealed_headers: bytes | None
    rate_per_s: float | None
    timeout_s: float | None


@dataclass(frozen=True, slots=True)
class Endpoint:
    """An endpoint as it stands. `suppression_id` None: it is enabled."""

    id: UUID
    tenant_id: str
    url: str
    description: str | None
    header_names: list[str]
    rate_per_s: float | None
    timeout_s: float | None
    created_at: datetime
    updated_at: datetime
    suppression_id: UUID | None
    disabled_reason: str | None
    disabled_detail: str | None
    disabled_at: datetime | None
    disabled_by: str | None

    @property
    def name(self) -> str:
        """Return what notifications call it."""
        return endpoint_name(self.id)

    @property
    def enabled(self) -> bool:
        """Say whether anything is sent to it."""
        return self.suppression_id is None


_SELECT: Final[LiteralString] = """
    SELECT e.id, e.tenant_id, e.url, e.description, e.header_names, e.rate_per_s, e.timeout_s, e.created_at,
           e.updated_at, s.id AS suppression_id, s.reason AS disabled_reason, s.detail AS disabled_detail,
           s.created_at AS disabled_at, s.created_by AS disabled_by
      FROM endpoints e
      LEFT JOIN suppressions s ON s.tenant_id = e.tenant_id AND s.channel = 'webhook'
                              AND s.recipient = 'ep_' || replace(e.id::text, '-', '') AND s.lifted_at IS NULL
     WHERE e.tenant_id = %(tenant_id)s AND e.deleted_at IS NULL
"""


def create(conn: Connection[Any], new: NewEndpoint) -> None:
    """Store an endpoint; its first secret is shared.db.signing_secrets' to store, in the same transaction."""
    query = """
        INSERT INTO endpoints (id, tenant_id, url, description, header_names, sealed_headers, rate_per_s, timeout_s)
        VALUES (%(id)s, %(tenant_id)s, %(url)s, %(description)s, %(header_names)s, %(sealed_headers)s, %(rate_per_s)s,
                %(timeout_s)s)
    """
    conn.execute(query, _parameters(new))


def _parameters(new: NewEndpoint) -> dict[str, Any]:
    return asdict(new) | {"header_names": list(new.header_names)}


def find(conn: Connection[Any], endpoint_id: UUID, *, tenant_id: str) -> Endpoint | None:
    """Return one endpoint of a tenant; None where it has no such id, or has deleted it."""
    parameters = {"id": endpoint_id, "tenant_id": tenant_id}
    query = f"{_SELECT} AND e.id = %(id)s"
    return conn.cursor(row_factory=class_row(Endpoint)).execute(query, parameters).fetchone()


def find_locked(conn: Connection[Any], endpoint_id: UUID, *, tenant_id: str) -> Endpoint | None:
    """Return one endpoint as find does, and let nobody else change it until the transaction ends."""
    query = "SELECT FROM endpoints WHERE id = %(id)s AND tenant_id = %(tenant_id)s FOR UPDATE"
    conn.execute(query, {"id": endpoint_id, "tenant_id": tenant_id})
    return find(conn, endpoint_id, tenant_id=tenant_id)  # a statement of its own, which sees what that waited for


def list_page(
    conn: Connection[Any], *, tenant_id: str, before: tuple[datetime, UUID] | None, limit: int
) -> list[Endpoint]:
    """Return up to `limit` endpoints of a tenant, newest first by (created_at, id)."""
    query = f"""
        {_SELECT}
           AND (%(before_at)s::timestamptz IS NULL OR (e.created_at, e.id) < (%(before_at)s, %(before_id)s::uuid))
         ORDER BY e.created_at DESC, e.id DESC LIMIT %(limit)s
    """
    before_at, before_id = before or (None, None)
    parameters = {"tenant_id": tenant_id, "before_at": before_at, "before_id": before_id, "limit": limit}
    return conn.cursor(row_factory=class_row(Endpoint)).execute(query, parameters).fetchall()


def known(conn: Connection[Any], endpoint_ids: Collection[UUID], *, tenant_id: str) -> set[UUID]:
    """Return which of these endpoints a tenant has."""
    query = """
        SELECT id FROM endpoints WHERE id = ANY(%(ids)s) AND tenant_id = %(tenant_id)s AND deleted_at IS NULL
    """
    parameters = {"ids": list(endpoint_ids), "tenant_id": tenant_id}
    return set(conn.cursor(row_factory=scalar_row).execute(query, parameters).fetchall())


def change(conn: Connection[Any], to: NewEndpoint, *, keeps_headers: bool) -> None:
    """Make an endpoint what it is to be, its headers apart where it keeps them; find_locked said what it is now.

    What is under way to it goes on as it began.
    """
    query = """
        UPDATE endpoints
           SET url = %(url)s, description = %(description)s, rate_per_s = %(rate_per_s)s, timeout_s = %(timeout_s)s,
               header_names = CASE WHEN %(keeps_headers)s THEN header_names ELSE %(header_names)s END,
               sealed_headers = CASE WHEN %(keeps_headers)s THEN sealed_headers ELSE %(sealed_headers)s END,
               updated_at = now()
         WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND deleted_at IS NULL
    """
    conn.execute(query, _parameters(to) | {"keeps_headers": keeps_headers})


def delete(conn: Connection[Any], endpoint_id: UUID, *, tenant_id: str) -> None:
    """Delete an endpoint: its row stays, without anything secret, so that its name is never another's.

    What waits for it, or comes for it, fails. A suppression of it stays until nobody takes it for what it was: see
    shared.db.suppressions.lift_deleted. Its secrets are shared.db.signing_secrets' to delete, in the same transaction.
    """
    query = """
        UPDATE endpoints SET deleted_at = now(), updated_at = now(), sealed_headers = NULL
         WHERE id = %(id)s AND tenant_id = %(tenant_id)s AND deleted_at IS NULL
    """
    conn.execute(query, {"id": endpoint_id, "tenant_id": tenant_id})
