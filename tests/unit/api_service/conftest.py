"""An application whose PostgreSQL is away: what it answers, it answers without one."""

from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg_pool import ConnectionPool

from api_service import wsgi
from api_service.app import create_app
from api_service.settings import ApiSettings, read_settings
from shared.settings import Environment


@pytest.fixture
def settings() -> ApiSettings:
    """The settings of an API that asks nobody who they are."""
    return read_settings(Environment({"AUTH_MODE": "open", "BIND_HOST": "127.0.0.1"}))


@pytest.fixture
def app(settings: ApiSettings, tmp_path: Path) -> Iterator[Flask]:
    """An application on a pool that was never opened."""
    app = create_app(settings, ConnectionPool("", open=False), tmp_path)
    yield app
    wsgi.close(app)


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    """A client of that application."""
    return app.test_client()
