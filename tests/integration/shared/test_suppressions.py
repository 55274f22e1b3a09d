"""Recipients nothing is sent to: added, found, listed, lifted; what was held goes on."""

from collections.abc import Callable
from uuid import UUID, uuid4

import pytest

from shared.db import accepting, attempts, dlq_messages, notifications, suppressions
from shared.db.accepting import NewNotification
from shared.db.notifications import Ticket
from shared.db.suppressions import Filter, Suppression
from shared.endpoints import endpoint_name
from shared.model import Channel, Outcome
from tests.integration.shared.conftest import Conn
from tests.integration.shared.steps import LEASE_S, OWNER, begin, end, fail_and_track, rows, status_of, tracked

New = Callable[..., NewNotification]


def suppress(conn: Conn, recipient: str = "a@example.org", **fields: str) -> Suppression:
    """Suppress an address by hand."""
    values = {"tenant_id": "default", "by": "ann", "detail": "asked us to"} | fields
    return suppressions.add(conn, channel=Channel.EMAIL, recipient=recipient, **values)


def test_adding_again_changes_nothing_and_adding_a_lifted_one_makes_it_active(conn: Conn) -> None:
    """One row per tenant, channel and recipient, under one id."""
    first = suppress(conn)
    again = suppress(conn, by="bob")
    lifted = suppressions.lift(conn, first.id, tenant_id="default", by="cleo")
    anew = suppress(conn, by="bob")

    assert again == first
    assert (first.reason, first.created_by, first.active) == ("manual", "ann", True)
    assert lifted is not None
    assert (lifted.lifted_by, lifted.active) == ("cleo", False)
    assert (anew.id, anew.created_by, anew.active, anew.lifted_by) == (first.id, "bob", True, None)
    assert anew.created_at > first.created_at


def test_lifting_again_keeps_who_did_it_first(conn: Conn) -> None:
    """And another tenant's is out of reach."""
    one = suppress(conn)
    first = suppressions.lift(conn, one.id, tenant_id="default", by="ann")

    assert suppressions.lift(conn, one.id, tenant_id="default", by="bob") == first
    assert suppressions.lift(conn, one.id, tenant_id="another", by="bob") is None
    assert suppressions.lift(conn, uuid4(), tenant_id="default", by="bob") is None
    assert suppressions.find(conn, one.id, tenant_id="default") == first
    assert suppressions.find(conn, one.id, tenant_id="another") is None


def test_pages_follow_one_another_newest_first(conn: Conn) -> None:
    """Each row once, whatever the filter."""
    made = [suppress(conn, f"{n}@example.org") for n in range(5)]
    suppress(conn, tenant_id="another")
    suppressions.lift(conn, made[2].id, tenant_id="default", by="ann")

    seen: list[UUID] = []
    where = Filter("default")
    while page := suppressions.list_page(conn, where, limit=2):
        seen += [one.id for one in page]
        where = Filter("default", before=(page[-1].created_at, page[-1].id))

    assert seen == [one.id for one in reversed(made)]
    assert [one.id for one in suppressions.list_page(conn, Filter("default", active=False), limit=9)] == [made[2].id]
    assert len(suppressions.list_page(conn, Filter("default", recipient="1@example.org"), limit=9)) == 1
    assert suppressions.list_page(conn, Filter("default", channel=Channel.WEBHOOK), limit=9) == []


@pytest.mark.parametrize("lifted", [True, False])
def test_held_ones_go_on_once_the_suppression_is_lifted(conn: Conn, new: New, lifted: bool) -> None:
    """In the order accepted, a bounded number at a time, each with its outbox row; not before."""
    batch = [new() for _ in range(3)]
    accepting.insert_many(conn, batch)
    one = suppress(conn)
    conn.execute("DELETE FROM outbox")
    conn.execute("UPDATE notifications SET status = 'suppressed'")
    conn.execute("INSERT INTO outbox_held SELECT id, %s FROM notifications", (one.id,))
    if lifted:
        suppressions.lift(conn, one.id, tenant_id="default", by="ann")

    counts = [suppressions.resume_held(conn, limit=2) for _ in range(3)]

    assert counts == ([2, 1, 0] if lifted else [0, 0, 0])
    published = [id_ for (id_,) in conn.execute("SELECT notification_id FROM outbox ORDER BY seq").fetchall()]
    assert published == ([one.id for one in batch] if lifted else [])
    assert suppressions.held_count(conn, one.id, at_most=2) == (0 if lifted else 2)


def test_what_was_cancelled_since_is_not_counted_as_held(conn: Conn, new: New) -> None:
    """The count is of what goes on once the suppression is lifted."""
    batch = [new() for _ in range(3)]
    accepting.insert_many(conn, batch)
    one = suppress(conn)
    conn.execute("UPDATE notifications SET status = 'suppressed'")
    conn.execute("INSERT INTO outbox_held SELECT id, %s FROM notifications", (one.id,))

    assert notifications.cancel(conn, batch[1].id, tenant_id="default")

    assert suppressions.held_count(conn, one.id, at_most=9) == 2
    assert suppressions.held_count(conn, one.id, at_most=1) == 1


