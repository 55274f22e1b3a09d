"""Retention: what ended long ago goes with all that belongs to it; what must not go stays; the sums still agree."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from psycopg import IsolationLevel

from outbox_relay.pruner import Pruner
from outbox_relay.verifying import Report, verify
from shared.db import ledger, pruning
from tests.integration import ledger_rows as rows
from tests.integration.ledger_rows import Conn
from tests.servers import Database

DAY = timedelta(days=1)
OLD = 40 * DAY
KEEP_DAYS = 30


def prune(conn: Conn, *, keep_days: int = KEEP_DAYS, limit: int = 1000) -> int:
    """Prune until the walk has come to its end; return how many notifications went."""
    pruner, total = Pruner(keep_days, 86_400, limit=limit), 0
    while True:
        total += pruner.run_once(conn)
        if pruner._after == ledger.FIRST_ID:
            return total


def audit(conn: Conn, **arguments: Any) -> Report:
    """A run of the ledger."""
    try:
        return verify(conn, grace_s=600, **arguments)
    finally:
        conn.isolation_level = IsolationLevel.READ_COMMITTED
        conn.execute("SELECT pg_advisory_unlock_all()")


def left(conn: Conn) -> set[UUID]:
    """The notifications that are still there."""
    return {id_ for (id_,) in conn.execute("SELECT id FROM notifications")}


def counts(conn: Conn) -> list[int]:
    """How many rows notifications has, and each table that names one."""
    tables = (
        "notifications",
        "delivery_attempts",
        "dlq_messages",
        "dlq_actions",
        "outbox_due",
        "outbox_dead",
        "audit_open",
    )
    return [conn.execute(f"SELECT count(*) FROM {table}").fetchall()[0][0] for table in tables]


def test_what_ended_long_ago_goes_with_all_that_belongs_to_it(conn: Conn) -> None:
    """Sent, cancelled, expired, and failed once its dead letter is resolved; attempts, letters and waits with them."""
    rows.sent(conn, age=OLD)
    cancelled = rows.notification(conn, "cancelled", age=OLD)
    rows.insert(conn, "outbox_due", notification_id=cancelled, tenant_id="default", due_at=datetime.now(UTC) + DAY)
    rows.notification(conn, "expired", age=OLD)
    rows.failed(conn, age=OLD, **rows.resolved("discarded", age=OLD))
    rows.letter(conn, None, **rows.resolved("discarded", age=OLD))
    conn.execute("INSERT INTO dlq_actions (dead_letter_id, action, by) SELECT id, 'discarded', 'ada' FROM dlq_messages")
    young = rows.sent(conn)

    assert prune(conn) == 4
    assert left(conn) == {young}
    assert counts(conn) == [1, 1, 0, 0, 0, 0, 0]


def unresolved(conn: Conn) -> UUID:
    return rows.failed(conn, age=OLD)


def untracked(conn: Conn) -> UUID:
    return rows.notification(conn, "failed", age=OLD)


def of_status(status: str, **columns: Any) -> Callable[[Conn], UUID]:
    return lambda conn: rows.notification(conn, status, age=OLD, **columns)


def ended_lately(conn: Conn) -> UUID:
    return rows.notification(conn, "sent", age=OLD, updated_at=datetime.now(UTC) - DAY)


def with_an_open_attempt(conn: Conn) -> UUID:
    id_ = rows.notification(conn, "cancelled", age=OLD)
    rows.attempt(conn, id_, outcome="begun")
    return id_


def with_an_outbox_row(conn: Conn) -> UUID:
    id_ = rows.notification(conn, "cancelled", age=OLD)
    rows.outbox_row(conn, id_)
    return id_


def with_a_letter_that_retries(conn: Conn) -> UUID:
    id_ = rows.sent(conn, age=OLD)
    rows.letter(conn, id_, status="retrying")
    return id_


def held(conn: Conn) -> UUID:
    id_ = rows.notification(conn, "suppressed", age=OLD)
    rows.insert(conn, "outbox_held", notification_id=id_, suppression_id=uuid4())
    return id_


def of_a_bulk_retry_that_counts(conn: Conn) -> UUID:
    id_ = rows.failed(conn, age=OLD, **rows.resolved("discarded", age=OLD))
    retry: dict[str, Any] = {"id": uuid4(), "tenant_id": "default", "status": "running", "reason": "http_503"}
    rows.insert(conn, "dlq_retries", rate_per_s=1.0, canary=0, by="ada", matched=1, retried=1, **retry)
    conn.execute(
        """INSERT INTO dlq_actions (dead_letter_id, action, by, retry_id, attempt)
           SELECT id, 'retried_by_filter', 'ada', %s, 2 FROM dlq_messages""",
        (retry["id"],),
    )
    return id_


def within_the_idempotency_window(conn: Conn) -> UUID:
    row: dict[str, Any] = {"tenant_id": "default", "key": "k", "request_sha256": bytes(32), "response_body": b"{}"}
    at = datetime.now(UTC) - OLD - timedelta(minutes=1)
    rows.insert(conn, "idempotency_keys", response_status=202, created_at=at, **row)
    return rows.sent(conn, age=OLD)


MUST_STAY: dict[str, Callable[[Conn], UUID]] = {
    "pending": of_status("pending"),
    "scheduled": of_status("scheduled", scheduled_for=datetime(2040, 1, 1, tzinfo=UTC)),
    "processing": of_status("processing"),
    "failed, its letter waits for a person": unresolved,
    "failed, its letter is not tracked yet": untracked,
    "sent, but its letter says it is tried again": with_a_letter_that_retries,
    "held for a suppression": held,
    "accepted long ago, ended lately": ended_lately,
    "an attempt is open": with_an_open_attempt,
    "an outbox row is left": with_an_outbox_row,
    "a bulk retry still counts it": of_a_bulk_retry_that_counts,
    "its idempotency key is still stored": within_the_idempotency_window,
}


@pytest.mark.parametrize("plant", MUST_STAY.values(), ids=list(MUST_STAY))
def test_what_must_not_go_stays(conn: Conn, plant: Callable[[Conn], UUID]) -> None:
    """However old it is."""
    id_ = plant(conn)

    assert prune(conn) == 0
    assert left(conn) == {id_}


def test_neither_clock_alone_makes_the_young_look_old(conn: Conn) -> None:
    """A relay whose clock is a year ahead deletes nothing; the server's updated_at is what else must be old."""
    id_ = rows.sent(conn)
    ahead = Pruner(KEEP_DAYS, 86_400, clock=lambda: datetime.now(UTC).timestamp() + 365 * 86_400)

    assert ahead.run_once(conn) == 0
    assert left(conn) == {id_}


