"""One PostgreSQL and one Kafka for a whole test session, shared by its processes and gone with the last of them.

Each server belongs to a host process of its own (`python -m infra.local.testbed postgres DIRECTORY`). Who uses it holds
a shared lock on a lease file; the host looks for the moment when nobody does, and ends. The kernel drops the lock of a
process that is killed, so there is no count that could be left wrong.
"""

import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Literal

from infra.local.errors import LocalStackError
from infra.local.kafka import Kafka
from infra.local.kafka_jars import exclusive
from infra.local.postgres import Postgres
from infra.local.processes import Supervisor

REPOSITORY = Path(__file__).resolve().parents[2]
TEMPLATE_DATABASE = "template_notifications"
VERSION_VARIABLE = "TEST_POSTGRES_VERSION"  # 18 (default) or 16
_POLL_S = 0.1
_START_TIMEOUT_S = 300.0  # the first start fetches Kafka's jars

Server = Literal["postgres", "kafka"]


@contextmanager
def lease(server: Server, directory: Path) -> Iterator[dict[str, Any]]:
    """Share a server with all that name the same directory, starting it if need be; yield how to reach it.

    Safe from several processes at once, and again after the last lease ended. Raises LocalStackError.
    """
    directory.mkdir(parents=True, exist_ok=True)
    with (directory / f"{server}.lease").open("a") as leased:
        fcntl.flock(leased, fcntl.LOCK_SH)  # waits while a host that found nobody left is on its way out
        with exclusive(directory / f"{server}.start"):
            if not is_held(directory / f"{server}.host"):
                _start_host(server, directory)
        yield json.loads((directory / f"{server}.json").read_text())


def is_held(path: Path) -> bool:
    """Say whether some living process holds an exclusive lock on a file."""
    with path.open("a") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return True
    return False


def _start_host(server: Server, directory: Path) -> None:
    address, log = directory / f"{server}.json", directory / f"{server}-host.log"
    address.unlink(missing_ok=True)
    with log.open("wb") as output:
        host = subprocess.Popen(
            [sys.executable, "-m", "infra.local.testbed", server, str(directory)],
            cwd=REPOSITORY,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            start_new_session=True,  # Ctrl-C is for the tests; they still need the server to clean up
        )
    deadline = time.monotonic() + _START_TIMEOUT_S
    while not address.exists():
        if host.poll() is not None or time.monotonic() > deadline:
            raise LocalStackError(f"{server} did not start for the tests: {log.read_text(errors='replace').strip()}")
        time.sleep(_POLL_S / 2)
    host.returncode = 0  # it outlives us if others use it: not ours to wait for


def host(server: Server, directory: Path) -> None:
    """Run one server until nobody leases it, then remove its data."""
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, lambda *_: sys.exit(1))
    data_dir, address = directory / f"{server}-data", directory / f"{server}.json"
    with ExitStack() as stack:
        held = stack.enter_context((directory / f"{server}.host").open("a"))
        fcntl.flock(held, fcntl.LOCK_EX)
        shutil.rmtree(data_dir, ignore_errors=True)  # of a host that was killed
        stack.callback(shutil.rmtree, data_dir, ignore_errors=True)
        stack.callback(address.unlink, missing_ok=True)
        supervisor = stack.enter_context(Supervisor(directory / "logs"))
        reachable = _run_postgres(data_dir, supervisor) if server == "postgres" else _run_kafka(data_dir, supervisor)
        written = address.with_suffix(".new")
        written.write_text(json.dumps({**reachable, "host_pid": os.getpid()}))
        written.replace(address)
        leased = stack.enter_context((directory / f"{server}.lease").open("a"))
        _wait_until_unused(leased.fileno())


def _wait_until_unused(lease_fd: int) -> None:
    """Return once nobody holds the lease, holding it exclusively: new users wait until this process is gone."""
    while True:
        try:
            fcntl.flock(lease_fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(_POLL_S)
        else:
            return


def _run_postgres(data_dir: Path, supervisor: Supervisor) -> dict[str, Any]:
    version = int(os.environ.get(VERSION_VARIABLE, "18"))
    postgres = Postgres(data_dir, supervisor, version=version)
    postgres.start()
    postgres.create_database(TEMPLATE_DATABASE)
    postgres.install_schema(TEMPLATE_DATABASE)
    return {"port": postgres.port, "password": postgres.password, "template": TEMPLATE_DATABASE, "version": version}


def _run_kafka(data_dir: Path, supervisor: Supervisor) -> dict[str, Any]:
    # Many short-lived topics: a fresh segment's index files are preallocated, 10 MB each by default.
    kafka = Kafka(data_dir, supervisor, settings={"log.index.size.max.bytes": 256 * 1024})
    kafka.start()
    return {"bootstrap_servers": kafka.bootstrap_servers}


def main() -> None:
    """Host the server named on the command line."""
    server, directory = sys.argv[1:]
    if server not in ("postgres", "kafka"):
        sys.exit(f"{server!r} is no server; expected postgres or kafka")
    try:
        host("postgres" if server == "postgres" else "kafka", Path(directory))
    except LocalStackError as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