def ask(conn: Conn, one: NewNotification, attempt: int = 1) -> list[str]:
    """Claim one; return what became of it."""
    told = notifications.claim(conn, [Ticket(one.id, attempt)], owner=OWNER, lease_s=LEASE_S)
    return [claimed.state for claimed in told]


def letter_of(conn: Conn, id_: UUID) -> tuple[str, str | None]:
    """Where a dead letter stands."""
    letter = dlq_messages.find(conn, id_, tenant_id="default")
    assert letter is not None
    return letter.status, letter.resolution


def test_the_claim_holds_back_what_goes_to_a_suppressed_recipient(conn: Conn, new: New) -> None:
    """No attempt begins; tenant, channel and recipient must all be the same, and it must not be lifted."""
    suppressed, free = new(), new(recipient="b@example.org")
    accepting.insert_many(conn, [suppressed, free])
    one = suppress(conn)
    suppress(conn, "b@example.org", tenant_id="another")
    suppressions.add(conn, tenant_id="default", channel=Channel.WEBHOOK, recipient="b@example.org", by="ann")

    assert (ask(conn, suppressed), ask(conn, free)) == (["suppressed"], ["claimed"])

    assert status_of(conn, suppressed.id) == "suppressed"
    assert rows(conn, "SELECT notification_id, suppression_id FROM outbox_held") == [(suppressed.id, one.id)]
    assert attempts.history(conn, suppressed.id) == []
    assert ask(conn, suppressed) == []


def test_what_goes_on_after_a_lift_is_claimed_as_the_same_attempt(conn: Conn, new: New) -> None:
    """Held, lifted, resumed, sent; a recipient suppressed again holds it again."""
    held = new()
    accepting.insert(conn, held)
    one = suppress(conn)
    for _ in range(2):
        suppress(conn)
        assert ask(conn, held) == ["suppressed"]
        suppressions.lift(conn, one.id, tenant_id="default", by="ann")
        assert suppressions.resume_held(conn, limit=9) == 1

    assert ask(conn, held) == ["claimed"]
    assert rows(conn, "SELECT value, headers FROM outbox ORDER BY seq DESC LIMIT 1") == [(held.record, held.headers)]


@pytest.mark.parametrize(("outcome", "resolution"), [(Outcome.ACCEPTED, "sent"), (Outcome.TRANSIENT, None)])
def test_a_suppressed_retry_resolves_its_dead_letter_and_a_lift_reopens_it(
    conn: Conn, new: New, outcome: Outcome, resolution: str | None
) -> None:
    """Held it is no failure that waits; afterwards the retry ends as any other does."""
    one = new()
    letter = fail_and_track(conn, one)
    suppression = suppress(conn)
    notifications.requeue_due(conn, limit=9)
    assert ask(conn, one, 2) == ["suppressed"]
    assert letter_of(conn, letter) == ("resolved", "suppressed")

    suppressions.lift(conn, suppression.id, tenant_id="default", by="ann")
    suppressions.resume_held(conn, limit=9)
    assert letter_of(conn, letter) == ("retrying", None)
    assert ask(conn, one, 2) == ["claimed"]
    end(conn, Ticket(one.id, 2), outcome)
    if resolution is None:
        dlq_messages.track(conn, [tracked(one, attempt=2)])

    assert letter_of(conn, letter) == ("failed" if resolution is None else "resolved", resolution)


def test_a_replay_to_a_suppressed_recipient_ends_suppressed_too(conn: Conn, new: New) -> None:
    """A person's word for one message does not lift the suppression."""
    one = new()
    letter = fail_and_track(conn, one, retry_in_s=None)
    suppress(conn)

    assert notifications.replay(conn, letter, tenant_id="default")

    assert ask(conn, one, 2) == ["suppressed"]


@pytest.mark.parametrize("retry", [False, True])
def test_what_is_held_can_be_cancelled(conn: Conn, new: New, retry: bool) -> None:
    """It had no attempt to come but for a lift; after the cancel a lift brings none."""
    one, letter = new(), None
    suppression = suppress(conn)
    if retry:
        letter = fail_and_track_unsuppressed(conn, one)
    else:
        accepting.insert(conn, one)
    assert ask(conn, one, 2 if retry else 1) == ["suppressed"]

    assert notifications.cancel(conn, one.id, tenant_id="default")

    conn.execute("DELETE FROM outbox")
    suppressions.lift(conn, suppression.id, tenant_id="default", by="ann")
    assert suppressions.resume_held(conn, limit=9) == 1
    assert suppressions.resume_held(conn, limit=9) == 0
    assert status_of(conn, one.id) == "cancelled"
    assert rows(conn, "SELECT count(*) FROM outbox") == [(0,)]
    if letter is not None:
        assert letter_of(conn, letter) == ("resolved", "cancelled")


