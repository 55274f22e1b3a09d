"""Each image holds what its service needs, replayed without Docker: what it copies, what its lock installs."""

import importlib.metadata
import json
import os
import shutil
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from tests.dockerfiles import EXTRAS, REPOSITORY, dockerfile_of, locked, normalised

# Runs in a process whose path holds the copied files alone, and refuses any distribution that the lock does not name.
GUARDED = """
import importlib.abc, importlib.metadata, json, os, pkgutil, runpy, sys

service, allowed, own = sys.argv[1], set(json.loads(os.environ.pop("ALLOWED"))), {"shared", sys.argv[1]}


class Refusal(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in allowed | own | set(sys.stdlib_module_names) and not top.startswith("_"):
            raise ModuleNotFoundError(f"{name} is not in this image", name=name)


sys.meta_path.insert(0, Refusal())
sys.path.insert(0, os.getcwd())
"""
IMPORT_ALL = """
package = __import__(service)
for module in pkgutil.walk_packages(package.__path__, f"{service}."):
    __import__(module.name)
print(package.__file__)
"""
RUN = """
sys.argv = [service]
runpy.run_module(service, run_name="__main__", alter_sys=True)
"""


@pytest.fixture(params=EXTRAS)
def service(request: pytest.FixtureRequest) -> str:
    """Each service by name."""
    return str(request.param)


@pytest.fixture
def image(service: str, tmp_path: Path) -> Path:
    """A directory with what the image's last stage copies from the repository, and nothing else."""
    for source, target in dockerfile_of(service).copied:
        ignored = shutil.ignore_patterns("__pycache__", "Dockerfile")
        shutil.copytree(REPOSITORY / source, tmp_path / target, ignore=ignored)
    return tmp_path


def run(service: str, program: str, image: Path, **environ: str) -> "subprocess.CompletedProcess[str]":
    """Run a program in an image's files, with the distributions of its lock."""
    modules = importlib.metadata.packages_distributions()
    installed = locked(EXTRAS[service])
    allowed = [name for name, owners in modules.items() if any(normalised(owner) in installed for owner in owners)]
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "LANG") if name in os.environ}
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", GUARDED + program, service],
        cwd=image,
        env={**inherited, "ALLOWED": json.dumps(allowed), "PYTHONSAFEPATH": "1", **environ},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


def test_every_module_is_importable_from_what_the_image_holds(service: str, image: Path) -> None:
    """A stray import of another service, or of a distribution that its lock lacks, cannot start."""
    done = run(service, IMPORT_ALL, image)

    assert (done.returncode, done.stderr) == (0, "")
    assert Path(done.stdout.strip()) == image / service / "__init__.py"


def test_a_bad_setting_is_named_and_ends_the_service_with_2(service: str, image: Path) -> None:
    """`python -m <service>` gets as far as reading its settings."""
    done = run(service, RUN, image, LOG_LEVEL="loud", DB_PORT="none")

    assert done.returncode == 2, done.stderr
    assert f"{service} cannot start" in done.stderr
    assert "LOG_LEVEL: 'loud'" in done.stderr
    assert "DB_PORT: 'none'" in done.stderr


def test_the_packages_are_installed_from_hashes_and_nothing_is_compiled(service: str) -> None:
    """The lock of the service's own extra."""
    dockerfile = dockerfile_of(service)
    install = next(line for line in dockerfile.all("RUN") if "pip" in line and "install" in line)

    assert f"locks/{EXTRAS[service]}.txt /lock.txt" in dockerfile.all("COPY")
    assert {"--require-hashes", "--only-binary=:all:", "/lock.txt"} <= set(install.split())


def test_it_holds_shared_and_its_own_package_alone(service: str) -> None:
    """An image carries no other service, no test, no secret."""
    assert dockerfile_of(service).copied == [("shared/", "shared/"), (f"{service}/", f"{service}/")]


def test_it_drops_root_and_gets_signals_itself(service: str) -> None:
    """A numeric user, which Kubernetes can check, and no shell between SIGTERM and Python."""
    dockerfile = dockerfile_of(service)

    assert dockerfile.final("USER") == ["10001:10001"]
    assert dockerfile.final("CMD") == [f'["python", "-m", "{service}"]']
    assert dockerfile.final("STOPSIGNAL") == ["SIGTERM"]
    assert dockerfile.final("ENTRYPOINT") == []


def test_both_stages_have_the_same_base(service: str) -> None:
    """Or the virtual environment of the first would point at a Python the second has not."""
    bases = {rest.split()[0] for rest in dockerfile_of(service).all("FROM")}

    assert bases == {"python:3.12-slim-bookworm"}


@contextmanager
def answering(status: int) -> Iterator[tuple[int, list[str]]]:
    """A server that answers all requests with one status; yields its port and the paths asked for."""
    asked: list[str] = []

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            asked.append(self.path)
            self.send_response(status)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the name the base class gives it
            """Say nothing."""

    with HTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server.server_port, asked
        server.shutdown()


PORT_VARIABLES = {
    "api_service": ["API_PORT", "PORT"],
    "outbox_relay": ["RELAY_PORT"],
    "delivery_consumer": ["DELIVERY_PORT"],
    "dlq_consumer": ["DLQ_PORT"],
}


@pytest.mark.parametrize(("status", "exit_code"), [(200, 0), (503, 1)])
def test_the_health_check_asks_whether_the_process_lives(service: str, status: int, exit_code: int) -> None:
    """At the port of its variable, straight, whatever proxy is set for the way out."""
    command = dockerfile_of(service).healthcheck
    assert command[0] == "python"

    for variable in PORT_VARIABLES[service]:
        with answering(status) as (port, asked):
            environ = {"PATH": os.environ["PATH"], variable: str(port), "http_proxy": "http://127.0.0.1:1"}
            done = subprocess.run([sys.executable, *command[1:]], env=environ, capture_output=True, check=False)
        assert (done.returncode, asked) == (exit_code, ["/health/live"]), done.stderr


def test_the_health_check_falls_back_to_the_default_port(service: str) -> None:
    """The one that is exposed."""
    dockerfile = dockerfile_of(service)

    assert f"or {dockerfile.final('EXPOSE')[0]}}}/health/live" in dockerfile.healthcheck[2]
