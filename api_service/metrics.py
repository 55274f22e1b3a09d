"""What the API counts. Labels come from small closed sets: route templates, never paths."""

import functools
from collections.abc import Sequence
from pathlib import Path

from prometheus_client import REGISTRY, Counter, Gauge, Histogram, generate_latest

from shared.db.accepting import NewNotification
from shared.model import Channel, Priority
from shared.runtime_dir import counts_in
from shared.telemetry import exposition_of

REQUESTS = Counter("http_requests_total", "HTTP requests answered.", ["method", "route", "status"])
REQUEST_SECONDS = Histogram(
    "http_request_duration_seconds",
    "From the parsed request line to the finished answer.",
    ["method", "route"],
    buckets=(0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5),
)
ACCEPTED = Counter("notifications_accepted_total", "Notifications accepted.", ["channel", "priority"])
REPLAYS = Counter("idempotent_replays_total", "Requests answered with the stored answer of their Idempotency-Key.")
CONNECTIONS_IN_USE = Gauge(
    "db_connections_in_use", "PostgreSQL connections at work for a request.", multiprocess_mode="livesum"
)
DATABASE_ERRORS = Counter("db_errors_total", "Requests that PostgreSQL failed.", ["reason"])
RATE_LIMITED = Counter("rate_limited_requests_total", "Requests refused because there were too many.", ["limit"])
LIMITS_COUNTED_ALONE = Gauge(
    "limits_counted_alone",
    "Processes that count requests by themselves, since REDIS_URL does not answer.",
    multiprocess_mode="livesum",
)
CALLERS_REFUSED = Counter("callers_refused_total", "Requests that were refused for who sent them.", ["reason"])
SIGN_INS = Counter("sign_ins_total", "Attempts to sign in with a password.", ["outcome"])


@functools.cache
def _of_request(method: str, route: str, status: int) -> tuple[Counter, Histogram]:
    return REQUESTS.labels(method, route, str(status)), REQUEST_SECONDS.labels(method, route)


def count_request(method: str, route: str, status: int, took_s: float) -> None:
    """Count an answered request."""
    requests, seconds = _of_request(method, route, status)
    requests.inc()
    seconds.observe(took_s)


_of_accepted = functools.cache(ACCEPTED.labels)


def count_accepted(news: Sequence[NewNotification]) -> None:
    """Count what has been accepted, each pair of labels once however many they are."""
    counts: dict[tuple[Channel, Priority], int] = {}
    for new in news:
        labels = new.channel, new.priority
        counts[labels] = counts.get(labels, 0) + 1
    for labels, count in counts.items():
        _of_accepted(*labels).inc(count)


def exposition(runtime_dir: Path) -> bytes:
    """Return what Prometheus scrapes: the sum over all processes where they share a directory."""
    counts = counts_in(runtime_dir)
    return exposition_of(counts) if counts.is_dir() else generate_latest(REGISTRY)
