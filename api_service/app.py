"""The application: routes, errors, and what surrounds each request. Everything it needs is handed in."""

import logging
from pathlib import Path
from typing import Final
from wsgiref.types import WSGIEnvironment

import flask
from flask import Flask, Response
from psycopg_pool import ConnectionPool

from api_service import admission, cors, finishing, openapi, problems, queries
from api_service.callers import OpenGate
from api_service.clients import TrustedProxies
from api_service.database import Database, DatabaseUnavailableError
from api_service.direct import Direct
from api_service.faults import forget_frames
from api_service.idempotency import HEADER
from api_service.identity import Identity
from api_service.identity_settings import AuthMode
from api_service.inbox import Inbox
from api_service.known import Known
from api_service.limiting.limits import Limits
from api_service.limiting.memory import Memory
from api_service.limiting.shared import Shared
from api_service.passwords import Passwords
from api_service.places import Places
from api_service.problems import Problem
from api_service.routes import (
    api_keys,
    audit_logs,
    auth,
    batches,
    dead_letter_retries,
    dead_letters,
    destinations,
    docs,
    endpoints,
    health,
    notifications,
    sender_domains,
    signing_secret,
    suppressions,
    test_webhook,
    users,
)
from api_service.routing import declares, scope_of
from api_service.services import EXTENSION, Services, ids, services
from api_service.settings import ApiSettings
from api_service.tokens import Tokens
from api_service.txt_records import LOOKUPS_AT_ONCE
from shared.records import Topics
from shared.secrets import Keyring

log = logging.getLogger(__name__)
_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
_FOR_ANYBODY: Final = frozenset({"api-docs.openapi_json", "docs.asset", "docs.page", "docs.start"})
_WRITING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})


def create_app(settings: ApiSettings, pool: ConnectionPool, runtime_dir: Path) -> Flask:
    """Return the application on an open pool; `runtime_dir` is shared by all processes of one server."""
    app = Flask("api_service", static_folder=None)
    database = Database(pool)
    tokens = Tokens(settings.identity.jwt_keys, lifetime_s=settings.identity.jwt_lifetime_s)
    limits = Limits(settings.limits, Shared(settings.redis_url) if settings.redis_url else Memory())
    proxies = TrustedProxies(settings.door.trusted_proxies)

    def hold(environ: WSGIEnvironment) -> None:
        limits.hold_stranger(proxies.client(environ).address)

    app.extensions[EXTENSION] = Services(
        settings=settings,
        database=database,
        topics=Topics(settings.topic_prefix),
        inbox=Inbox(runtime_dir / "inbox.sqlite3"),
        runtime_dir=runtime_dir,
        keyring=Keyring(settings.secrets_keys),
        known=Known(database),
        limits=limits,
        proxies=proxies,
        gate=OpenGate() if settings.identity.mode is AuthMode.OPEN else Identity(database, tokens, hold=hold),
        passwords=Passwords(),
        tokens=tokens,
        lookups=Places(LOOKUPS_AT_ONCE, when_taken="another domain is being looked up; repeat this"),
    )
    app.url_map.merge_slashes = False  # who writes two is redirected otherwise, to whatever host the request names
    app.before_request(_begin)
    app.before_request(_admit)
    app.before_request(_refuse_unknown_parameters)
    app.after_request(_finish)
    groups = (
        *(notifications, batches, dead_letters, dead_letter_retries, suppressions, destinations),
        *(endpoints, signing_secret, sender_domains, audit_logs, auth, api_keys, users, health),
        *((test_webhook,) if settings.identity.serves_test_webhook else ()),
    )
    openapi.document(app, [module.routes for module in groups])
    app.register_blueprint(docs.blueprint)
    _require_scopes(app)
    app.register_error_handler(Problem, _answer_problem)
    app.register_error_handler(DatabaseUnavailableError, _answer_unavailable)
    app.register_error_handler(Exception, _answer_bug)
    cors.allow(app, settings.door.cors_origins, credentials=settings.door.cors_credentials)
    app.wsgi_app = Direct(app)  # type: ignore[method-assign]  # the application alone does without
    return app


def _begin() -> None:
    environ = flask.request.environ
    begun = environ.get(finishing.KEY) or finishing.begin(environ, services().proxies)
    flask.g.begun = begun
    if begun.error:
        raise begun.error


def _admit() -> None:
    """Find out who a request is from and whether they may, before anything of its body is read."""
    request = _request()
    rule = request.url_rule
    if rule is None or rule.endpoint in _FOR_ANYBODY or request.method == "OPTIONS":
        return
    if scope := scope_of(request.method, rule.rule):
        flask.g.caller = admission.admit(services(), request.environ, flask.g.begun, scope, rule.rule)


def _require_scopes(app: Flask) -> None:
    """Raise KeyError for an operation that does not say who may call it: none is open because it was forgotten."""
    for rule in app.url_map.iter_rules():
        if rule.endpoint not in _FOR_ANYBODY:
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                scope_of(method, rule.rule)


def _refuse_unknown_parameters() -> None:
    """Refuse a query where none is taken: a dry_run=true, or a tenant_id, would be taken for heard, and is not."""
    request = _request()
    rule = request.url_rule
    if not request.query_string or rule is None or not rule.rule.startswith("/api/"):
        return
    if not declares(request.method, rule.rule, "query"):
        queries.load(queries.NOTHING, request.args)


def _answer_problem(problem: Problem) -> Response:
    flask.g.problem = problem.code
    forget_frames(problem)
    return problems.respond(problem, ids().request_id)


def _answer_unavailable(error: DatabaseUnavailableError) -> Response:
    flask.g.problem = error.reason
    forget_frames(error)
    return problems.respond(problems.unavailable(_how_to_repeat()), ids().request_id)


def _how_to_repeat() -> str:
    """Return what a client does whose request met an outage."""
    request, rule = flask.request, flask.request.url_rule
    if request.method not in _WRITING:
        return "repeat this in a moment"
    if rule and declares(request.method, rule.rule, "header", HEADER):
        if HEADER in request.headers:
            return f"repeat this with the same {HEADER}; whether anything was done is unknown"
        return f"whether anything was done is unknown, and without an {HEADER} a repeat may do it a second time"
    return "whether anything was done is unknown: look first, then repeat this"


def _answer_bug(error: Exception) -> Response:
    """Answer a bug of ours: it ends its request, not the worker, and is told to the log alone."""
    log.exception("request_failed", extra={"request_id": ids().request_id})
    forget_frames(error)
    return problems.respond(problems.internal_error(), ids().request_id)


def _finish(response: Response) -> Response:
    """Name the request in the answer, count it, and write its one log line."""
    request, g = _request(), flask.g
    headers = response.headers
    headers.extend([(name, value) for name, value in finishing.headers_of(g.begun) if name not in headers])
    finishing.finish(
        g.begun,
        request.method if request.method in _METHODS else "other",
        request.url_rule.rule if request.url_rule else "unmatched",
        response.status_code,
        notification_id=g.get("notification_id"),
        problem=g.get("problem"),
    )
    return response


def _request() -> flask.Request:
    """Return the request itself: each look through flask's proxy costs a microsecond."""
    found: flask.Request = flask.request._get_current_object()  # type: ignore[attr-defined]
    return found
