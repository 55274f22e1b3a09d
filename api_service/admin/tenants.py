"""Commands about tenants."""

import re
from dataclasses import asdict
from typing import Any, Final

import click
from psycopg import Connection

from api_service import sealing
from api_service.actions import Action
from api_service.admin.making import make_key
from api_service.admin.session import Checked, NotDoneError, as_json, found, keyring, note, session, tell
from api_service.callers import Scope
from api_service.faults import FaultyValueError
from api_service.persons import checked_by
from shared.db import signing_secrets, tenants
from shared.db.tenants import Tenant
from shared.secrets import Keyring

_ID: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")
_MOST_A_DAY: Final = 2_000_000_000


def _checked_id(text: str) -> str:
    if not _ID.fullmatch(text):
        raise FaultyValueError(
            "invalid", "1 to 63 lower case letters, digits, - and _, beginning with a letter or digit"
        )
    return text


TENANT: Final = Checked("tenant", _checked_id)
a_tenant: Final = click.argument("tenant", type=TENANT)


@click.command()
@a_tenant
@click.option("--name", type=Checked("name", checked_by), help="What people read; the id by default.")
@click.option("--operator", is_flag=True, help="Its admins run the installation: they see what belongs to no tenant.")
@click.option(
    "--daily-quota", type=click.IntRange(1, _MOST_A_DAY), help="Notifications a day; without one, any number."
)
@click.option("--if-missing", is_flag=True, help="One that exists is left as it is, and is no error.")
@click.option("--key", type=Checked("name", checked_by), help="Make a key of this name, too, with all scopes.")
@click.option("--signing-secret/--no-signing-secret", default=True, help="Of its own, for webhooks to plain URLs.")
@as_json
def create_tenant(
    *,
    tenant: str,
    name: str | None,
    operator: bool,
    daily_quota: int | None,
    if_missing: bool,
    key: str | None,
    signing_secret: bool,
    as_json: bool,
) -> None:
    """Create a tenant. It gets in with a key: --key, or create-key.

    Webhooks to plain URLs are signed with a secret of its own, shown this once, where SECRETS_KEYS is set as it is for
    the API; otherwise with WEBHOOK_SECRETS, which all tenants share that have none.
    """
    ring = keyring() if signing_secret else None
    with session() as conn:
        made = tenants.add(conn, tenant, name=name or tenant, is_operator=operator, daily_quota=daily_quota)
        if made is None and not if_missing:
            raise NotDoneError(f"there is a tenant {tenant} already")
        shown = made or found(tenants.find(conn, tenant), f"tenant {tenant}")
        told, record = [f"Tenant {tenant} {'created' if made else 'is there'}."], asdict(shown)
        if made:
            after = {"is_operator": made.is_operator, "daily_quota": made.daily_quota}
            note(conn, Action.TENANT_CREATED, tenant, after=after)
        if made and ring:
            record["signing_secret"] = _make_signing_secret(conn, tenant, ring)
            told.append(f"{record['signing_secret']}\n\nsigns its webhooks to plain URLs. It is shown this once.")
        if key:
            made_key = make_key(conn, tenant, key, tuple(Scope))
            record["api_key"] = made_key.shown()
            told.append(made_key.text())
    tell(record, "\n\n".join(told), in_json=as_json)


def _make_signing_secret(conn: Connection[Any], tenant: str, ring: Keyring) -> str:
    secret = sealing.new_secret(ring, tenant_id=tenant)
    signing_secrets.rotate(conn, secret.id, secret.sealed, tenant_id=tenant, endpoint_id=None, overlap_s=0)
    after = {"endpoint": None, "overlap_s": 0, "signing": 1}
    note(conn, Action.SIGNING_SECRET_ROTATED, str(secret.id), tenant_id=tenant, after=after)
    return secret.shown


@click.command()
@a_tenant
@as_json
def suspend(tenant: str, as_json: bool) -> None:
    """Let a tenant's keys and users in no more, within five seconds. What it sent before is still delivered."""
    changed = _switched(tenant, suspended=True)
    tell(asdict(changed), f"Tenant {tenant} is suspended; resume {tenant} lets it in again.", in_json=as_json)


@click.command()
@a_tenant
@as_json
def resume(tenant: str, as_json: bool) -> None:
    """Let a suspended tenant in again."""
    changed = _switched(tenant, suspended=False)
    tell(asdict(changed), f"Tenant {tenant} is let in.", in_json=as_json)


def _switched(tenant: str, *, suspended: bool) -> Tenant:
    with session() as conn:
        before = found(tenants.find_locked(conn, tenant), f"tenant {tenant}")
        changed = found(tenants.suspend(conn, tenant, suspended=suspended), f"tenant {tenant}")
        if (before.suspended_at is None) == suspended:
            action = Action.TENANT_SUSPENDED if suspended else Action.TENANT_RESUMED
            note(conn, action, tenant, before={"suspended": not suspended}, after={"suspended": suspended})
    return changed


@click.command()
@a_tenant
@click.argument("amount")
@as_json
def set_quota(tenant: str, amount: str, as_json: bool) -> None:
    """Say how many notifications a day are accepted of a tenant: a number, or none for any number."""
    if amount != "none" and not (amount.isascii() and amount.isdigit() and 1 <= int(amount) <= _MOST_A_DAY):
        raise click.BadParameter(f"a number up to {_MOST_A_DAY}, or none", param_hint="AMOUNT")
    daily_quota = None if amount == "none" else int(amount)
    with session() as conn:
        before = found(tenants.find_locked(conn, tenant), f"tenant {tenant}").daily_quota
        changed = found(tenants.set_quota(conn, tenant, daily_quota=daily_quota), f"tenant {tenant}")
        if before != daily_quota:
            was, becomes = {"daily_quota": before}, {"daily_quota": daily_quota}
            note(conn, Action.TENANT_QUOTA_SET, tenant, before=was, after=becomes)
    told = "any number of" if daily_quota is None else f"at most {daily_quota:,}"
    tell(asdict(changed), f"Tenant {tenant} may send {told} notifications a day.", in_json=as_json)


COMMANDS: Final = (create_tenant, suspend, resume, set_quota)
