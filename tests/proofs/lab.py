"""The stack a proof runs on, with a receiver of its own, and what can be read from both."""

import argparse
import shutil
import signal
import sys
import tempfile
import threading
import time
import urllib.request
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from types import FrameType
from typing import Any, LiteralString, NamedTuple

import click
import orjson
import psycopg

from infra.local.callers import WITHOUT_LIMITS
from infra.local.errors import LocalStackError
from infra.local.ports import free_port
from infra.local.stack import DATABASE, Ports, Stack
from tests.arguments import at_least
from tests.proofs.receiver import Row, addresses

ENDED = ("sent", "cancelled", "expired", "suppressed")


class RunError(Exception):
    """The proof could not be carried through: it neither held nor failed."""


class Entrance(NamedTuple):
    """What a client of the API needs."""

    port: int
    key: str


class Lab:
    """A running stack in a directory of its own, and a receiver that listens on `origins` loopback addresses."""

    def __init__(self, stack: Stack, *, origins: int) -> None:
        self.stack = stack
        self.hosts = addresses(origins)
        self.port, self._control_port = free_port(), free_port()

    @property
    def entrance(self) -> "Entrance":
        """Where the API listens, and what opens it."""
        return Entrance(self.stack.ports.api, self.stack.api_key)

    def url(self, number: int) -> str:
        """The webhook URL of the origin with this number, counted round."""
        return f"http://{self.hosts[number % len(self.hosts)]}:{self.port}/hook"

    def start_receiver(self) -> None:
        """Start the receiver and return once it answers."""
        command = [sys.executable, "-m", "tests.proofs.receiver", f"--port={self.port}"]
        command += [f"--control-port={self._control_port}", f"--count={len(self.hosts)}"]
        environ = self.stack.service_environ()
        receiver = self.stack.supervisor.process("receiver", command, env=environ, cwd=self.stack.data_dir)
        receiver.start().wait_healthy(f"http://127.0.0.1:{self._control_port}/health/ready")

    def behave(self, answer: int | str, *, hosts: Sequence[str] | None = None, delay_s: float = 0.0) -> None:
        """Tell the receiver what to answer: a status, or hang."""
        self._control("/behave", orjson.dumps({"hosts": hosts, "answer": answer, "delay_s": delay_s}))

    def ledger(self, *, since: int = 0) -> list[Row]:
        """What the receiver saw, from the row with this number on, in order of arrival."""
        return [Row(*row) for row in orjson.loads(self._control(f"/ledger?since={since}"))]

    def _control(self, path: str, body: bytes | None = None) -> bytes:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        with opener.open(f"http://127.0.0.1:{self._control_port}{path}", body, timeout=60) as answer:
            return bytes(answer.read())

    def rows(self, query: LiteralString, *parameters: Any) -> list[tuple[Any, ...]]:
        """Rows of a query; instants should be selected as `extract(epoch FROM ...)::float8`."""
        with psycopg.connect(self.stack.postgres.dsn(DATABASE), autocommit=True) as conn:
            return conn.execute(query, parameters or None).fetchall()

    def counts(self) -> dict[str, int]:
        """How many notifications stand where."""
        return dict(self.rows("SELECT status, count(*) FROM notifications GROUP BY status"))

    def unended(self, *, accepted_before: float | None = None) -> int:
        """How many notifications may still be sent by themselves; a dead letter at rest waits for a person only."""
        query: LiteralString = """
            SELECT count(*) FROM notifications n
             WHERE status <> ALL(%(ended)s) AND created_at < to_timestamp(%(before)s)
               AND NOT (status = 'failed' AND EXISTS (
                   SELECT FROM dlq_messages d WHERE d.notification_id = n.id AND d.attempt >= n.attempt
                                                AND d.status = 'failed' AND d.retry_at IS NULL))"""
        before = time.time() + 60 if accepted_before is None else accepted_before
        with psycopg.connect(self.stack.postgres.dsn(DATABASE), autocommit=True) as conn:
            row = conn.execute(query, {"ended": list(ENDED), "before": before}).fetchone()
        return int(row[0]) if row else 0

    def wait_ended(self, *, timeout_s: float) -> float:
        """Wait until all notifications have ended; return the seconds, infinity if time was up."""
        began = time.monotonic()
        ended = until(lambda: self.unended() == 0, timeout_s=timeout_s, poll_s=0.25)
        return time.monotonic() - began if ended else float("inf")

    def server_version(self) -> str:
        """PostgreSQL's version."""
        return str(self.rows("SHOW server_version")[0][0])


