"""The ledger: each rule names what breaks it, the sums agree whatever moves, and the mark follows."""

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

import orjson
import pytest
from psycopg import IsolationLevel

from outbox_relay.verifying import Report, verify
from shared import db
from shared.db import DatabaseNotReadyError, accepting, dlq_messages, ledger, ledger_rules, notifications, outbox
from shared.db.notifications import Ended, Ticket
from shared.model import Outcome
from tests.integration import ledger_rows as rows
from tests.integration.ledger_rows import HOUR, Conn
from tests.integration.notifications import TOPICS, new_notification
from tests.servers import Database

GRACE_S = 600.0
Plant = Callable[[Conn], UUID]


def run(conn: Conn, **arguments: Any) -> Report:
    """One run of the ledger, on a connection that goes on as before."""
    try:
        return verify(conn, grace_s=GRACE_S, **arguments)
    finally:
        conn.isolation_level = IsolationLevel.READ_COMMITTED
        conn.execute("SELECT pg_advisory_unlock_all()")


def ago(seconds: float) -> datetime:
    """That long ago."""
    return datetime.now(UTC) - timedelta(seconds=seconds)


def planted(status: str, then: Callable[[Conn, UUID], object] | None = None, **columns: Any) -> Plant:
    """A notification of a status, and what is done to it next."""

    def plant(conn: Conn) -> UUID:
        id_ = rows.notification(conn, status, **columns)
        if then:
            then(conn, id_)
        return id_

    return plant


def both(*steps: Callable[[Conn, UUID], object]) -> Callable[[Conn, UUID], object]:
    """Several steps as one."""
    return lambda conn, id_: [step(conn, id_) for step in steps]


def due(seconds: float) -> Callable[[Conn, UUID], object]:
    """Waits to come due that long ago."""
    return lambda conn, id_: rows.insert(
        conn, "outbox_due", notification_id=id_, tenant_id="default", due_at=ago(seconds)
    )


def tried(*outcomes: str, **columns: Any) -> Callable[[Conn, UUID], object]:
    """Attempts 1, 2, … with these outcomes."""

    def act(conn: Conn, id_: UUID) -> None:
        for number, outcome in enumerate(outcomes, 1):
            rows.attempt(conn, id_, number, outcome, **columns)

    return act


def lettered(**columns: Any) -> Callable[[Conn, UUID], object]:
    """With a dead letter."""
    return lambda conn, id_: rows.letter(conn, id_, **columns)


def held(*, lifted_at: datetime | None = None, unknown: bool = False) -> Callable[[Conn, UUID], object]:
    """Held for a suppression."""

    def act(conn: Conn, id_: UUID) -> None:
        suppression = uuid4()
        if not unknown:
            by = {"created_by": "test", "lifted_at": lifted_at, "lifted_by": "test" if lifted_at else None}
            row = {"id": suppression, "tenant_id": "default", "channel": "email", "reason": "manual"}
            rows.insert(conn, "suppressions", recipient=str(id_), **row, **by)
        rows.insert(conn, "outbox_held", notification_id=id_, suppression_id=suppression)

    return act


def placed(conn: Conn, id_: UUID) -> None:
    """Has a place in the queue of its key."""
    rows.insert(conn, "ordering_queue", notification_id=id_, tenant_id="default", ordering_key="k")


def displaced(conn: Conn, _id: UUID) -> None:
    """Has lost its place in the queue of its key."""
    conn.execute("DELETE FROM ordering_queue")


def with_turn(conn: Conn, id_: UUID) -> None:
    """Has the turn of its key."""
    rows.insert(conn, "ordering_turns", notification_id=id_, tenant_id="default", ordering_key="k")


def orphan(table: str) -> Plant:
    """A row of another table whose notification does not exist."""
    plants: dict[str, Callable[[Conn, UUID], object]] = {
        "outbox": rows.outbox_row,
        "outbox_due": due(0),
        "delivery_attempts": rows.attempt,
        "dlq_messages": rows.letter,
        "outbox_held": held(),
        "ordering_queue": placed,
    }

    def plant(conn: Conn) -> UUID:
        id_ = rows.aged_id(HOUR)
        plants[table](conn, id_)
        return id_

    return plant


