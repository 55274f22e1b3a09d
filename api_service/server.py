"""gunicorn, configured and run in this process: no configuration file, no command line."""

import contextlib
import logging
import os
import socket
import struct
from pathlib import Path
from typing import Any, Final

from flask import Flask
from gunicorn.app.base import BaseApplication
from gunicorn.arbiter import Arbiter
from gunicorn.glogging import Logger
from gunicorn.workers.base import Worker

from api_service import wsgi
from api_service.settings import ApiSettings
from api_service.worker import BoundedThreadWorker
from shared.lifecycle import DRAIN_S
from shared.runtime_dir import counts_in
from shared.settings import LogLevel
from shared.telemetry import forget_gauges

KEEPALIVE_S: Final = 75
STALLED_AFTER_S: Final = 10
"""A client that neither sends nor takes a byte for this long loses its connection: it occupies a thread.

One that does so now and then is the worker's to end."""


class _RootLogger(Logger):  # type: ignore[misc]  # gunicorn ships no types
    """Hands gunicorn's messages to the root logger, where they become JSON like all others. No access log: ours is."""

    def setup(self, cfg: Any) -> None:
        """Leave handlers alone; let everything propagate."""
        super().setup(cfg)
        for logger in (self.error_log, self.access_log):
            logger.handlers.clear()
            logger.propagate = True
        self.error_log.addFilter(_not_a_stalled_client)


def _not_a_stalled_client(record: logging.LogRecord) -> bool:
    return not (record.exc_info and isinstance(record.exc_info[1], BlockingIOError))


class Server(BaseApplication):  # type: ignore[misc]  # gunicorn ships no types
    """Runs until SIGTERM, then serves what has begun and exits 0."""

    def __init__(self, settings: ApiSettings, runtime_dir: Path) -> None:
        self._settings, self._runtime_dir = settings, runtime_dir
        super().__init__()

    def load_config(self) -> None:
        """Set what differs from gunicorn's defaults."""
        service = self._settings.service
        options = {
            "bind": address(service.bind_host, service.port),
            "worker_class": BoundedThreadWorker,
            "workers": self._settings.workers,
            "threads": self._settings.threads,
            "keepalive": KEEPALIVE_S,
            "graceful_timeout": int(DRAIN_S),
            "backlog": 512,
            "control_socket_disable": True,  # it would be a file in the home directory; containers have none
            "worker_tmp_dir": "/dev/shm" if os.access("/dev/shm", os.W_OK) else None,  # noqa: S108 - heartbeats on RAM
            "limit_request_line": 8190,
            "limit_request_fields": 64,
            "limit_request_field_size": 8190,
            "header_map": "drop",  # X_Forwarded_For would be read as X-Forwarded-For
            "forwarded_allow_ips": "",  # whose word counts is api_service/clients.py's to say
            "logger_class": _RootLogger,
            "loglevel": _gunicorns(service.log_level).value,
            "proc_name": "notify-api",
            "when_ready": _give_up_on_stalled_clients,
            "worker_exit": _worker_exit,
            "child_exit": self._child_exit,
        }
        for name, value in options.items():
            self.cfg.set(name, value)

    def load(self) -> Flask:
        """Return the application; gunicorn calls this in each worker, after the fork."""
        return wsgi.build(self._settings, self._runtime_dir)

    def _child_exit(self, _server: Arbiter, worker: Worker) -> None:
        forget_gauges(counts_in(self._runtime_dir), worker.pid)


def _gunicorns(level: LogLevel) -> LogLevel:
    """Return from which level on gunicorn logs: its debug lines name the paths that were asked for."""
    return LogLevel.INFO if level is LogLevel.DEBUG else level


def address(host: str, port: int) -> str:
    """Return host and port as gunicorn reads them."""
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def bind_fault(host: str, port: int) -> str | None:
    """Say why a port cannot be listened on, None when it can: gunicorn itself would go on trying in silence."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
            probe.listen(1)
        except OSError as error:
            return f"port {port} on {host} cannot be used: {error.strerror}"
    return None


def _give_up_on_stalled_clients(server: Arbiter) -> None:
    """Bound each read and write of a socket; accepted ones inherit it from those that listen."""
    for listener in server.LISTENERS:
        timeout = struct.pack("ll", STALLED_AFTER_S, 0)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, timeout)
        listener.sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, timeout)


def _worker_exit(_server: Arbiter, worker: Worker) -> None:
    with contextlib.suppress(AttributeError):  # it ended before it had an application
        wsgi.close(worker.wsgi)
