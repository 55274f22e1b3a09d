"""One worker: its pool opened after the fork, its application on it."""

from pathlib import Path
from typing import cast

from flask import Flask

from api_service.app import create_app
from api_service.database import open_api_pool
from api_service.services import EXTENSION, Services
from api_service.settings import ApiSettings


def build(settings: ApiSettings, runtime_dir: Path) -> Flask:
    """Return a worker's application; PostgreSQL may be away, its connections are made as soon as it is not."""
    pool = open_api_pool(settings.service.conninfo, threads=settings.threads)
    return create_app(settings, pool, runtime_dir)


def close(app: Flask) -> None:
    """Close what build() opened, when the worker has served its last request."""
    cast(Services, app.extensions[EXTENSION]).database.close()
