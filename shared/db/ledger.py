"""The ledger: accepted = ended + live + pruned, reconciled without scanning the table.

**Books.** Behind a *mark* (an id: UUIDv7 follows time) everything has been looked at. What has *settled* there (sent,
cancelled, expired: states with no way out, and no rule broken) is counted and never read again. What has not (live,
failed and so replayable, suppressed and so resumable, or an offender) is listed by id in `audit_open` and looked at in
each run. Rows beyond the mark are read in each run, and the mark follows them. With counts that only ever grow,

    passed        ids the mark went over
    settled[s]    of those, how many settled in status s (or were pruned while still listed as open)
    pruned[s]     of settled[s], how many rows pruning has deleted since
    ahead[s]      rows pruning deleted before the mark had reached them

these hold after each run:

    passed    = sum(settled) + rows in audit_open
    accepted  = passed + sum(ahead) + rows beyond the mark
    accepted  = sum over s of (settled[s] - pruned[s]) + (pruned[s] + ahead[s]) + open[s] + beyond[s]
                              in the table, settled       gone by retention       live, failed, suppressed, young

A replay (failed to pending, years later) or a lifted suppression moves a row that is listed, from one open[s] to
another. Pruning moves a row from `settled` to `pruned` on the same side of the equation, or from beyond to `ahead`. So
neither changes what is accepted. A listed id whose row is gone without pruning is an offender at the next run; a
settled row that is gone is found by the full run, which counts the table and compares.

**Late rows.** An id is made before its row is committed. The mark stays LATE_S behind the clock and behind the oldest
open transaction that writes, so what commits late is still ahead of it. Only an id from a clock that is wrong by more
can appear behind the mark: the full run finds it and puts it into the books.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from shared.db import DatabaseNotReadyError
from shared.model import Status

AUDIT_LOCK: Final = 7_246_194
"""Advisory: one run at a time, and no pruning during it."""
LATE_S: Final = 60.0
SETTLED: Final = (Status.SENT, Status.CANCELLED, Status.EXPIRED)
FIRST_ID: Final = UUID(int=0)
LAST_ID: Final = UUID(int=2**128 - 1)


def id_at(unix_s: float) -> UUID:
    """Return the lowest UUIDv7 of an instant, to compare ids with."""
    return UUID(int=min(max(0, int(unix_s * 1000)), 2**48 - 1) << 80)


@dataclass(frozen=True, slots=True)
class Account:
    """One status in the books."""

    settled: int = 0
    pruned: int = 0
    ahead: int = 0


@dataclass(frozen=True, slots=True)
class Books:
    """What the runs so far have counted; the module says how the figures hang together."""

    mark: UUID
    passed: int
    accounts: dict[str, Account]


def take_lock(conn: Connection[Any]) -> None:
    """Wait for the end of another run or of a chunk of pruning; held until the session ends."""
    conn.execute("SELECT pg_advisory_lock(%s)", (AUDIT_LOCK,))


def horizon(conn: Connection[Any]) -> UUID:
    """Return the id up to which nothing can commit any more.

    To be asked before the run's snapshot is taken: a transaction that ends in between is in the snapshot then.
    Raises DatabaseNotReadyError where other roles have sessions whose transactions this one may not see.
    """
    query = """
        SELECT extract(epoch FROM least(now(),
               (SELECT min(xact_start) FROM pg_stat_activity
                 WHERE backend_xid IS NOT NULL AND datname = current_database()),
               (SELECT min(prepared) FROM pg_prepared_xacts WHERE database = current_database())))::float8,
               EXISTS (SELECT FROM pg_stat_activity
                        WHERE datname = current_database() AND usesysid IS NOT NULL
                          AND query = '<insufficient privilege>')
    """
    began_at, is_blind = conn.execute(query).fetchall()[0]
    if is_blind:
        raise DatabaseNotReadyError(
            "since when other roles' transactions are open is hidden from this one: GRANT pg_read_all_stats TO it"
        )
    return id_at(began_at - LATE_S)


def books(conn: Connection[Any]) -> Books:
    """Read the books; where nothing was written yet, the mark stands before the first id."""
    mark = conn.execute("SELECT mark, passed FROM audit_marks").fetchone() or (FIRST_ID, 0)
    accounts = conn.execute("SELECT status, settled, pruned, ahead FROM audit_books").fetchall()
    return Books(mark[0], mark[1], {row[0]: Account(*row[1:]) for row in accounts})


def listed_open(conn: Connection[Any]) -> int:
    """Return how many ids are listed as open."""
    row = conn.execute("SELECT count(*) FROM audit_open").fetchone()
    return int(row[0]) if row else 0


def settle_open(conn: Connection[Any], *, after: UUID, to: UUID, offenders: Sequence[UUID]) -> None:
    """Take off the list what has settled in (after, to] and breaks no rule, and count it."""
    query = """
        WITH ended AS (
            DELETE FROM audit_open o USING notifications n
             WHERE o.notification_id > %(after)s AND o.notification_id <= %(to)s AND n.id = o.notification_id
               AND n.status = ANY(%(settled)s) AND n.id <> ALL(%(offenders)s::uuid[])
            RETURNING n.status
        )
        SELECT status, count(*) FROM ended GROUP BY status
    """
    parameters = {"settled": [*SETTLED], "offenders": list(offenders), "after": after, "to": to}
    _book(conn, conn.execute(query, parameters).fetchall())


def pass_over(conn: Connection[Any], *, mark: UUID, to: UUID, offenders: Sequence[UUID]) -> None:
    """Move the mark from `mark` to `to`: count what has settled between and breaks no rule, list the rest as open."""
    query = """
        WITH seen AS (
            SELECT id, status, status = ANY(%(settled)s) AND id <> ALL(%(offenders)s::uuid[]) AS settled
              FROM notifications WHERE id > %(mark)s AND id <= %(to)s
        ), listed AS (
            INSERT INTO audit_open (notification_id) SELECT id FROM seen WHERE NOT settled ON CONFLICT DO NOTHING
        ), moved AS (
            INSERT INTO audit_marks (mark, passed, moved_at) SELECT %(to)s, count(*), now() FROM seen
            ON CONFLICT (only_one) DO UPDATE
               SET mark = EXCLUDED.mark, passed = audit_marks.passed + EXCLUDED.passed, moved_at = now()
        )
        SELECT status, count(*) FROM seen WHERE settled GROUP BY status
    """
    parameters = {"settled": [*SETTLED], "offenders": list(offenders), "mark": mark, "to": to}
    _book(conn, conn.execute(query, parameters).fetchall())


def _book(conn: Connection[Any], settled: list[tuple[str, int]]) -> None:
    query = """
        INSERT INTO audit_books (status, settled) VALUES (%s, %s)
        ON CONFLICT (status) DO UPDATE SET settled = audit_books.settled + EXCLUDED.settled
    """
    for row in settled:
        conn.execute(query, row)


def begin_anew(conn: Connection[Any]) -> None:
    """Empty the books for a full run; what was pruned stays known, as rows no mark has passed."""
    conn.execute("DELETE FROM audit_open")
    conn.execute("DELETE FROM audit_marks")
    conn.execute("UPDATE audit_books SET ahead = ahead + pruned, pruned = 0, settled = 0")
