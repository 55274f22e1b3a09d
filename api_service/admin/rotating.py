"""Sealing what is stored with the newest key, while everybody goes on using it."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import click
from psycopg import Connection

from api_service.actions import Action
from api_service.admin.session import NotDoneError, as_json, connected, keyring, note, tell
from shared.db import sealed, tenancy
from shared.db.sealed import Sealed
from shared.secrets import Keyring, SecretError

BATCH_ROWS: Final = 500
PATIENCE_S: Final = 10.0
"""How long a row that somebody is changing is waited for, from the last one that was free."""
_PAUSE_S: Final = 0.2
_SHOWN: Final = 20


@dataclass(frozen=True, slots=True)
class Resealed:
    """What came of one table: how many values were sealed anew, what does not open, how many are left, those included.

    `unopened` says why, by the row; it holds nothing of a secret.
    """

    count: int
    unopened: Mapping[UUID, str]
    left: int


def reseal(
    conn: Connection[Any],
    ring: Keyring,
    table: str,
    *,
    batch_rows: int,
    patience_s: float,
) -> Resealed:
    """Seal all values of a table with the first key of a ring, a batch a transaction, each noted in the audit log.

    What was done is not done again: an interrupted run is finished by the next one, and two at once share the work.
    Nobody waits for more than one batch. What somebody is changing is taken as they leave it, or left where they take
    longer than `patience_s`. Raises SecretError where the ring is empty.
    """
    head, count, until = ring.head, 0, time.monotonic() + patience_s
    while True:
        done, unopened = _pass(conn, ring, table, batch_rows)
        left = sealed.count_older(conn, table, head=head)
        count += done
        until = time.monotonic() + patience_s if done else until
        if left <= len(unopened) or time.monotonic() >= until:
            return Resealed(count, unopened, left)
        time.sleep(_PAUSE_S)


def _pass(conn: Connection[Any], ring: Keyring, table: str, batch_rows: int) -> tuple[int, dict[UUID, str]]:
    """Go through a table once; return how many values were sealed anew, and what does not open."""
    count, unopened, after = 0, dict[UUID, str](), sealed.FIRST
    while True:
        with conn.transaction():
            batch = sealed.lock_older(conn, table, head=ring.head, after=after, limit=batch_rows)
            anew = []
            for one in batch:
                try:
                    anew.append(_anew(ring, table, one))
                except SecretError as error:
                    unopened[one.id] = str(error)
            if anew:
                sealed.replace(conn, table, anew)
                note(conn, Action.SECRETS_RESEALED, table, after={"key": ring.kid, "resealed": len(anew)})
        if not batch:
            return count, unopened
        count, after = count + len(anew), batch[-1].id


def _anew(ring: Keyring, table: str, one: Sealed) -> Sealed:
    place = {"table": table, "row_id": str(one.id), "tenant_id": one.tenant_id}
    return Sealed(one.id, one.tenant_id, ring.seal(ring.open(one.value, **place), **place))


@click.command()
@click.option("--batch", type=click.IntRange(1, 10_000), default=BATCH_ROWS, show_default=True, help="Rows at a time.")
@as_json
def rotate_secrets(batch: int, as_json: bool) -> None:
    """Seal what is stored with the first key of SECRETS_KEYS, so that the others are not needed any more.

    While everything runs; the services have to have that key first already. Cut short, it is finished by another run.
    """
    ring = keyring()
    if not ring:
        raise NotDoneError("there is no key to seal with: SECRETS_KEYS is not set")
    with connected() as conn:
        for table in sealed.TABLES:
            tenancy.require_all_of(conn, table)
        done = {table: reseal(conn, ring, table, batch_rows=batch, patience_s=PATIENCE_S) for table in sealed.TABLES}
    faults = [f"{table} {id_}: {why}" for table, one in done.items() for id_, why in one.unopened.items()]
    left = {table: one.left for table, one in done.items() if one.left}
    if left:
        raise NotDoneError(_left(left, faults))
    counts = {table: one.count for table, one in done.items()}
    tell(
        {"key": ring.kid, "resealed": counts},
        f"Sealed with {ring.kid}: {_listed(counts)}. Nothing needs an older key of SECRETS_KEYS any more.",
        in_json=as_json,
    )


def _left(left: Mapping[str, int], faults: list[str]) -> str:
    more = f"\n  and {len(faults) - _SHOWN} more" if len(faults) > _SHOWN else ""
    named = "\n  ".join(["", *faults[:_SHOWN]]) + more
    return f"left as they were: {_listed(left)}; those that were in use are sealed by another run{named}"


def _listed(counts: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} of {table}" for table, count in counts.items())
