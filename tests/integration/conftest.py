"""What the tests of several services ask for."""

from collections.abc import Iterator
from typing import Any

import psycopg
import pytest

from shared import db
from tests.servers import Database


@pytest.fixture
def conn(database: Database) -> Iterator[psycopg.Connection[Any]]:
    """A connection as the services open it."""
    connection = db.connect(database.dsn, application_name="test")
    yield connection
    connection.close()
