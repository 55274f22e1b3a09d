"""The tenants table: whose notifications there are, and what each may do."""

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, LiteralString

from psycopg import Connection
from psycopg.rows import class_row


@dataclass(frozen=True, slots=True)
class Tenant:
    """A tenant. `suspended_at` None: its keys and users are let in."""

    id: str
    name: str
    created_at: datetime
    suspended_at: datetime | None
    is_operator: bool
    daily_quota: int | None


_COLUMNS: Final[LiteralString] = "id, name, created_at, suspended_at, is_operator, daily_quota"


def add(
    conn: Connection[Any], tenant_id: str, *, name: str, is_operator: bool = False, daily_quota: int | None = None
) -> Tenant | None:
    """Create a tenant and return it; None where the id is taken."""
    query = f"""
        INSERT INTO tenants (id, name, is_operator, daily_quota)
        VALUES (%(id)s, %(name)s, %(is_operator)s, %(daily_quota)s)
        ON CONFLICT (id) DO NOTHING RETURNING {_COLUMNS}
    """
    parameters = {"id": tenant_id, "name": name, "is_operator": is_operator, "daily_quota": daily_quota}
    return conn.cursor(row_factory=class_row(Tenant)).execute(query, parameters).fetchone()


def find(conn: Connection[Any], tenant_id: str) -> Tenant | None:
    """Return a tenant; None where there is none of this id."""
    query = f"SELECT {_COLUMNS} FROM tenants WHERE id = %s"
    return conn.cursor(row_factory=class_row(Tenant)).execute(query, (tenant_id,)).fetchone()


def find_locked(conn: Connection[Any], tenant_id: str) -> Tenant | None:
    """Return a tenant as find does, which nobody else changes until the transaction ends."""
    query = f"SELECT {_COLUMNS} FROM tenants WHERE id = %s FOR NO KEY UPDATE"
    return conn.cursor(row_factory=class_row(Tenant)).execute(query, (tenant_id,)).fetchone()


def list_all(conn: Connection[Any]) -> list[Tenant]:
    """Return all tenants by their ids."""
    query = f"SELECT {_COLUMNS} FROM tenants ORDER BY id"
    return conn.cursor(row_factory=class_row(Tenant)).execute(query).fetchall()


def suspend(conn: Connection[Any], tenant_id: str, *, suspended: bool) -> Tenant | None:
    """Let a tenant's keys and users in no more, or again; return it, None where there is none of this id.

    What was accepted before is delivered all the same. Repeating it keeps the first instant.
    """
    query = f"""
        UPDATE tenants SET suspended_at = CASE WHEN %(suspended)s THEN coalesce(suspended_at, now()) END
         WHERE id = %(id)s RETURNING {_COLUMNS}
    """
    parameters = {"id": tenant_id, "suspended": suspended}
    return conn.cursor(row_factory=class_row(Tenant)).execute(query, parameters).fetchone()


def set_quota(conn: Connection[Any], tenant_id: str, *, daily_quota: int | None) -> Tenant | None:
    """Say how many notifications a day are accepted of a tenant, None any number; return it, None if there is none."""
    query = f"UPDATE tenants SET daily_quota = %(quota)s WHERE id = %(id)s RETURNING {_COLUMNS}"
    parameters = {"id": tenant_id, "quota": daily_quota}
    return conn.cursor(row_factory=class_row(Tenant)).execute(query, parameters).fetchone()
