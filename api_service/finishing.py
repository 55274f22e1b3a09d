"""What surrounds each request, whoever serves it: its ids, the headers of every answer, its counts, its log line."""

import logging
import time
from collections.abc import Sequence
from typing import Final
from wsgiref.types import WSGIEnvironment

from api_service import metrics, security_headers
from api_service.callers import Caller
from api_service.clients import Client, TrustedProxies
from api_service.tracing import RequestIds, request_ids

log = logging.getLogger(__name__)
KEY: Final = "notification_api.begun"
"""Where the WSGI environment of a request that was begun in front of the application holds its Begun."""
_QUIET: Final = ("/health", "/metrics")


_SECURITY_LINES: Final = {
    is_tls: "".join(f"{name}: {value}\r\n" for name, value in security_headers.of_answer(is_tls=is_tls))
    for is_tls in (False, True)
}


class Begun:
    """A request under way."""

    __slots__ = ("at", "caller", "client", "error", "ids", "limits")

    def __init__(self, at: float, ids: RequestIds, client: Client) -> None:
        self.at, self.ids, self.client = at, ids, client  # `at` by time.perf_counter()
        self.caller: Caller | None = None  # once it is known, and counted
        self.limits: Sequence[tuple[str, str]] = ()  # what its answer says about how many more there may be
        self.error: Exception | None = None  # what ended it in front of the application, to be answered there


def begin(environ: WSGIEnvironment, proxies: TrustedProxies) -> Begun:
    """Begin a request."""
    return Begun(time.perf_counter(), request_ids(environ), proxies.client(environ))


def headers_of(begun: Begun) -> list[tuple[str, str]]:
    """Return what every answer has besides what it is about."""
    return [
        *security_headers.of_answer(is_tls=begun.client.is_tls),
        ("X-Request-ID", begun.ids.request_id),
        ("X-Correlation-ID", begun.ids.correlation_id),
        *begun.limits,
    ]


def lines_of(begun: Begun) -> bytes:
    """Return the same as lines of a head. Nothing in it is a client's that was not checked character by character."""
    ids = begun.ids
    limits = "".join([f"{name}: {value}\r\n" for name, value in begun.limits])
    return (
        f"{_SECURITY_LINES[begun.client.is_tls]}X-Request-ID: {ids.request_id}\r\n"
        f"X-Correlation-ID: {ids.correlation_id}\r\n{limits}"
    ).encode()


def finish(
    begun: Begun,
    method: str,
    route: str,
    status: int,
    *,
    notification_id: str | None = None,
    problem: str | None = None,
) -> None:
    """Count a request that has been answered, and write its one log line."""
    took_s = time.perf_counter() - begun.at
    metrics.count_request(method, route, status, took_s)
    if not route.startswith(_QUIET):
        log.log(
            logging.WARNING if status >= 500 else logging.INFO,
            "request",
            extra={
                "method": method,
                "route": route,
                "status": status,
                "duration_ms": round(took_s * 1000, 2),
                "request_id": begun.ids.request_id,
                "correlation_id": begun.ids.correlation_id,
                "client": begun.client.address,
                "notification_id": notification_id,
                "problem": problem,
            },
        )
