"""One autocommit connection, and notifications to work with."""

from collections.abc import Callable, Iterator
from typing import Any

import psycopg
import pytest

from shared import db
from shared.db.accepting import NewNotification
from tests.integration.notifications import new_notification
from tests.servers import Database

Conn = psycopg.Connection[Any]


@pytest.fixture
def other(database: Database) -> Iterator[Conn]:
    """A second connection, for what happens at the same time."""
    connection = db.connect(database.dsn, application_name="test_other")
    yield connection
    connection.close()


@pytest.fixture
def new() -> Callable[..., NewNotification]:
    """Make notifications ready to be accepted; keywords replace their fields."""
    return new_notification
