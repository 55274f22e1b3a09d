"""Sent = received, by id; and the ledger's own verdict (`notify-audit verify`)."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from uuid import UUID

import orjson
import psycopg

from infra.local.stack import REPOSITORY
from loadtest.books import PARTS, entries

NAMED: Final = 10
GRACE_S: Final = 10.0
_CHUNK: Final = 5_000
_AUDIT_S: Final = 300.0
_AUDIT_ROW_S: Final = 200e-6  # three times what `--full` was measured to take for a row (docs/operations.md)


@dataclass(slots=True)
class Reconciled:
    """What the two ledgers of a run say about each other."""

    accepted: int = 0
    received: int = 0  # of those accepted
    doubled: int = 0  # received more than once
    misplaced: int = 0  # received, and with the message of another one
    unanswered_received: int = 0  # received, and their sender never had an answer: legal, they were accepted
    unexplained: list[bytes] = field(default_factory=list)  # received, and nobody asked for them
    missing: list[bytes] = field(default_factory=list)  # accepted, and not received


def compare(directory: Path, doubtful: Sequence[tuple[int, int]]) -> Reconciled:
    """Compare what was accepted with what was received, part by part.

    `doubtful` are requests that may have been accepted though nobody said so: their first number, and how many.
    """
    found = Reconciled()
    unknown = {first + index for first, count in doubtful for index in range(count)}
    for part in range(PARTS):
        accepted = {entry.id: entry.number for entry in entries(directory, "accepted", part)}
        numbers: dict[bytes, int] = {}
        doubled, misplaced = set(), set()
        for id_, number, _ in entries(directory, "received", part):
            if id_ in numbers:
                doubled.add(id_)
            if {accepted.get(id_, number), numbers.setdefault(id_, number)} != {number}:
                misplaced.add(id_)
        found.accepted += len(accepted)
        found.received += len(accepted.keys() & numbers.keys())
        found.doubled += len(doubled)
        found.misplaced += len(misplaced)
        found.missing += accepted.keys() - numbers.keys()
        for id_ in numbers.keys() - accepted.keys():
            if numbers[id_] in unknown:
                found.unanswered_received += 1
            else:
                found.unexplained.append(id_)
    return found


def received_since(directory: Path, ids: Iterable[bytes]) -> set[bytes]:
    """Say which of some ids are in the ledger of what was received by now."""
    wanted = set(ids)
    parts = range(PARTS) if wanted else ()
    return {entry.id for part in parts for entry in entries(directory, "received", part)} & wanted


def whereabouts(url: str, ids: Sequence[bytes]) -> tuple[Counter[str], list[bytes]]:
    """Say of notifications that were not received what the database says; and which of them are lost.

    on_their_way; at_rest, as a dead letter; or ended_otherwise: suppressed, expired, cancelled, discarded. The others
    are lost: those that were sent, and those that are not even there.

    Raises psycopg.Error.
    """
    query = """
        SELECT n.id, CASE WHEN n.status = 'failed' AND d.status = 'failed' AND d.retry_at IS NULL THEN 'at_rest'
                          WHEN n.status IN ('suppressed', 'expired', 'cancelled') THEN 'ended_otherwise'
                          WHEN n.status = 'failed' AND d.resolution = 'discarded' THEN 'ended_otherwise'
                          ELSE 'on_their_way' END
          FROM notifications n LEFT JOIN dlq_messages d ON d.notification_id = n.id
         WHERE n.id = ANY(%(ids)s) AND n.status <> 'sent'
    """
    found: Counter[str] = Counter()
    lost: list[bytes] = []
    with psycopg.connect(url, autocommit=True) as conn:
        for at in range(0, len(ids), _CHUNK):
            chunk = ids[at : at + _CHUNK]
            states: dict[UUID, str] = dict(conn.execute(query, {"ids": [UUID(bytes=id_) for id_ in chunk]}).fetchall())
            found.update(states.values())
            lost += [id_ for id_ in chunk if UUID(bytes=id_) not in states]
    return found, lost


def named(ids: Iterable[bytes]) -> str:
    """The first of some ids, for a person who goes looking."""
    shown = [str(UUID(bytes=id_)) for id_, _ in zip(ids, range(NAMED), strict=False)]
    return ", ".join(shown)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `notify-audit verify` said; `clean` None: it could not say."""

    clean: bool | None
    words: str
    accepted: int = 0
    sent: int = 0


def audit_s(accepted: int) -> float:
    """How long a verdict about so many notifications may take."""
    return max(_AUDIT_S, _AUDIT_ROW_S * accepted)


def verify(url: str, directory: Path, *, within_s: float) -> Verdict:
    """Have the ledger verified by its own command, in a process of its own."""
    command = [sys.executable, "-m", "outbox_relay.audit", "verify", "--full", "--json", f"--grace={GRACE_S:g}"]
    environ = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(REPOSITORY)}
    try:
        done = subprocess.run(
            command, env=environ, cwd=directory, capture_output=True, timeout=within_s, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict(None, f"notify-audit verify took more than {within_s:.0f} s")
    if done.returncode not in (0, 1):
        return Verdict(None, f"notify-audit verify ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    report: dict[str, Any] = orjson.loads(done.stdout)
    broken = ", ".join(f"{name} {count}" for name, count in report["broken"].items() if count)
    words = f"offenders: {broken}" if done.returncode else f"{report['accepted']:,} accepted, each with its cause"
    return Verdict(done.returncode == 0, words, report["accepted"], report["ended"].get("sent", 0))
