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
_ON_ITS_WAY: Final = frozenset({"pending", "scheduled", "processing", "failed"})


@dataclass(slots=True)
class Reconciled:
    """What the two ledgers of a run say about each other."""

    accepted: int = 0
    received: int = 0  # of those accepted
    doubled: int = 0  # received more than once
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
        accepted = {entry.id for entry in entries(directory, "accepted", part)}
        numbers = {entry.id: entry.number for entry in entries(directory, "received", part)}
        times = Counter(entry.id for entry in entries(directory, "received", part))
        found.accepted += len(accepted)
        found.received += len(accepted & times.keys())
        found.doubled += sum(1 for count in times.values() if count > 1)
        found.missing += accepted - times.keys()
        for id_ in times.keys() - accepted:
            if numbers[id_] in unknown:
                found.unanswered_received += 1
            else:
                found.unexplained.append(id_)
    return found


def whereabouts(url: str, ids: Sequence[bytes]) -> Counter[str]:
    """Say of notifications that were not received what the database says.

    on_their_way; at_rest, as a dead letter; ended_otherwise: suppressed, expired or cancelled; or lost.

    Raises psycopg.Error.
    """
    query = """
        SELECT CASE WHEN n.status = 'failed' AND d.status = 'failed' AND d.retry_at IS NULL THEN 'at_rest'
                    WHEN n.status IN ('suppressed', 'expired', 'cancelled') THEN 'ended_otherwise'
                    WHEN n.status = ANY(%(waiting)s) THEN 'on_their_way' ELSE 'lost' END, count(*)
          FROM notifications n LEFT JOIN dlq_messages d ON d.notification_id = n.id
         WHERE n.id = ANY(%(ids)s) GROUP BY 1
    """
    found: Counter[str] = Counter()
    with psycopg.connect(url, autocommit=True) as conn:
        for at in range(0, len(ids), _CHUNK):
            chunk = [UUID(bytes=id_) for id_ in ids[at : at + _CHUNK]]
            found.update(dict(conn.execute(query, {"ids": chunk, "waiting": list(_ON_ITS_WAY)}).fetchall()))
    explained = found["on_their_way"] + found["at_rest"] + found["ended_otherwise"]
    found["lost"] = len(ids) - explained  # those that are not even there, too
    return found


def named(ids: Iterable[bytes]) -> str:
    """The first of some ids, for a person who goes looking."""
    shown = [str(UUID(bytes=id_)) for id_, _ in zip(ids, range(NAMED), strict=False)]
    return ", ".join(shown)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What `notify-audit verify` said; `clean` None: it could not say."""

    clean: bool | None
    words: str


def verify(url: str, directory: Path) -> Verdict:
    """Have the ledger verified by its own command, in a process of its own."""
    command = [sys.executable, "-m", "outbox_relay.audit", "verify", "--full", "--json", f"--grace={GRACE_S:g}"]
    environ = {**os.environ, "DATABASE_URL": url, "PYTHONPATH": str(REPOSITORY)}
    try:
        done = subprocess.run(
            command, env=environ, cwd=directory, capture_output=True, timeout=_AUDIT_S, text=True, check=False
        )
    except subprocess.TimeoutExpired:
        return Verdict(None, f"notify-audit verify took more than {_AUDIT_S:.0f} s")
    if done.returncode not in (0, 1):
        return Verdict(None, f"notify-audit verify ended with {done.returncode}: {done.stderr.strip()[-200:]}")
    report: dict[str, Any] = orjson.loads(done.stdout)
    broken = ", ".join(f"{name} {count}" for name, count in report["broken"].items() if count)
    return Verdict(done.returncode == 0, broken or f"{report['accepted']} accepted, each with its cause")
