"""Who calls: for which tenant, and what it may do."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Final, Protocol
from wsgiref.types import WSGIEnvironment

from api_service import metrics
from api_service.accept import DEFAULT_TENANT
from api_service.problems import Problem


class Scope(StrEnum):
    """What a caller may do; each operation needs one."""

    SEND = "send"  # send notifications, cancel them
    READ = "read"  # look at notifications
    ADMIN = "admin"  # everything else of a tenant: dead letters, suppressions, endpoints, keys


class CallerKind(StrEnum):
    """How a caller has said who it is."""

    KEY = "key"
    USER = "user"
    OPEN = "open"  # not at all: the API serves a closed network


@dataclass(frozen=True, slots=True)
class Caller:
    """Whoever a request is from."""

    tenant_id: str
    kind: CallerKind
    id: str
    name: str  # for people: what decisions are noted under
    scopes: frozenset[Scope]
    is_operator: bool = False  # may see what belongs to no tenant
    limits: str | None = None  # of its key, such as "500/second;1000000/day"; None: those of the settings
    daily_quota: int | None = None  # notifications a day that are accepted of its tenant; None: any number
    expires_at: datetime | None = None  # of its key; None: it does not


ANYBODY: Final = Caller(DEFAULT_TENANT, CallerKind.OPEN, "open", "api", frozenset(Scope), is_operator=True)
"""Every caller of an API on a closed network."""


def unauthorized(detail: str, *, was_given: bool = True) -> Problem:
    """Return the problem of a request whose sender is not known (RFC 6750 §3); `was_given`: it said who it is."""
    challenge = 'Bearer error="invalid_token"' if was_given else "Bearer"
    return Problem("unauthorized", detail, headers={"WWW-Authenticate": challenge})


def admitted(caller: Caller, scope: Scope) -> Caller:
    """Return a caller that has a scope. Raises Problem 403 for any other."""
    if scope not in caller.scopes:
        metrics.CALLERS_REFUSED.labels("scope").inc()
        raise Problem("forbidden", f"this needs the scope {scope}")
    return caller


class Gate(Protocol):
    """Tells callers apart."""

    def caller(self, environ: WSGIEnvironment) -> Caller:
        """Return who a request is from, before its body is read.

        Raises Problem 401 where that is not known, 403 where its tenant is suspended, DatabaseUnavailableError where it
        cannot be found out.
        """
        ...

    def close(self) -> None:
        """Let go of what it holds, when the last request has been served."""
        ...


class OpenGate:
    """Asks nobody."""

    def caller(self, environ: WSGIEnvironment) -> Caller:  # noqa: ARG002
        """Return the one caller there is."""
        return ANYBODY

    def close(self) -> None:
        """Hold nothing."""
