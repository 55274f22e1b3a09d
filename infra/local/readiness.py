"""Which parts of a running stack do their work, asked from outside at their addresses."""

from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import httpx
import psycopg
from psycopg.conninfo import make_conninfo

from infra.local.kafka import is_reachable

_TIMEOUT_S = 4.0
_SILENT = "does not answer"


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one part was found to be."""

    part: str
    fault: str  # empty: it is ready


def verdicts(urls: Mapping[str, str]) -> list[Verdict]:
    """Ask every part at the addresses of `Stack.urls`, all at once; a part that is silent costs a few seconds."""
    with ThreadPoolExecutor(len(_PARTS)) as pool:
        faults = [pool.submit(fault_of, urls[key]) for _, key, fault_of in _PARTS]
        return [Verdict(part, fault.result()) for (part, _, _), fault in zip(_PARTS, faults, strict=True)]


def postgres_fault(dsn: str) -> str:
    """Return why PostgreSQL cannot be used, empty if it answers a query."""
    try:
        with psycopg.connect(make_conninfo(dsn, connect_timeout=int(_TIMEOUT_S))) as conn:
            conn.execute("SELECT 1")
    except psycopg.OperationalError:
        return _SILENT
    return ""


def kafka_fault(bootstrap_servers: str) -> str:
    """Return why Kafka cannot be used, empty if a broker answers a metadata request."""
    return "" if is_reachable(bootstrap_servers, timeout_s=_TIMEOUT_S) else _SILENT


def http_fault(base_url: str) -> str:
    """Return what /health/ready finds wrong, empty if it answers 200."""
    try:
        answer = httpx.get(f"{base_url}/health/ready", timeout=_TIMEOUT_S, trust_env=False)
    except httpx.HTTPError:
        return _SILENT
    if answer.status_code == 200:
        return ""
    try:
        checks = answer.json()["checks"]
        named = [f"{name}: {verdict}" for name, verdict in checks.items() if verdict != "ok"]
    except (ValueError, KeyError, TypeError, AttributeError):  # something else answers at this port
        named = []
    return "; ".join(named) or f"answers {answer.status_code}"


# A part's name, its key in Stack.urls, and how it is asked.
_PARTS: tuple[tuple[str, str, Callable[[str], str]], ...] = (
    ("PostgreSQL", "postgres", postgres_fault),
    ("Apache Kafka", "kafka", kafka_fault),
    ("mail sink", "mail", http_fault),
    ("webhook receiver", "receiver", http_fault),
    ("api_service", "api", http_fault),
    ("outbox_relay", "relay", http_fault),
    ("delivery_consumer", "delivery", http_fault),
    ("dlq_consumer", "dlq", http_fault),
)