def answered(path: str | None, body: Callable[[str], Any]) -> Plant:
    """A stored answer that promises a notification which does not exist."""

    def plant(conn: Conn) -> UUID:
        id_ = rows.aged_id(timedelta(seconds=5))
        statement = """
            INSERT INTO idempotency_keys (tenant_id, key, request_sha256, response_status, response_body, response_path)
            VALUES ('default', %s, %s, 202, %s, %s)
        """
        conn.execute(statement, (str(uuid4()), bytes(32), orjson.dumps(body(str(id_))), path))
        return id_

    return plant


SCHEDULED: dict[str, Any] = {"scheduled_for": datetime(2020, 1, 1, tzinfo=UTC)}
OFFENCES: list[tuple[str, Plant]] = [
    ("pending_without_record", planted("pending")),
    ("scheduled_without_due", planted("scheduled", **SCHEDULED)),
    ("due_overdue", planted("scheduled", due(GRACE_S + 5), **SCHEDULED)),
    ("due_overdue", planted("pending", due(GRACE_S + 5))),
    ("processing_without_lease", planted("processing", tried("transient"))),
    ("lease_over", planted("processing", tried("begun", lease_until=ago(GRACE_S + 5)))),
    ("attempt_left_open", planted("sent", both(tried("begun", "accepted")), attempt=2)),
    ("sent_without_receipt", planted("sent", tried("transient"))),
    ("sent_without_receipt", planted("sent", tried("accepted", receipt=None))),
    ("accepted_not_sent", planted("failed", both(tried("accepted"), lettered()))),
    ("failed_without_letter", planted("failed", tried("transient"))),
    ("failed_without_letter", planted("failed", both(tried("transient", "transient"), lettered()), attempt=2)),
    ("letter_overdue", planted("failed", both(tried("transient"), lettered(retry_at=ago(GRACE_S + 5))))),
    ("letter_without_failure", planted("sent", both(tried("accepted"), lettered()))),
    (
        "letter_retrying_without_run",
        planted("sent", both(tried("transient", "accepted"), lettered(status="retrying")), attempt=2),
    ),
    ("letter_retrying_without_run", planted("failed", both(tried("transient"), lettered(status="retrying")))),
    ("letter_resolved_otherwise", planted("failed", both(tried("transient"), lettered(**rows.resolved("sent"))))),
    ("letter_resolved_otherwise", planted("sent", both(tried("accepted"), lettered(**rows.resolved("cancelled"))))),
    ("ended_with_attempt", planted("cancelled", tried("transient", began_at=ago(60)))),
    ("ended_with_attempt", planted("suppressed", tried("begun"))),
    ("attempt_above", planted("sent", tried("accepted", "transient"))),
    ("attempt_early", planted("sent", tried("accepted"), scheduled_for=ago(60))),
    ("attempt_late", planted("sent", tried("accepted"), expires_at=ago(7200))),
    ("attempt_gap", planted("failed", both(tried("transient"), lettered(attempt=3)), attempt=3)),
    ("ordered_without_place", planted("pending", displaced, ordering_key="k")),
    ("place_kept", planted("sent", both(tried("accepted"), placed), ordering_key="k")),
    ("turn_kept", planted("sent", both(tried("accepted"), with_turn), ordering_key="k")),
    ("suppressed_without_hold", planted("suppressed")),
    ("held_without_suppression", planted("suppressed", held(unknown=True))),
    ("held_overdue", planted("suppressed", held(lifted_at=ago(GRACE_S + 5)))),
    ("orphan_in_outbox", orphan("outbox")),
    ("orphan_in_outbox_due", orphan("outbox_due")),
    ("orphan_in_delivery_attempts", orphan("delivery_attempts")),
    ("orphan_in_dlq_messages", orphan("dlq_messages")),
    ("orphan_in_outbox_held", orphan("outbox_held")),
    ("orphan_in_ordering_queue", orphan("ordering_queue")),
    ("answer_without_notification", answered("/api/v1/notifications/1", lambda id_: {"id": id_})),
    ("answer_without_notification", answered(None, lambda id_: {"notifications": [{"id": id_}]})),
    ("answer_without_notification", answered(None, lambda id_: {"results": [{"index": 0, "id": id_}]})),
]


