"""One worker: its pool opened after the fork, its application on it."""

from pathlib import Path
from typing import Final, cast

from flask import Flask

from api_service.app import create_app
from api_service.database import open_api_pool
from api_service.services import EXTENSION, Services
from api_service.settings import ApiSettings
from shared.lifecycle import seek_cycles_seldom

_OBJECTS_BEFORE_COLLECTION: Final = 50_000
"""More than the batches under way hold at once: they are freed without a search for cycles, having none."""


def build(settings: ApiSettings, runtime_dir: Path) -> Flask:
    """Return a worker's application; PostgreSQL may be away, its connections are made as soon as it is not."""
    pool = open_api_pool(settings.service.conninfo, threads=settings.threads)
    app = create_app(settings, pool, runtime_dir)
    seek_cycles_seldom(_OBJECTS_BEFORE_COLLECTION)
    return app


def close(app: Flask) -> None:
    """Close what build() opened, when the worker has served its last request."""
    services = cast(Services, app.extensions[EXTENSION])
    services.gate.close()
    services.database.close()
