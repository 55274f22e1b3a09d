"""What the consumer asks of PostgreSQL, on a real one."""

from collections.abc import Iterator
from uuid import uuid4

import pytest

from delivery_consumer.store import PostgresStore
from shared.db.notifications import Ended, Ticket
from shared.model import Outcome
from tests.integration.delivery_consumer.parts import Desk


@pytest.fixture
def store(desk: Desk) -> Iterator[PostgresStore]:
    """A store on this test's database."""
    made = PostgresStore(desk.database.dsn, owner=uuid4(), lease_s=30, dlq_topic=desk.topics.names.dlq)
    yield made
    made.close()


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