@pytest.mark.parametrize(("rule", "plant"), OFFENCES, ids=[f"{n}-{name}" for n, (name, _) in enumerate(OFFENCES)])
def test_each_rule_names_what_breaks_it(conn: Conn, rule: str, plant: Plant) -> None:
    """By id, with the missing cause; in the next run too, since it was not mended; and in the full one."""
    rows.sent(conn)
    id_ = plant(conn)

    reports = [run(conn, full=True), run(conn), run(conn, between=(ledger.FIRST_ID, ledger.LAST_ID))]

    beyond_the_mark_only = rule.startswith("orphan_in_") and rule != "orphan_in_outbox"
    for report in reports[::2] if beyond_the_mark_only else reports:
        named = [found for found in report.offenders if found.rule == rule]
        assert [found.id for found in named] == [str(id_)]
        assert named[0].missing
        assert report.broken[rule] == 1
        assert not report.clean


def test_every_rule_has_a_test() -> None:
    """A rule nobody saw bite is not a rule; `gone` and the books have tests of their own below."""
    asked = {rule.name for rule in ledger_rules.RULES} | {asked.name for asked in ledger_rules._QUESTIONS}

    assert asked - {name for name, _ in OFFENCES} == {"gone"}


def test_what_runs_as_it_should_is_clean(conn: Conn) -> None:
    """Young or old, in each state, with each cause; the sums agree and the live are split by cause."""
    rows.sent(conn)
    rows.failed(conn)
    rows.failed(conn, retry_at=ago(-60))
    rows.failed(conn, **rows.resolved("discarded"))
    rows.accepted(conn)
    rows.accepted(conn, scheduled_for=ago(-60))
    rows.accepted(conn, ordering_key="k")
    waiting = rows.notification(conn, "pending", ordering_key="k")
    conn.execute("DELETE FROM outbox WHERE notification_id = %s", (waiting,))
    in_kafka, under_way = rows.accepted(conn), rows.accepted(conn)
    conn.execute("DELETE FROM outbox WHERE notification_id = ANY(%s)", ([in_kafka, under_way],))
    notifications.claim(conn, [Ticket(under_way, 1)], owner=uuid4(), lease_s=10)
    due(-60)(conn, rows.notification(conn, "pending"))
    rows.notification(conn, "cancelled")
    held()(conn, rows.notification(conn, "suppressed"))
    held(lifted_at=ago(1))(conn, rows.notification(conn, "suppressed"))
    old = rows.notification(conn, "failed")
    rows.attempt(conn, old, outcome="transient")
    rows.outbox_row(conn, old, **{"error-class": "transient"})

    reports = [run(conn), run(conn), run(conn, full=True), run(conn, between=(ledger.FIRST_ID, ledger.LAST_ID))]

    for report in reports:
        assert report.offenders == []
        assert report.accepted == 15
        assert report.ended == {"sent": 1, "failed": 2, "cancelled": 1}
        assert report.live == {
            "queue": 1,
            "retry_at": 1,
            "outbox": 2,
            "due": 2,
            "kafka": 1,
            "lease": 1,
            "letter": 1,
            "held": 2,
        }


