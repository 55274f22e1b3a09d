"""Whether this process lives, whether it can work, and what it has counted."""

import functools
import hmac
import logging
from typing import Final
from wsgiref.types import WSGIEnvironment

import flask
from flask import Response
from prometheus_client import CONTENT_TYPE_LATEST

from api_service import admission, documents, metrics
from api_service.callers import Scope
from api_service.database import DatabaseUnavailableError
from api_service.problems import Problem
from api_service.responses import json_response
from api_service.routing import Routes
from api_service.services import services
from shared.db import readiness_fault, tenancy
from shared.telemetry import health_body, run_checks

log = logging.getLogger(__name__)
SERVICE: Final = "api_service"
METRICS_PATH: Final = "/metrics"
routes: Final = Routes("health", "For probes and for Prometheus.")


@routes.add("GET", "/health/live", "/health/liveness", scope=None, doc=documents.LIVE)
def live() -> Response:
    """Say that the process answers; touches nothing else."""
    status, body = health_body(SERVICE, {})
    return json_response(body, status)


@routes.add("GET", "/health", "/health/ready", "/health/readiness", scope=None, doc=documents.READY)
def ready() -> Response:
    """Say whether requests can be served: PostgreSQL answers, has the schema, and takes writes."""
    status, body = health_body(SERVICE, run_checks({"postgres": _postgres_fault}))
    return json_response(body, status)


def _postgres_fault() -> str | None:
    try:
        fault = services().database.run(readiness_fault)
        if fault is None and not services().database.run(tenancy.binds):
            _warn_once()
        return fault
    except DatabaseUnavailableError as error:
        return error.reason


@functools.cache
def _warn_once() -> None:
    log.warning("tenants_not_kept_apart", extra={"reason": "this database role owns the tables; use notify_api"})


def _is_scraper(environ: WSGIEnvironment) -> bool:
    """Say whether a request carries METRICS_TOKEN, in a time that does not depend on what it carries instead."""
    token = services().settings.identity.metrics_token
    said = environ.get("HTTP_AUTHORIZATION", "")
    return token is not None and hmac.compare_digest(said.encode("latin-1"), f"Bearer {token}".encode())


@routes.add("GET", METRICS_PATH, scope=None, doc=documents.METRICS)
def scrape() -> Response:
    """Return the counters of all processes of this server, for Prometheus.

    They are of all tenants: for METRICS_TOKEN, and for admins of the tenant that runs the installation.
    """
    environ = flask.request.environ
    if not _is_scraper(environ):
        caller = admission.admit(services(), environ, flask.g.begun, Scope.ADMIN, METRICS_PATH)
        if not caller.is_operator:
            raise Problem("forbidden", "this is for those who run the installation")
    return Response(metrics.exposition(services().runtime_dir), content_type=CONTENT_TYPE_LATEST)
