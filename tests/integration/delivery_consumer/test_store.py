"""What the consumer asks of PostgreSQL, on a real one."""

import asyncio
import time
from collections.abc import Iterator
from uuid import UUID, uuid4

import pytest
from psycopg import Connection
from psycopg.rows import TupleRow

from delivery_consumer import store as store_module
from delivery_consumer.store import PostgresStore
from shared.db.notifications import Ended, Ticket
from shared.model import Outcome
from tests.integration.delivery_consumer.parts import Desk


@pytest.fixture
def store(desk: Desk) -> Iterator[PostgresStore]:
    """A store on this test's database."""
    made = PostgresStore(
        desk.database.dsn_of("delivery_consumer"), owner=uuid4(), lease_s=30, dlq_topic=desk.topics.names.dlq
    )
    yield made
    asyncio.run(made.aclose())


@pytest.mark.parametrize(
    ("said", "stored"),
    [
        ("gr\udcfcn", "gr?n"),
        (r"C:\u0000spool", r"C:\u0000spool"),
        ("a\0b", "a\N{REPLACEMENT CHARACTER}b"),
        ("grün \U0001f600 \"'", "grün \U0001f600 \"'"),
    ],
)
async def test_the_words_of_the_other_side_are_stored_whatever_they_are(
    desk: Desk, store: PostgresStore, said: str, stored: str
) -> None:
    """Lone surrogates and NULs are replaced, everything else is kept to the letter."""
    (one,) = desk.accept(["https://a.example/"], publish=False)
    await store.claim([Ticket(one.id, 1)])
    ended = Ended(one.id, 1, Outcome.ACCEPTED, said, detail=said, receipt=said, destination=said)

    assert await store.write_back([ended]) == 1

    query = "SELECT reason, detail, receipt, destination FROM delivery_attempts"
    assert desk.conn.execute(query).fetchall() == [(stored,) * 4]


def hold(desk: Desk, id_: UUID) -> Connection[TupleRow]:
    """Lock a notification's row in a transaction of its own."""
    holder = desk.database.connect()
    holder.execute("SELECT FROM notifications WHERE id = %s FOR UPDATE", (id_,))
    return holder


async def test_a_claim_waits_for_no_row_that_somebody_holds(desk: Desk, store: PostgresStore) -> None:
    """I7: it is told as busy and stays pending; the others are claimed; afterwards it is claimed too."""
    held, free, cancelled = desk.accept(["https://a.example/"] * 3, publish=False)
    desk.conn.execute("UPDATE notifications SET status = 'cancelled' WHERE id = %s", (cancelled.id,))
    holder = hold(desk, held.id)
    tickets = [Ticket(one.id, 1) for one in (held, held, free, cancelled)]

    first = await store.claim(tickets)
    holder.rollback()
    holder.close()
    second = await store.claim(tickets)

    assert {(row.id, row.state) for row in first.claimed} == {(held.id, "busy"), (free.id, "claimed")}
    assert [(row.id, row.state) for row in second.claimed] == [(held.id, "claimed")]
    assert not first.repeated


async def test_a_write_back_waits_for_a_row_on_the_same_connection(desk: Desk, store: PostgresStore) -> None:
    """A lock that lasts is asked for again and again; leases are renewed in between."""
    (one,) = desk.accept(["https://a.example/"], publish=False)
    ticket = Ticket(one.id, 1)
    await store.claim([ticket])
    await store.renew([ticket])
    ours = "datname = current_database() AND application_name LIKE 'delivery_c%'"
    sessions = f"SELECT array_agg(pid ORDER BY pid) FROM pg_stat_activity WHERE {ours}"
    before = desk.conn.execute(sessions).fetchall()
    holder = hold(desk, one.id)

    writing = asyncio.create_task(store.write_back([Ended(one.id, 1, Outcome.ACCEPTED, "accepted")]))
    await asyncio.sleep(1.5)
    assert (await store.renew([ticket]))[0] == {ticket}
    holder.rollback()
    holder.close()

    assert await writing == 1
    assert desk.conn.execute(sessions).fetchall() == before


async def test_a_deadlock_is_known_to_have_done_nothing(store: PostgresStore) -> None:
    """The statement is asked again on the same connection, and its answer leaves no doubt about the first time."""
    pids: list[int] = []

    def ask(conn: Connection[TupleRow]) -> str:
        pids.append(conn.info.backend_pid)
        if len(pids) == 1:
            conn.execute("DO $$ BEGIN RAISE SQLSTATE '40P01'; END $$")
        return "done"

    assert await store._writes.run(ask) == ("done", False)
    assert pids == pids[:1] * 2


async def test_closing_ends_a_statement_under_way(desk: Desk) -> None:
    """It neither blocks the loop nor waits for a lock."""
    store = PostgresStore(
        desk.database.dsn_of("delivery_consumer"), owner=uuid4(), lease_s=30, dlq_topic=desk.topics.names.dlq
    )
    (one,) = desk.accept(["https://a.example/"], publish=False)
    await store.claim([Ticket(one.id, 1)])
    await store.connect()
    with hold(desk, one.id):
        writing = asyncio.create_task(store.write_back([Ended(one.id, 1, Outcome.ACCEPTED, "accepted")]))
        await asyncio.sleep(0.2)
        writing.cancel()

        began_at = time.monotonic()
        await store.aclose()
        took_s = time.monotonic() - began_at

    assert took_s < 0.5


async def test_a_dead_session_shows_and_is_replaced_while_nothing_is_asked(
    desk: Desk, store: PostgresStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An idle consumer is as ready as it says."""
    monkeypatch.setattr(store_module, "WATCH_EVERY_S", 0.2)
    monkeypatch.setattr(store_module, "_FIRST_WAIT_S", 0.3)
    await store.connect()
    watching = asyncio.create_task(store.watch())
    ours = " FROM pg_stat_activity WHERE application_name LIKE 'delivery_c%' AND datname = current_database()"
    assert store.fault() is None

    desk.conn.execute("SELECT pg_terminate_backend(pid)" + ours)

    async with asyncio.timeout(5):
        while store.fault() != "not connected":
            await asyncio.sleep(0.01)
        while store.fault() is not None:
            await asyncio.sleep(0.01)
    watching.cancel()
    assert desk.conn.execute("SELECT count(*)" + ours).fetchone() == (2,)