def test_what_waited_for_its_turn_is_as_old_as_its_turn(conn: Conn) -> None:
    """Each of a long queue is in Kafka for a moment, long after it was accepted; the grace runs from that moment."""
    queue = [rows.notification(conn, "pending", ordering_key="k") for _ in range(4)]
    conn.execute("UPDATE ordering_queue SET passed = true WHERE notification_id = %s", (queue[2],))
    end = "UPDATE notifications SET status = 'cancelled', updated_at = now() WHERE id = %s"
    from_the_beginning = run(conn)
    conn.execute(end, (queue[0],))
    unread = run(conn)
    conn.execute(end, (queue[3],))  # from behind: it changes nobody's turn
    conn.execute("UPDATE ordering_queue SET first_since = first_since - interval '1 hour'")
    stuck = run(conn)
    conn.execute(end, (queue[1],))
    conn.execute("DELETE FROM outbox")
    published_again = run(conn)

    assert [offender.id for offender in from_the_beginning.offenders] == [str(queue[0])]
    assert (unread.offenders, unread.live) == ([], {"kafka": 1, "queue": 2})
    assert [offender.id for offender in stuck.offenders] == [str(queue[1])]
    assert (published_again.offenders, published_again.live) == ([], {"kafka": 1})


def test_a_row_kafka_refused_leaves_no_gap(conn: Conn) -> None:
    """It failed without an attempt, and its replay is the next one."""
    id_ = rows.accepted(conn)
    seq = conn.execute("SELECT seq FROM outbox").fetchall()[0][0]
    outbox.refuse(conn, [outbox.Refused(seq, "MSG_SIZE_TOO_LARGE")])
    letter_id = dlq_messages.find_id(conn, id_)
    assert letter_id
    assert notifications.replay(conn, letter_id, tenant_id="default")
    conn.execute("DELETE FROM outbox")
    owner = uuid4()
    notifications.claim(conn, [Ticket(id_, 2)], owner=owner, lease_s=10)
    ended = Ended(id_, 2, Outcome.ACCEPTED, "accepted", receipt="250 ok")
    notifications.write_back(conn, [ended], owner=owner, dlq_topic=TOPICS.dlq)

    assert run(conn).offenders == []


def mark_of(conn: Conn) -> UUID:
    """Where the mark stands."""
    return ledger.books(conn).mark


def test_the_mark_follows_and_replays_behind_it_keep_the_sums(conn: Conn) -> None:
    """What failed may be replayed and sent long after the mark passed it: counted once, in the state it is in."""
    rows.sent(conn)
    id_ = rows.failed(conn)
    first = run(conn)
    passed = mark_of(conn)
    letter_id = dlq_messages.find_id(conn, id_)
    assert letter_id
    notifications.replay(conn, letter_id, tenant_id="default")
    replayed = run(conn)
    conn.execute("DELETE FROM outbox")
    owner = uuid4()
    notifications.claim(conn, [Ticket(id_, 2)], owner=owner, lease_s=10)
    ended = Ended(id_, 2, Outcome.ACCEPTED, "accepted", receipt="250 ok")
    notifications.write_back(conn, [ended], owner=owner, dlq_topic=TOPICS.dlq)
    last = run(conn)

    assert passed > id_
    assert mark_of(conn) >= passed
    assert [report.accepted for report in (first, replayed, last)] == [2, 2, 2]
    assert (first.ended, replayed.live, last.ended) == ({"sent": 1, "failed": 1}, {"outbox": 1}, {"sent": 2})
    assert ledger.listed_open(conn) == 0
    assert all(report.clean for report in (first, replayed, last))


def test_a_run_reads_nothing_settled_behind_the_mark(conn: Conn) -> None:
    """That is what makes it cheap: it takes the books' word for what it verified once."""
    id_ = rows.sent(conn)
    run(conn)
    conn.execute("DELETE FROM delivery_attempts WHERE notification_id = %s", (id_,))

    assert run(conn).clean
    assert run(conn, full=True).broken == {"sent_without_receipt": 1, "attempt_gap": 1}


