"""What surrounds each request, whoever serves it: its ids, the headers of every answer, its counts, its log line."""

import logging
import time
from typing import Final

from api_service import metrics
from api_service.tracing import RequestIds

log = logging.getLogger(__name__)
KEY: Final = "notification_api.begun"
"""Where the WSGI environment of a request that was begun in front of the application holds its Begun."""
SECURITY_HEADERS: Final = (("X-Content-Type-Options", "nosniff"), ("Cache-Control", "no-store"))
_QUIET: Final = ("/health", "/metrics")


class Begun:
    """A request under way."""

    __slots__ = ("at", "error", "ids")

    def __init__(self, at: float, ids: RequestIds) -> None:
        self.at, self.ids = at, ids  # `at` by time.perf_counter()
        self.error: Exception | None = None  # what ended it in front of the application, to be answered there


def headers_of(ids: RequestIds) -> list[tuple[str, str]]:
    """Return what every answer has."""
    return [*SECURITY_HEADERS, *names_of(ids)]


def names_of(ids: RequestIds) -> list[tuple[str, str]]:
    """Return the headers that name a request in its answer."""
    return [("X-Request-ID", ids.request_id), ("X-Correlation-ID", ids.correlation_id)]


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
                "notification_id": notification_id,
                "problem": problem,
            },
        )
