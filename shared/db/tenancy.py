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


def binds(conn: Connection[Any]) -> bool:
    """Say whether row-level security binds this session; it does not bind the owner of the tables or a superuser."""
    row = conn.execute("SELECT row_security_active('notifications')").fetchone()
    return bool(row and row[0])
