"""What every route works with, kept on the application."""

from dataclasses import dataclass
from pathlib import Path
from typing import Final

import flask

from api_service.accept import DEFAULT_TENANT, Origin
from api_service.database import Database
from api_service.inbox import Inbox
from api_service.settings import ApiSettings
from api_service.tracing import RequestIds
from shared.records import Topics

EXTENSION: Final = "notification_api"


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one application."""

    settings: ApiSettings
    database: Database
    topics: Topics
    inbox: Inbox
    runtime_dir: Path


def services() -> Services:
    """Return the parts of the application that serves the current request."""
    found: Services = flask.current_app.extensions[EXTENSION]
    return found


def ids() -> RequestIds:
    """Return the ids of the current request."""
    found: RequestIds = flask.g.begun.ids
    return found


def origin() -> Origin:
    """Return whose request the current one is."""
    return Origin(DEFAULT_TENANT, ids().traceparent, ids().correlation_id)