def test_a_row_that_vanishes_is_missed(conn: Conn) -> None:
    """One that was open by the next run, a settled one by the full run; the sums show it until it is accepted."""
    open_, settled = rows.failed(conn), rows.sent(conn)
    run(conn)
    for id_ in (open_, settled):
        for table in ("delivery_attempts", "dlq_messages"):
            conn.execute(f"DELETE FROM {table} WHERE notification_id = %s", (id_,))
    conn.execute("DELETE FROM notifications")

    quick, again, full = run(conn), run(conn), run(conn, full=True)
    rebooked = (run(conn, full=True, rebook=True).gone, run(conn).accepted, run(conn).clean)

    assert [report.broken for report in (quick, again, full)] == [{"gone": 1}, {"gone": 1}, {"books": 1}]
    assert [(report.accepted, report.gone) for report in (quick, full)] == [(2, 1), (2, 2)]
    assert quick.offenders[0].id == str(open_)
    assert rebooked == (2, 0, True)


def test_books_that_do_not_balance_are_an_offence(conn: Conn) -> None:
    """As where somebody wrote into them."""
    rows.sent(conn)
    run(conn)
    conn.execute("UPDATE audit_marks SET passed = passed + 1")

    assert run(conn).broken == {"books": 1}


def test_what_came_in_behind_the_mark_is_found_by_the_full_run(conn: Conn) -> None:
    """An id of a clock that was an hour slow: late, no offence, and in the books from then on."""
    rows.sent(conn)
    run(conn)
    rows.sent(conn)

    quick, full, after = run(conn), run(conn, full=True), run(conn)

    assert [(report.accepted, report.late, report.clean) for report in (quick, full, after)] == [
        (1, 0, True),
        (2, 1, True),
        (2, 0, True),
    ]


def test_the_mark_waits_for_the_oldest_open_transaction(conn: Conn, database: Any) -> None:
    """What it wrote may have ids from before."""
    with database.connect() as writer:
        writer.execute("SELECT pg_current_xact_id()")
        conn.execute("SELECT pg_sleep(0.2)")
        began = writer.execute("SELECT extract(epoch FROM now())").fetchall()[0][0]

        assert ledger.horizon(conn) == ledger.id_at(float(began) - ledger.LATE_S)
    assert ledger.horizon(conn) > ledger.id_at(float(began) - ledger.LATE_S)


def test_a_role_that_may_not_see_other_sessions_is_told_so(conn: Conn, database: Database) -> None:
    """It would take what is about to commit for lost; the relay's role, which verifies, may see them."""
    conn.execute("SELECT 1")
    with (
        db.connect(database.dsn_of("outbox_relay"), application_name="test") as relay,
        db.connect(database.dsn_of("dlq_consumer"), application_name="test") as other,
    ):
        assert ledger.horizon(relay)
        with pytest.raises(DatabaseNotReadyError, match="pg_read_all_stats"):
            ledger.horizon(other)


def test_a_walk_of_many_chunks_sees_each_row_once(conn: Conn, monkeypatch: pytest.MonkeyPatch) -> None:
    """Beyond the mark, listed as open, and in a stretch."""
    monkeypatch.setattr(ledger_rules, "CHUNK", 2)
    for _ in range(3):
        rows.sent(conn)
        rows.failed(conn)
        accepting.insert(conn, new_notification())

    reports = [run(conn), run(conn), run(conn, full=True), run(conn)]

    assert [report.accepted for report in reports] == [9] * 4
    assert all(report.clean and report.ended == {"sent": 3, "failed": 3} for report in reports)


def test_a_stretch_is_verified_alone_and_moves_no_mark(conn: Conn) -> None:
    """--since and --until: by the instant inside the id."""
    rows.notification(conn, "pending", age=3 * HOUR)
    rows.sent(conn)
    stretch = (ledger.id_at(ago(7200).timestamp()), ledger.LAST_ID)

    report = run(conn, between=stretch)

    assert (report.accepted, report.clean, report.scope) == (1, True, "stretch")
    assert mark_of(conn) == ledger.FIRST_ID