def test_zero_keeps_for_ever_and_no_setting_undercuts_the_idempotency_keys(conn: Conn) -> None:
    """RETENTION_DAYS=0 is not "at once"; keys that are kept for two days keep their notifications for two days."""
    id_ = rows.sent(conn, age=1.5 * DAY)

    kept = Pruner(0, 86_400).run_once(conn), Pruner(1, 2 * 86_400).run_once(conn)

    assert (kept, left(conn)) == ((0, 0), {id_})
    assert prune(conn, keep_days=1) == 1


def test_a_walk_goes_chunk_by_chunk_and_rests_at_its_end(conn: Conn) -> None:
    """Each chunk is a transaction of its own."""
    for _ in range(5):
        rows.sent(conn, age=OLD)
    pruner = Pruner(KEEP_DAYS, 86_400, limit=2)

    steps = [pruner.run_once(conn) for _ in range(3)]
    rows.sent(conn, age=OLD)

    assert (steps, pruner.run_once(conn), len(left(conn))) == ([2, 2, 1], 0, 1)


def test_rows_in_use_are_skipped_and_nothing_is_pruned_during_a_run_of_the_ledger(
    conn: Conn, database: Database
) -> None:
    """Pruning waits for nobody, and the ledger sees no row vanish."""
    locked, free = rows.sent(conn, age=OLD), rows.sent(conn, age=OLD)

    with database.connect() as other:
        ledger.take_lock(other)
        during = prune_once(conn)
        other.execute("SELECT pg_advisory_unlock_all()")
        other.execute("SELECT 1 FROM notifications WHERE id = %s FOR UPDATE", (locked,))
        after = prune_once(conn)

    assert (during, after) == (0, 1)
    assert left(conn) == {locked}
    assert free not in left(conn)


def prune_once(conn: Conn) -> int:
    """One chunk."""
    before = ledger.id_at((datetime.now(UTC) - 30 * DAY).timestamp())
    return pruning.prune(conn, after=ledger.FIRST_ID, before=before, older_than_s=30 * 86_400.0, limit=10).rows


@pytest.mark.parametrize("audited_before", [True, False], ids=["behind the mark", "ahead of the mark"])
def test_what_was_pruned_stays_counted(conn: Conn, audited_before: bool) -> None:
    """accepted = ended + live + pruned, whether or not the ledger had seen it before it went; in the full run too."""
    rows.sent(conn, age=OLD)
    rows.failed(conn, age=OLD, **rows.resolved("discarded", age=OLD))
    rows.notification(conn, "cancelled", age=OLD)
    rows.failed(conn, age=OLD)
    if audited_before:
        audit(conn)
    went = prune(conn)

    reports = [audit(conn), audit(conn), audit(conn, full=True), audit(conn)]

    assert went == 3
    for report in reports:
        assert (report.accepted, report.gone, report.late) == (4, 0, 0)
        assert +report.pruned == {"sent": 1, "failed": 1, "cancelled": 1}
        assert (+report.ended, +report.live) == ({"failed": 1}, {})
        assert report.clean