def fail_and_track_unsuppressed(conn: Conn, one: NewNotification) -> UUID:
    """Fail one before its recipient counts as suppressed, and requeue it."""
    conn.execute("UPDATE suppressions SET lifted_at = now(), lifted_by = 'x'")
    letter = fail_and_track(conn, one)
    notifications.requeue_due(conn, limit=9)
    conn.execute("UPDATE suppressions SET lifted_at = NULL, lifted_by = NULL")
    return letter


def test_a_failure_that_says_gone_suppresses_in_the_same_statement(conn: Conn, new: New) -> None:
    """Several at once make one row; a lifted one is active again; the others of the batch are not touched."""
    batch = [new(), new(), new(recipient="b@example.org"), new(recipient="c@example.org")]
    tickets = [begin(conn, one) for one in batch]
    lifted = suppress(conn, "b@example.org")
    suppressions.lift(conn, lifted.id, tenant_id="default", by="ann")

    for ticket, word in zip(tickets, ("gone", "gone", "address_refused", None), strict=True):
        end(conn, ticket, Outcome.PERMANENT, reason="http_410", suppress=word)

    found = {one.recipient: one for one in suppressions.list_page(conn, Filter("default", active=True), limit=9)}
    assert set(found) == {"a@example.org", "b@example.org"}
    first, second = found["a@example.org"], found["b@example.org"]
    assert (first.reason, first.detail, first.notification_id) == ("gone", "http_410", batch[0].id)
    assert (second.id, second.reason, second.created_by) == (lifted.id, "address_refused", "delivery_consumer")
    assert [status_of(conn, one.id) for one in batch] == ["failed"] * 4
    assert rows(conn, "SELECT count(*) FROM outbox") == [(4,)]


def test_an_outcome_that_comes_too_late_suppresses_nothing(conn: Conn, new: New) -> None:
    """Only the owner of an open attempt writes back, this too."""
    one = new()
    ticket = begin(conn, one, owner=uuid4())

    end(conn, ticket, Outcome.PERMANENT, suppress="gone")

    assert suppressions.list_page(conn, Filter("default"), limit=9) == []


def test_of_endpoints_only_those_deleted_some_time_ago_are_lifted(conn: Conn) -> None:
    """Whoever suppressed them, and when; one that lives, another tenant's, and a URL are left alone."""
    ids = [uuid4() for _ in range(4)]
    for id_, age_s in zip(ids, (30, 10, None, 30), strict=True):
        conn.execute(
            "INSERT INTO endpoints (id, tenant_id, url, deleted_at)"
            " VALUES (%s, 'default', 'http://h', now() - %s * interval '1 s')",
            (id_, age_s),
        )
    names = [endpoint_name(id_) for id_ in ids]
    for name in [*names[:3], "https://example.org/h", "ep_?"]:
        suppressions.add(conn, tenant_id="default", channel=Channel.WEBHOOK, recipient=name, by="ann")
    suppressions.add(conn, tenant_id="another", channel=Channel.WEBHOOK, recipient=names[3], by="ann")

    assert [suppressions.lift_deleted(conn, limit=9) for _ in range(2)] == [1, 0]

    lifted = rows(conn, "SELECT recipient, lifted_by FROM suppressions WHERE lifted_at IS NOT NULL")
    assert lifted == [(names[0], "outbox_relay")]


def test_looking_for_what_may_go_on_reads_nothing_that_is_held(conn: Conn) -> None:
    """However many were lifted once, and however much waits for one that is active."""
    active = UUID(int=1)
    conn.execute(
        """
        INSERT INTO suppressions (id, tenant_id, channel, recipient, reason, created_by, lifted_at, lifted_by)
        SELECT CASE n WHEN 0 THEN %s ELSE gen_random_uuid() END, 'default', 'email', 'r' || n, 'manual', 'ann',
               CASE WHEN n > 0 THEN now() END, CASE WHEN n > 0 THEN 'ann' END FROM generate_series(0, 20) n
        """,
        (active,),
    )
    conn.execute("INSERT INTO outbox_held SELECT gen_random_uuid(), %s FROM generate_series(1, 5000)", (active,))
    conn.execute("ANALYZE suppressions, outbox_held")
    read = "SELECT seq_tup_read + idx_tup_fetch FROM pg_stat_xact_user_tables WHERE relname = 'outbox_held'"

    with conn.transaction():
        before = rows(conn, read)[0][0]
        assert suppressions.resume_held(conn, limit=500) == 0
        after = rows(conn, read)[0][0]

    assert after - before < 500
