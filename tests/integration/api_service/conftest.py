"""An application on a fresh database, in this process."""

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api_service import wsgi
from api_service.settings import read_settings
from shared.settings import Environment
from tests.integration.api_service.tenants import ClientOf, by_header
from tests.servers import Database

SECRETS_KEYS = "k1:" + base64.b64encode(os.urandom(32)).decode()
TABLES = ("notifications", "outbox", "outbox_due", "idempotency_keys")


@pytest.fixture
def app(database: Database, tmp_path: Path) -> Iterator[Flask]:
    """The API on a database of its own, with a key to seal secrets with."""
    limits = {"RATE_LIMIT_ACTIONS": "10000/second"}  # some tests ask for everything that there is
    environ = database.environ_of("api_service") | {"SECRETS_KEYS": SECRETS_KEYS} | limits
    app = wsgi.build(read_settings(Environment(environ)), tmp_path)
    yield app
    wsgi.close(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of the API."""
    return app.test_client()


@pytest.fixture
def client_of(app: Flask) -> ClientOf:
    """Makes a client of a tenant."""
    return by_header(app)


def counts(database: Database) -> dict[str, int]:
    """How many rows each table that accepting writes to has."""
    with database.connect() as conn:
        return {table: _one(conn, f"SELECT count(*) FROM {table}") for table in TABLES}


def _one(conn: Any, query: str) -> int:
    return int(conn.execute(query).fetchone()[0])