@contextmanager
def lab(environ: dict[str, str], *, origins: int = 1, keep_logs: str | None = None) -> Iterator[Lab]:
    """Start everything in a temporary directory, and end and remove it whatever happens."""
    directory = Path(tempfile.mkdtemp(prefix="proof-"))
    started = time.monotonic()
    try:
        with Stack(directory, Ports.choose({}), environ=WITHOUT_LIMITS | environ, say=lambda _: None) as stack:
            running = Lab(stack, origins=origins)
            running.start_receiver()
            say(f"the stack is up after {time.monotonic() - started:.1f} s")
            yield running
    finally:
        if keep_logs:
            shutil.copytree(directory / "logs", keep_logs, dirs_exist_ok=True)
        shutil.rmtree(directory, ignore_errors=True)


def parser(module_doc: str | None, *, limit_s: int) -> argparse.ArgumentParser:
    """The options every proof has."""
    made = argparse.ArgumentParser(
        prog="python -m tests.proofs", description=module_doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("--json", metavar="FILE", help="write the report there as well")
    made.add_argument("--seed", type=int, default=1)
    made.add_argument(
        "--limit-s", type=at_least(1), default=limit_s, help="end the run after so long, as failed (%(default)s)"
    )
    made.add_argument("--keep-logs", metavar="DIR", help="copy the services' logs there at the end")
    return made


def bounded(run: Callable[[], int], *, limit_s: int) -> int:
    """Run a proof, but not for longer than `limit_s`; 1 as well when it could not be carried through."""

    def stop(signum: int, frame: FrameType | None) -> None:
        raise RunError(f"not done after {limit_s} s" if signum == signal.SIGALRM else "asked to stop")

    for signum in (signal.SIGALRM, signal.SIGTERM):
        signal.signal(signum, stop)
    signal.alarm(limit_s)
    try:
        return run()
    except (RunError, LocalStackError) as error:
        click.echo(f"The run was broken off: {error}", err=True)
        return 1
    except KeyboardInterrupt:
        return 130
    finally:
        signal.alarm(0)


def say(text: str) -> None:
    """Tell how far the run is."""
    click.echo(f"  {time.strftime('%H:%M:%S', time.gmtime())}  {text}", err=True)


def until(look: Callable[[], bool], *, timeout_s: float, poll_s: float = 0.05) -> bool:
    """Wait for a condition; say whether it came true in time."""
    deadline = time.monotonic() + timeout_s
    while not look():
        if time.monotonic() > deadline:
            return False
        time.sleep(poll_s)
    return True


class Sampler:
    """Reads a number every so often on a thread of its own; what cannot be read is left out."""

    def __init__(self, read: Callable[[], float], *, every_s: float = 0.25) -> None:
        self._read, self._every_s = read, every_s
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.samples: list[tuple[float, float]] = []  # Unix time, value

    def __enter__(self) -> "Sampler":
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._stop.wait(self._every_s):
            with suppress(OSError, psycopg.Error, ValueError):
                self.samples.append((time.time(), self._read()))

    def between(self, begin: float, end: float) -> list[float]:
        """The values read in an interval."""
        return [value for at, value in self.samples if begin <= at < end]


def rss_mib(pid: int) -> float:
    """Resident memory of a process in MiB (Linux). Raises OSError for one that has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) / 1024
    raise ValueError("no VmRSS")
