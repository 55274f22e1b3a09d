"""The gateway that compose ships, run here: infra/nginx/nginx.conf with other addresses, in front of a real API."""

import contextlib
import re
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import orjson

from infra.local.ports import free_port
from infra.local.processes import ManagedProcess, Supervisor
from tests.dockerfiles import REPOSITORY
from tests.integration.api_service.test_server import environ

CAPACITY = 4
"""Threads of the API: requests it serves at once."""


def why_not() -> str | None:
    """Say why there is no gateway here; None where there can be."""
    return None if shutil.which("nginx") else "not installed: nginx (Debian's package nginx-light)"


@dataclass(frozen=True)
class Gateway:
    """A gateway and the API behind it."""

    port: int
    api_port: int
    api: ManagedProcess
    nginx: ManagedProcess

    @property
    def logs(self) -> str:
        """What both have written."""
        return self.api.log_path.read_text() + self.nginx.log_path.read_text()

    def requests(self) -> list[dict[str, object]]:
        """The lines of requests that the API has written."""
        return [line for line in _lines(self.api) if line["event"] == "request"]

    def lines(self) -> list[dict[str, object]]:
        """The lines of requests that nginx has written."""
        return _lines(self.nginx)


@contextlib.contextmanager
def running(directory: Path) -> Iterator[Gateway]:
    """Run both; the API believes the gateway, has one worker, and no database."""
    _loopback_up()
    port, api_port = free_port(), free_port()
    env = environ(
        API_PORT=str(api_port),
        API_WORKERS="1",
        API_THREADS=str(CAPACITY),
        AUTH_MODE="open",
        TRUSTED_PROXIES="127.0.0.1/32",
        DB_HOST="127.0.0.1",
        DB_PORT=str(free_port()),
        TMPDIR=str(directory),
    )
    conf = directory / "nginx.conf"
    conf.write_text(_conf(directory, port, api_port))
    # As root it would hand its files to somebody who may not look into this directory.
    command = [shutil.which("nginx") or "nginx", "-c", str(conf), "-p", str(directory), "-g", "daemon off; user root;"]
    with Supervisor(directory / "logs") as supervisor:
        api = supervisor.process("api", [sys.executable, "-m", "api_service"], env=env, cwd=directory)
        api.start().wait_healthy(f"http://127.0.0.1:{api_port}/health/live")
        # By SIGTERM also where nobody is left to do it in order: its workers would outlive a master that is killed.
        nginx = supervisor.process("nginx", command, cwd=directory, death_signal=signal.SIGTERM)
        nginx.start().wait_healthy(f"http://127.0.0.1:{port}/health/live")
        yield Gateway(port, api_port, api, nginx)


def _lines(process: ManagedProcess) -> list[dict[str, object]]:
    text = process.log_path.read_text()
    return [orjson.loads(line) for line in text.splitlines() if line.startswith("{")]  # not what people are told


def _conf(directory: Path, port: int, api_port: int) -> str:
    text = (REPOSITORY / "infra/nginx/nginx.conf").read_text()
    for pattern, here in (
        (r"(?<= )/tmp/", f"{directory}/"),
        (r"server api_service:8080;", f"server 127.0.0.1:{api_port};"),
        (r"listen 8080", f"listen 127.0.0.1:{port}"),
    ):
        text, count = re.subn(pattern, here, text)
        assert count > 0, pattern
    return text


def _loopback_up() -> None:
    """In a network of its own even this machine is not reachable at first."""
    with socket.socket() as probe:
        try:
            probe.connect(("127.0.0.1", 9))
        except ConnectionRefusedError:
            return
        except OSError:
            subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
