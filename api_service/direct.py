"""The request that comes most, served in front of Flask: one notification, posted as JSON without anything special.

What Flask does for a request (contexts, routing, hooks, a response object) takes longer than all that is done here. So
nothing but the plain case is here: a body of known length, no query, no doubt about what is asked for, and the answer
202. Whatever else a request is or becomes, it is handed on to the application, which answers as if it had come there
first: a body that was read is put back, an error that was met is raised there.
"""

import io
from collections.abc import Iterable
from http import HTTPStatus
from typing import Any, Final, cast
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask
from werkzeug.datastructures import EnvironHeaders

from api_service import accept, bodies, finishing, schemas, strict_json
from api_service.accept import NotificationRequest, Origin
from api_service.admission import admit
from api_service.callers import Scope
from api_service.exchange import EXCHANGE
from api_service.finishing import Begun
from api_service.idempotency import Answer, keyed_request
from api_service.known import named
from api_service.representations import NOTIFICATION_PATHS
from api_service.sending import SEND, answer_to, send
from api_service.services import EXTENSION, Services

_PATHS: Final = frozenset(NOTIFICATION_PATHS)
_JSON: Final = frozenset(("application/json", "application/json; charset=utf-8"))
_MAX_BYTES: Final = 64 * 1024
"""What is larger takes longer to read than Flask does anyway; it is left to it, and never read twice."""
_SPECIAL: Final = ("HTTP_CONTENT_ENCODING", "HTTP_TRANSFER_ENCODING", "HTTP_ORIGIN")


class Direct:
    """WSGI in front of an application: `app.wsgi_app = Direct(app)`."""

    def __init__(self, app: Flask) -> None:
        self._app = app
        self._application: WSGIApplication = app.wsgi_app

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Serve a plain request, hand on any other."""
        length = _length_if_plain(environ)
        if length is None:
            return self._application(environ, start_response)
        services = cast(Services, self._app.extensions[EXTENSION])
        begun = environ[finishing.KEY] = finishing.begin(environ, services.proxies)
        served = None
        try:
            served = self._serve(services, environ, length, begun)
        except Exception as error:  # noqa: BLE001 - the application answers it, and logs it where it is a bug
            begun.error = error
        if served is None:
            return self._application(environ, start_response)
        return _answer(begun, environ["PATH_INFO"], *served, start_response)

    def _serve(
        self, services: Services, environ: WSGIEnvironment, length: int, begun: Begun
    ) -> tuple[Answer, str] | None:
        """Accept a notification; return what its client is answered, with its id. None for what has to be handed on."""
        caller = admit(services, environ, begun, Scope.SEND, environ["PATH_INFO"])
        body = bodies.read_declared(environ, length)
        value, wanted = _understood(body, services.settings.default_webhook_url)
        if wanted is None or (named(wanted) and services.known.faults([wanted], tenant_id=caller.tenant_id)):
            environ["wsgi.input"] = io.BytesIO(body)
            return None
        keyed = None
        if "HTTP_IDEMPOTENCY_KEY" in environ:
            keyed = keyed_request(EnvironHeaders(environ), SEND, value, tenant_id=caller.tenant_id)
        origin = Origin(caller.tenant_id, begun.ids.traceparent, begun.ids.correlation_id)
        new = accept.prepare(wanted, topics=services.topics, origin=origin)
        return send(services, caller, keyed, [new], answer_to(new)), str(new.id)


def _length_if_plain(environ: WSGIEnvironment) -> int | None:
    """Return the length of the body of a request that can be served here."""
    if environ["PATH_INFO"] not in _PATHS or environ["REQUEST_METHOD"] != "POST" or environ.get("QUERY_STRING"):
        return None
    if environ.get("CONTENT_TYPE") not in _JSON or any(name in environ for name in _SPECIAL):
        return None
    text = environ.get("CONTENT_LENGTH", "")
    length = int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0
    return length if 0 < length <= _MAX_BYTES else None


def _understood(body: bytes, default_webhook_url: str | None) -> tuple[Any, NotificationRequest | None]:
    try:
        value = strict_json.loads(body)
    except strict_json.JsonError:
        return None, None
    return value, schemas.plainly_right(value, default_webhook_url)


def _answer(
    begun: Begun, route: str, answer: Answer, notification_id: str, start_response: StartResponse
) -> Iterable[bytes]:
    status = HTTPStatus(answer.status)
    headers = [("Content-Type", "application/json"), ("Content-Length", str(len(answer.body))), *answer.headers()]
    if exchange := EXCHANGE.get():
        exchange.head_lines = finishing.lines_of(begun)
    else:
        headers += finishing.headers_of(begun)
    start_response(f"{status.value} {status.phrase.upper()}", headers)
    finishing.finish(begun, "POST", route, status, notification_id=None if answer.replayed else notification_id)
    return [answer.body]
