"""How a service reports: JSON log lines on stdout, and an HTTP server for /health and /metrics."""

import logging
import sys
import threading
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final

import orjson
from prometheus_client import (
    CONTENT_TYPE_LATEST,
    REGISTRY,
    CollectorRegistry,
    disable_created_metrics,
    generate_latest,
    multiprocess,
)

from shared.settings import LogLevel, refuse_to_start

_STANDARD_ATTRIBUTES: Final = frozenset(vars(logging.makeLogRecord({}))) | {"message", "taskName"}
Checks = Mapping[str, Callable[[], str | None]]
"""Named readiness checks. A check returns None when all is well, else one line on what is wrong; it never blocks."""


class JsonFormatter(logging.Formatter):
    """One JSON object a line: time, level, service, logger, event, and whatever `extra` carried.

    `process` is a number that tells several processes of one service apart.
    """

    def __init__(self, service: str, process: int | None = None) -> None:
        super().__init__()
        self._constant = {"service": service} | ({} if process is None else {"process_number": process})

    def format(self, record: logging.LogRecord) -> str:
        """Return the line. An exception is given as type and stack, without its message, which may quote user data."""
        line: dict[str, Any] = {
            "time": datetime.fromtimestamp(record.created, UTC).isoformat(timespec="milliseconds"),
            "level": record.levelname.lower(),
            **self._constant,
            "logger": record.name,
            "event": record.getMessage(),
        }
        line |= {name: value for name, value in vars(record).items() if name not in _STANDARD_ATTRIBUTES}
        if record.exc_info and record.exc_info[0] is not None:
            line["error"] = record.exc_info[0].__name__
            line["stack"] = [
                f"{frame.filename}:{frame.lineno} {frame.name}"
                for frame in traceback.extract_tb(record.exc_info[2])[-12:]
            ]
        return orjson.dumps(line, default=str).decode()


def set_up_logging(service: str, level: LogLevel, *, process: int | None = None) -> None:
    """Send every log line of this process to stdout as JSON."""
    # What no line of ours says is not looked up: logging's own documentation names these switches.
    logging._srcfile = None
    logging.logThreads = logging.logProcesses = logging.logMultiprocessing = False
    handler = logging.StreamHandler(sys.stdout)
    handler.setFormatter(JsonFormatter(service, process))
    logging.basicConfig(level=level.upper(), handlers=[handler], force=True)
    logging.getLogger("httpx").setLevel(logging.WARNING)  # it logs whole URLs at INFO


class HealthServer:
    """Answers /health/live, /health/ready, /health and /metrics on a thread of its own.

    Live says that the process answers and touches nothing else; ready is 503 while any check names a fault.
    """

    def __init__(
        self, service: str, host: str, port: int, checks: Checks, *, exposition: Callable[[], bytes] | None = None
    ) -> None:
        disable_created_metrics()  # type: ignore[no-untyped-call]  # else each series twice, for an instant nobody asks
        answers = {"checks": checks, "service": service, "exposition": staticmethod(exposition or _own_exposition)}
        handler = type("Handler", (_Handler,), answers)
        try:
            self._server = ThreadingHTTPServer((host, port), handler)
        except OSError as error:
            refuse_to_start(service, [f"port {port} on {host} cannot be used: {error.strerror}"])
        self._server.daemon_threads = True
        threading.Thread(target=self._server.serve_forever, name="health", daemon=True).start()

    def close(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()


def run_checks(checks: Checks) -> dict[str, str]:
    """Return each check's verdict, `ok` or its fault; a check that raises is a fault too."""
    verdicts = {}
    for name, check in checks.items():
        try:
            verdicts[name] = check() or "ok"
        except Exception as error:  # noqa: BLE001 - a broken check must not take the health page down
            verdicts[name] = type(error).__name__
    return verdicts


def health_body(service: str, verdicts: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
    """Return status and body of a health answer; 503 unless every verdict is ok."""
    healthy = all(verdict == "ok" for verdict in verdicts.values())
    body = {"status": "ok" if healthy else "unavailable", "service": service, "checks": dict(verdicts)}
    return (200 if healthy else 503), body


def _own_exposition() -> bytes:
    return generate_latest(REGISTRY)


def exposition_of(counts: Path) -> bytes:
    """Return what Prometheus scrapes where processes share their counts in a directory: the sum over all of them."""
    registry = CollectorRegistry()
    multiprocess.MultiProcessCollector(registry, str(counts))  # type: ignore[no-untyped-call]
    return generate_latest(registry)


def forget_gauges(counts: Path, process: int) -> None:
    """Leave the gauges of a process that has ended out of the sum; what it counted stays in."""
    multiprocess.mark_process_dead(process, str(counts))  # type: ignore[no-untyped-call]


class _Handler(BaseHTTPRequestHandler):
    checks: Checks
    service: str
    exposition: Callable[[], bytes]
    protocol_version = "HTTP/1.1"
    timeout = 30

    def do_GET(self) -> None:
        path = self.path.partition("?")[0].rstrip("/")
        if path in ("/health/live", "/health/liveness"):
            self._answer(*health_body(self.service, {}))
        elif path in ("/health", "/health/ready", "/health/readiness"):
            self._answer(*health_body(self.service, run_checks(self.checks)))
        elif path == "/metrics":
            self._send(200, CONTENT_TYPE_LATEST, self.exposition())
        else:
            self._answer(404, {"status": "not found", "service": self.service})

    def _answer(self, status: int, body: dict[str, Any]) -> None:
        self._send(status, "application/json", orjson.dumps(body))

    def _send(self, status: int, content_type: str, body: bytes) -> None:
        self.send_response(status)
        self.send_header("Content-Type", content_type)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - the name the base class gives it
        """Keep probes out of the log."""
