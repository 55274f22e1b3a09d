"""One autocommit connection, and notifications to work with."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from typing import Any

import psycopg
import pytest

from shared import db
from shared.db.notifications import NewNotification
from shared.model import Channel, OnUnknown, Priority, bucket_of, uuid7
from shared.records import Record, Topics, encode_record, record_headers, record_key
from tests.servers import Database

Conn = psycopg.Connection[Any]
TOPICS = Topics()


@pytest.fixture
def conn(database: Database) -> Iterator[Conn]:
    """A connection as the services open it."""
    connection = db.connect(database.dsn, application_name="test")
    yield connection
    connection.close()


@pytest.fixture
def other(database: Database) -> Iterator[Conn]:
    """A second connection, for what happens at the same time."""
    connection = db.connect(database.dsn, application_name="test_other")
    yield connection
    connection.close()


@pytest.fixture
def new() -> Callable[..., NewNotification]:
    """Make notifications ready to be accepted; keywords replace their fields."""

    def make(**fields: Any) -> NewNotification:
        id_ = uuid7()
        ordering_key = fields.get("ordering_key")
        key = record_key("default", str(id_), ordering_key)
        record = Record(
            str(id_),
            "default",
            Channel.EMAIL,
            "a@example.org",
            "hello",
            "2026-01-01T00:00:00Z",
            ordering_key=ordering_key,
        )
        values: dict[str, Any] = {
            "id": id_,
            "tenant_id": "default",
            "channel": Channel.EMAIL,
            "recipient": "a@example.org",
            "priority": Priority.NORMAL,
            "on_unknown": OnUnknown.RETRY,
            "created_at": datetime.now(UTC),
            "bucket": bucket_of(key),
            "topic": TOPICS.lanes(Channel.EMAIL)[0],
            "key": key,
            "record": encode_record(record),
            "headers": record_headers(attempt=1),
        }
        return NewNotification(**values | fields)

    return make
