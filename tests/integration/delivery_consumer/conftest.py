"""Fixtures of the delivery consumer's integration tests."""

from collections.abc import Iterator

import pytest

from tests.integration.delivery_consumer.parts import Desk, Receiver, receiver
from tests.servers import Database, FreshTopics


@pytest.fixture
def desk(database: Database, topics: FreshTopics) -> Iterator[Desk]:
    """Where notifications are accepted."""
    made = Desk(database, topics)
    yield made
    made.close()


@pytest.fixture
def hook() -> Iterator[Receiver]:
    """A webhook receiver."""
    with receiver() as made:
        yield made
