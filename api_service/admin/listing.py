"""What there is."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict
from datetime import datetime
from typing import Any, Final

import click
from psycopg import Connection

from api_service.admin.session import as_json, found, session, tell
from api_service.admin.tenants import TENANT
from api_service.identity_representations import key_shown, user_shown
from shared.db import api_keys, tenants, users

_PAGE: Final = 1_000
Row = Mapping[str, Any]


@click.command(name="list")
@click.argument("what", type=click.Choice(["tenants", "keys", "users"]))
@click.option("--tenant", type=TENANT, help="Those of one tenant.")
@as_json
def list_(what: str, tenant: str | None, as_json: bool) -> None:
    """List tenants, keys or users."""
    with session() as conn:
        of = tenants.list_all(conn) if tenant is None else [found(tenants.find(conn, tenant), f"tenant {tenant}")]
        rows = [asdict(one) for one in of] if what == "tenants" else _rows(conn, what, [one.id for one in of])
    tell({"data": rows}, _table(rows, _COLUMNS[what]), in_json=as_json)


def _rows(conn: Connection[Any], what: str, of: Sequence[str]) -> list[Row]:
    """Return the keys or users of tenants, page after page."""
    read = _keys if what == "keys" else _users
    return [{"tenant_id": tenant_id, **row} for tenant_id in of for row in read(conn, tenant_id)]


def _keys(conn: Connection[Any], tenant_id: str) -> list[dict[str, Any]]:
    def page(before: Any) -> list[api_keys.ApiKey]:
        return api_keys.list_page(conn, api_keys.Filter(tenant_id, before=before), limit=_PAGE)

    return [key_shown(key) for key in _all(page)]


def _users(conn: Connection[Any], tenant_id: str) -> list[dict[str, Any]]:
    def page(before: Any) -> list[users.User]:
        return users.list_page(conn, users.Filter(tenant_id, before=before), limit=_PAGE)

    return [user_shown(user) for user in _all(page)]


def _all(page: Callable[[Any], list[Any]]) -> list[Any]:
    rows = page(None)
    found = list(rows)
    while len(rows) == _PAGE:
        rows = page((rows[-1].created_at, rows[-1].id))
        found += rows
    return found


_COLUMNS: Final = {
    "tenants": ("id", "name", "is_operator", "daily_quota", "suspended_at"),
    "keys": ("tenant_id", "id", "name", "scopes", "expires_at", "revoked_at", "last_used_at"),
    "users": ("tenant_id", "email", "name", "role", "disabled_at", "last_login_at"),
}


def _table(rows: Sequence[Row], columns: Sequence[str]) -> str:
    """Return rows under each other, as wide as they need to be."""
    cells = [list(columns), *([_cell(row[name]) for name in columns] for row in rows)]
    widths = [max(len(line[place]) for line in cells) for place in range(len(columns))]
    return "\n".join("  ".join(map(str.ljust, line, widths)).rstrip() for line in cells)


def _cell(value: Any) -> str:
    if value is None or value is False:
        return "-"
    if value is True:
        return "yes"
    if isinstance(value, datetime):
        return f"{value:%Y-%m-%d %H:%M}"
    return ",".join(value) if isinstance(value, list) else str(value)
