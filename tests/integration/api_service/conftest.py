"""An application on a fresh database, in this process."""

import base64
import os
from collections.abc import Iterator
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api_service import api_keys, wsgi
from api_service.settings import read_settings
from shared.db import api_keys as keys_table
from shared.db import tenants
from shared.db.api_keys import NewApiKey
from shared.settings import Environment
from tests.integration.api_service.tenants import ClientOf, by_header
from tests.servers import Database

SECRETS_KEYS = "k1:" + base64.b64encode(os.urandom(32)).decode()
OPEN = {"AUTH_MODE": "open", "BIND_HOST": "127.0.0.1"}
"""For what does not test who calls."""

METRICS_TOKEN = "of-a-test-only-0123456789abcdefghij"
CLOSED = {
    "AUTH_MODE": "keys",
    "JWT_KEYS": "test:" + base64.b64encode(bytes(range(7, 47))).decode(),
    "REGISTRATION_TENANT": "shop",
    "METRICS_TOKEN": METRICS_TOKEN,
    "ENABLE_RATE_LIMITING": "off",
    "RATE_LIMIT_LOGINS_ADDRESS": "1000/second",
    "RATE_LIMIT_LOGINS_ACCOUNT": "1000/second",
}
"""For what does."""

TABLES = ("notifications", "outbox", "outbox_due", "idempotency_keys")


@pytest.fixture
def app(database: Database, tmp_path: Path) -> Iterator[Flask]:
    """The API on a database of its own, with a key to seal secrets with."""
    more = {"SECRETS_KEYS": SECRETS_KEYS, "RATE_LIMIT_ACTIONS": "10000/second"}  # some tests ask for all that there is
    environ = database.environ_of("api_service") | OPEN | more
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


@pytest.fixture
def closed(database: Database, tmp_path: Path) -> Iterator[FlaskClient]:
    """A client of an API that asks who calls; there are the tenants shop, bank, and ours, which runs it."""
    with database.connect(autocommit=True) as conn:
        for tenant_id in ("shop", "bank", "ours"):
            tenants.add(conn, tenant_id, name=tenant_id, is_operator=tenant_id == "ours")
    app = wsgi.build(read_settings(Environment(database.environ_of("api_service") | CLOSED)), tmp_path)
    yield app.test_client()
    wsgi.close(app)


def make_key(
    database: Database,
    *scopes: str,
    tenant_id: str = "shop",
    expires_at: datetime | None = None,
    limits: str | None = None,
) -> tuple[str, dict[str, str]]:
    """Make a key as the command does; its id, and the headers of whoever has it."""
    made = api_keys.make()
    new = NewApiKey(made.id, tenant_id, made.sha256, "till", scopes or ("send", "read"), "test", expires_at, limits)
    with database.connect(autocommit=True) as conn:
        keys_table.add(conn, new)
    return made.id, {"Authorization": f"Bearer {made.text}"}


def counts(database: Database) -> dict[str, int]:
    """How many rows each table that accepting writes to has."""
    with database.connect() as conn:
        return {table: _one(conn, f"SELECT count(*) FROM {table}") for table in TABLES}


def _one(conn: Any, query: str) -> int:
    return int(conn.execute(query).fetchone()[0])
