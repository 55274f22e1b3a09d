"""Several delivery processes and their parent, which starts, watches, replaces and ends them, and delivers nothing.

A process is started anew by the parent's own command line, never forked, and tied to the parent by a socket
(delivery_consumer/tie.py). See docs/decisions/0011-delivery-processes-have-a-parent.md.
"""

import contextlib
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from typing import Final

import orjson

from delivery_consumer.settings import Settings
from delivery_consumer.tie import SERVICE, Tie, share_counts
from shared import runtime_dir
from shared.lifecycle import DRAIN_S, run_beside, stop_on_signals
from shared.runtime_dir import RuntimeDir
from shared.settings import EXIT_BAD_CONFIGURATION
from shared.telemetry import HealthServer, exposition_of, forget_gauges, set_up_logging

log = logging.getLogger(__name__)

STEADY_S: Final = 60.0
"""A process that ran for so long was in order: its end is a first one again."""
LONGEST_PAUSE_S: Final = 30.0
HOPELESS_AFTER: Final = 8
"""A process that ends so many times in a row, never steady, needs more than another start: about a minute of pauses."""
SILENT_S: Final = 10.0
KILL_AFTER_S: Final = DRAIN_S + 5
"""A process asked to stop has this long; the grace of a container is longer."""


def pause_s(ends: int) -> float:
    """Return how long to wait before the next start, after so many ends in a row: 0, 1, 2, 4 ... 30 s."""
    return 0.0 if ends < 2 else min(2.0 ** (ends - 2), LONGEST_PAUSE_S)


class Kept:
    """One of the processes: started, listened to, and started again when it has ended."""

    def __init__(
        self,
        number: int,
        command: Sequence[str],
        directory: RuntimeDir,
        stop: threading.Event,
        *,
        replaced: Callable[[], None],
    ) -> None:
        self.name = f"process_{number}"
        self.exit_code = 0  # of the process that ran when `stop` was set, or why there will be no other
        self._number, self._command, self._directory = number, command, directory
        self._stop, self._replaced = stop, replaced
        self._lock = threading.Lock()
        self._process: subprocess.Popen[bytes] | None = None
        self._heard: tuple[float, dict[str, str]] | None = None

    def fault(self) -> str | None:
        """Say what is wrong, as a readiness check does. Safe from any thread."""
        if (heard := self._heard) is None:
            return "not up yet"
        at, verdicts = heard
        if time.monotonic() - at > SILENT_S:
            return "does not answer"
        return "; ".join(f"{name}: {verdict}" for name, verdict in verdicts.items() if verdict != "ok") or None

    def keep(self) -> None:
        """Keep it running until `stop` is set, or until it is hopeless: then `stop` is set for all."""
        ends = 0
        while not self._stop.is_set():
            started_at = time.monotonic()
            code = self._run()
            if self._stop.is_set():
                self.exit_code = code
                return
            ends = 1 if time.monotonic() - started_at >= STEADY_S else ends + 1
            ended = {"process_number": self._number, "exit_code": code}
            if code == EXIT_BAD_CONFIGURATION or ends == HOPELESS_AFTER:
                self.exit_code = code or 1
                log.error("process_given_up", extra=ended)
                self._stop.set()
                return
            self._replaced()
            log.error("process_ended", extra={**ended, "started_again_in_s": pause_s(ends)})
            self._stop.wait(pause_s(ends))

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal, once `stop` is set: nothing is started after that."""
        with self._lock:
            if self._process is not None:
                self._process.send_signal(signum)

    def _run(self) -> int:
        """Run one process from its start to its end; return its exit code, 1 if it could not be started."""
        ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                process = self._start(theirs)
            if process is None:
                return int(not self._stop.is_set())
            with contextlib.suppress(ConnectionError), ours.makefile("rb") as lines:
                for line in lines:
                    self._hear(line)
            code = process.wait()
        self._heard = None
        forget_gauges(self._directory.counts, self._number)
        return code

    def _start(self, theirs: socket.socket) -> "subprocess.Popen[bytes] | None":
        tie = Tie(self._number, theirs.fileno(), self._directory.counts)
        with self._lock:
            if self._stop.is_set():
                return None
            try:
                self._process = subprocess.Popen(  # noqa: S603 - the command line of this very process
                    self._command,
                    env=os.environ | tie.environ(),
                    pass_fds=(theirs.fileno(), self._directory.lock_fd),
                )
            except OSError as error:
                log.error("process_not_started", extra={"process_number": self._number, "reason": error.strerror})
                return None
            return self._process

    def _hear(self, line: bytes) -> None:
        with contextlib.suppress(orjson.JSONDecodeError):  # cut off while we were stopped
            self._heard = (time.monotonic(), orjson.loads(line))


class Parent:
    """All of the processes."""

    def __init__(
        self,
        command: Sequence[str],
        count: int,
        directory: RuntimeDir,
        stop: threading.Event,
        *,
        replaced: Callable[[], None],
    ) -> None:
        numbers = range(1, count + 1)
        self._stop = stop
        self._kept = [Kept(number, command, directory, stop, replaced=replaced) for number in numbers]
        self.checks = {one.name: one.fault for one in self._kept}

    def run(self) -> int:
        """Keep them running until `stop` is set, then have them drain; return the exit code for all."""
        keepers = [run_beside(one.name, one.keep, self._stop) for one in self._kept]
        self._stop.wait()
        for one in self._kept:
            one.signal(signal.SIGTERM)  # a second SIGINT would mean haste; a terminal has sent the first to all
        deadline = time.monotonic() + KILL_AFTER_S
        for number, (one, keeper) in enumerate(zip(self._kept, keepers, strict=True), 1):
            keeper.join(max(deadline - time.monotonic(), 0))
            if keeper.is_alive():
                log.error("process_killed", extra={"process_number": number})
                one.signal(signal.SIGKILL)
                keeper.join()
        codes = [1 if keeper.failed else one.exit_code for one, keeper in zip(self._kept, keepers, strict=True)]
        if EXIT_BAD_CONFIGURATION in codes:
            return EXIT_BAD_CONFIGURATION
        return int(any(codes))


def run_processes(settings: Settings) -> int:
    """Deliver with `settings.processes` processes until SIGTERM; return the exit code.

    0: all have drained. 2: one found its configuration wrong, or the port is taken. 1: one was hopeless, or did not
    drain.
    """
    service = settings.service
    set_up_logging(SERVICE, service.log_level)
    stop = stop_on_signals()
    with runtime_dir.held("notify-delivery") as directory:
        share_counts(directory.counts, 0)
        from delivery_consumer.metrics import PROCESSES_REPLACED  # noqa: PLC0415 - not before counts are shared

        command = [sys.executable, *sys.orig_argv[1:]]
        parent = Parent(command, settings.processes, directory, stop, replaced=PROCESSES_REPLACED.inc)
        health = HealthServer(
            SERVICE,
            service.bind_host,
            service.port,
            parent.checks,
            exposition=lambda: exposition_of(directory.counts),
        )
        log.info("started", extra={"port": service.port, "processes": settings.processes})
        try:
            code = parent.run()
        finally:
            health.close()
    log.info("stopped")
    return code
