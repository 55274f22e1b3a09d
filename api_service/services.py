"""What every route works with, kept on the application."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, TypeVar

import flask
from psycopg import Connection

from api_service.accept import Origin
from api_service.callers import Caller, Gate
from api_service.clients import TrustedProxies
from api_service.database import Database
from api_service.inbox import Inbox
from api_service.known import Known
from api_service.limiting.limits import Limits
from api_service.paging import Cursors
from api_service.passwords import Passwords
from api_service.places import Places
from api_service.settings import ApiSettings
from api_service.tokens import Tokens
from api_service.tracing import RequestIds
from shared.records import Topics
from shared.secrets import Keyring

T = TypeVar("T")
EXTENSION: Final = "notification_api"


@dataclass(frozen=True, slots=True)
class Services:
    """The parts of one application."""

    settings: ApiSettings
    database: Database
    topics: Topics
    inbox: Inbox
    runtime_dir: Path
    gate: Gate
    keyring: Keyring
    known: Known
    limits: Limits
    proxies: TrustedProxies
    passwords: Passwords
    tokens: Tokens
    lookups: Places  # in DNS, which keep who asks waiting


def services() -> Services:
    """Return the parts of the application that serves the current request."""
    found: Services = flask.current_app.extensions[EXTENSION]
    return found


def ids() -> RequestIds:
    """Return the ids of the current request."""
    found: RequestIds = flask.g.begun.ids
    return found


def caller() -> Caller:
    """Return who the current request is from; only where its operation needs a scope."""
    found: Caller = flask.g.caller
    return found


def tenant_id() -> str:
    """Return the tenant of the current request."""
    return caller().tenant_id


def in_tenant(work: Callable[[Connection[Any]], T], *, repeatable: bool = True) -> T:
    """Run work for the current request's tenant, in one transaction that sees no other tenant's rows.

    Raises what Database.run raises.
    """
    return services().database.run(work, tenant_id=tenant_id(), repeatable=repeatable)


def decider(said: str | None) -> str:
    """Return who decides: whom the body names, otherwise the caller."""
    who = caller()
    return said or who.name or who.id


def cursors(kind: str) -> Cursors:
    """Return the cursors of a list of the current request's tenant."""
    return Cursors(kind, tenant_id())


def origin() -> Origin:
    """Return whose request the current one is."""
    return Origin(tenant_id(), ids().traceparent, ids().correlation_id)
