"""Commands about API keys."""

import re
from typing import Any, Final

import click
from psycopg import Connection

from api_service import api_keys as made_keys
from api_service.actions import Action
from api_service.admin.making import Shown, make_key
from api_service.admin.session import NAME, Age, Checked, NotDoneError, as_json, found, note, session, tell
from api_service.admin.tenants import TENANT
from api_service.callers import Scope
from api_service.faults import FaultyValueError
from api_service.identity_representations import key_noted, key_shown
from api_service.identity_schemas import EXPIRES_WITHIN, MAX_OVERLAP_S
from api_service.limiting import policies
from api_service.persons import checked_by
from shared.db import api_keys, tenants
from shared.db.api_keys import ApiKey


def _key_id(text: str) -> str:
    """Return the id in what somebody typed: the id itself, how the key begins, or all of a key that got out."""
    found = re.fullmatch(rf"(?:{made_keys.PREFIX})?([0-9a-f]{{16}})(?:_\w*)?", text)
    if found is None:
        raise FaultyValueError("invalid", "the id of a key: 16 hexadecimal digits, as in nk_live_<id>_...")
    return found[1]


def _limits(text: str) -> str:
    try:
        return policies.checked(text)
    except ValueError:
        raise FaultyValueError("invalid", "limits such as 500/second;1000000/day, or interactive, or steady") from None


a_key: Final = click.argument("key", type=Checked("key", _key_id))


@click.command()
@click.option("--tenant", type=TENANT, required=True, help="Whose key it is.")
@click.option("--name", type=Checked("name", checked_by), required=True, help="What it is for.")
@click.option(
    "--scope",
    "scopes",
    type=click.Choice([scope.value for scope in Scope]),
    multiple=True,
    help="send and read by default; may be repeated.",
)
@click.option("--expires-in", type=Age(), help="Such as 90d; without it, it does not expire.")
@click.option("--limits", type=Checked("limits", _limits), help="Request limits of its own: 500/second;1000000/day.")
@as_json
def create_key(
    *, tenant: str, name: str, scopes: tuple[str, ...], expires_in: float | None, limits: str | None, as_json: bool
) -> None:
    """Make an API key and show it, once."""
    if expires_in is not None and not 1 <= expires_in <= EXPIRES_WITHIN.total_seconds():
        raise click.BadParameter("at most ten years", param_hint="--expires-in")
    with session() as conn:
        found(tenants.find(conn, tenant), f"tenant {tenant}: create-tenant makes one")
        made = make_key(conn, tenant, name, scopes or (Scope.SEND, Scope.READ), expires_in_s=expires_in, limits=limits)
    tell(made.shown(), made.text(), in_json=as_json)


@click.command()
@a_key
@as_json
def revoke_key(key: str, as_json: bool) -> None:
    """Refuse a key for good, everywhere within five seconds."""
    with session() as conn:
        before = _found(conn, key)
        revoked = found(api_keys.revoke(conn, key, tenant_id=before.tenant_id, by=NAME), f"key {key}")
        if before.revoked_at is None:
            was, becomes = {"revoked": False}, {"revoked": True}
            note(conn, Action.API_KEY_REVOKED, key, tenant_id=revoked.tenant_id, before=was, after=becomes)
    shown = key_shown(revoked) | {"tenant_id": revoked.tenant_id}
    tell(shown, f"{revoked.name}, of tenant {revoked.tenant_id}, is revoked.", in_json=as_json)


@click.command()
@a_key
@click.option("--overlap", type=Age(), default="1h", show_default=True, help="How long the old secret works too.")
@as_json
def rotate_key(key: str, overlap: float, as_json: bool) -> None:
    """Give a key another secret and show it, once."""
    if overlap > MAX_OVERLAP_S:
        raise click.BadParameter("at most 7d", param_hint="--overlap")
    made = made_keys.make(key)
    with session() as conn:
        before = _found(conn, key)
        owner = before.tenant_id
        changed = api_keys.rotate(conn, key, tenant_id=owner, secret_sha256=made.sha256, overlap_s=overlap)
        if changed is None:
            raise NotDoneError(f"the key {key} is revoked, or has expired")
        was, becomes = key_noted(before), key_noted(changed)
        note(conn, Action.API_KEY_ROTATED, key, tenant_id=owner, before=was, after=becomes)
    shown = Shown(changed, made.text)
    tell(shown.shown(), shown.text(), in_json=as_json)


def _found(conn: Connection[Any], key_id: str) -> ApiKey:
    """Return a key, whosever it is, which nobody else changes until the command ends."""
    owner = found(api_keys.judge(conn, key_id), f"key {key_id}").tenant_id
    return found(api_keys.find_locked(conn, key_id, tenant_id=owner), f"key {key_id}")


COMMANDS: Final = (create_key, rotate_key, revoke_key)
