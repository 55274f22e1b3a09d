"""Row-level security's side of a statement: which tenant's rows the session sees.

A session of a role that row-level security binds sees nothing until it says for which tenant it asks, and what it says
ends with the transaction: nothing is left on a pooled connection.
"""

from collections.abc import Callable
from typing import Any, TypeVar

from psycopg import Connection

T = TypeVar("T")


def as_tenant(conn: Connection[Any], *, work: Callable[[Connection[Any]], T], tenant_id: str) -> T:
    """Return what `work` returns, run in one transaction that sees the rows of one tenant.

    It commits, unless it is within a transaction of the caller's, for the rest of which the tenant then stays set.
    """
    with conn.transaction():
        conn.execute("SELECT set_config('notify.tenant', %s, true)", (tenant_id,))
        return work(conn)


class HiddenRowsError(Exception):
    """Row-level security hides rows of `table` from this session."""

    def __init__(self, table: str) -> None:
        super().__init__(table)
        self.table = table


def require_all_of(conn: Connection[Any], table: str) -> None:
    """Raise HiddenRowsError unless this session sees the rows of every tenant: as the owner, or by a policy.

    For whoever looks for what is missing: what it may not see it would take for that.
    """
    query = """
        SELECT NOT row_security_active(%(table)s::text)
            OR EXISTS (SELECT FROM pg_policy p
                        WHERE p.polrelid = %(table)s::regclass AND p.polpermissive AND p.polcmd IN ('*', 'r')
                          AND pg_get_expr(p.polqual, p.polrelid) = 'true'
                          AND EXISTS (SELECT FROM unnest(p.polroles) AS r (id)
                                       WHERE CASE WHEN r.id = 0 THEN true ELSE pg_has_role(r.id, 'USAGE') END))
    """
    row = conn.execute(query, {"table": table}).fetchone()
    if not (row and row[0]):
        raise HiddenRowsError(table)


def binds(conn: Connection[Any]) -> bool:
    """Say whether row-level security binds this session; it does not bind the owner of the tables or a superuser."""
    row = conn.execute("SELECT row_security_active('notifications')").fetchone()
    return bool(row and row[0])
