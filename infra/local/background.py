"""The stack that `up` leaves running: a supervisor process of its own, found again by a lock and a state file.

The supervisor holds an exclusive lock for as long as it lives. The kernel drops it however the process ends, so a pid
in the state file is believed only while the lock is held: after a crash or a reboot nothing stale stands in the way.
Without these two files nobody could find the supervisor, so it ends, with everything, when they are removed.
"""

import contextlib
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TextIO

from infra.local.errors import LocalStackError
from infra.local.revival import Revival
from infra.local.stack import REPOSITORY, Ports, Stack
from infra.local.testbed import is_held

LOCAL_DIR = REPOSITORY / ".local"
_START_TIMEOUT_S = 400.0  # the first start fetches Kafka's jars
_STOP_TIMEOUT_S = 60.0
_LOOK_EVERY_S = 1.0


@dataclass(frozen=True)
class State:
    """What the supervisor says about itself."""

    phase: str  # starting, ready, failed
    pid: int
    urls: dict[str, str] = field(default_factory=dict)
    api_key: str = field(default="", repr=False)
    secrets_keys_file: str = ""  # empty: the operator's own are used
    error: str = ""
    notes: list[str] = field(default_factory=list)  # what is not where the documentation has it


class Background:
    """The one background stack of a directory."""

    def __init__(self, local_dir: Path = LOCAL_DIR) -> None:
        self.local_dir = local_dir
        self.data_dir = local_dir / "stack"
        self.log_path = local_dir / "supervisor.log"
        self._lock_path = local_dir / "supervisor.lock"
        self._state_path = local_dir / "supervisor.json"

    def state(self) -> State | None:
        """What runs now; None if nothing does."""
        if not self._lock_path.exists() or not is_held(self._lock_path):
            return None
        try:
            return State(**json.loads(self._state_path.read_text()))
        except (OSError, ValueError, TypeError):  # it has the lock and is about to write
            return State("starting", 0)

    def up(self, *, fresh: bool, say: Callable[[str], None]) -> tuple[State, bool]:
        """Have the stack running and ready; return its state and whether this call started it.

        `fresh` removes the data of earlier runs first. Raises LocalStackError; nothing stays running then.
        """
        self.local_dir.mkdir(exist_ok=True)
        state = self.state()
        if state is not None:
            if fresh:
                raise LocalStackError("The stack is running; `python -m infra.local down` before `up --fresh`.")
            return self._wait_until_ready(None, say), False
        if fresh:
            shutil.rmtree(self.data_dir, ignore_errors=True)
        self._state_path.unlink(missing_ok=True)
        with self.log_path.open("wb") as log:
            supervisor = subprocess.Popen(
                [sys.executable, "-m", "infra.local", "supervise", str(self.local_dir)],
                cwd=REPOSITORY,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # it outlives this terminal
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        try:
            state = self._wait_until_ready(supervisor, say)
        except BaseException:  # Ctrl-C as well: half a stack helps nobody
            supervisor.terminate()
            supervisor.wait(_STOP_TIMEOUT_S)
            raise
        supervisor.returncode = 0  # it outlives us: not ours to wait for
        return state, True

    def _wait_until_ready(self, supervisor: "subprocess.Popen[bytes] | None", say: Callable[[str], None]) -> State:
        deadline = time.monotonic() + _START_TIMEOUT_S
        with self.log_path.open(errors="replace") as log:
            while time.monotonic() < deadline:
                ended = self.state() is None if supervisor is None else supervisor.poll() is not None
                if supervisor is not None:
                    for line in log:
                        say(line.rstrip())
                state = self.state()
                if state is not None and state.phase == "ready":
                    return state
                if ended:
                    raise LocalStackError(self._error() or f"The stack ended while starting; see {self.log_path}.")
                time.sleep(0.1)
        raise LocalStackError(f"The stack was not ready after {_START_TIMEOUT_S:.0f} s; see {self.log_path}.")

    def _error(self) -> str:
        try:
            return str(json.loads(self._state_path.read_text())["error"])
        except (OSError, ValueError, KeyError):
            return ""

    def down(self) -> bool:
        """End the stack and everything in it; return whether there was one."""
        state = self.state()
        if state is None:
            self._state_path.unlink(missing_ok=True)
            return False
        deadline = time.monotonic() + _STOP_TIMEOUT_S
        while state is not None and time.monotonic() < deadline:
            if state.pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(state.pid, signal.SIGTERM)
            state = self._wait_for_end(seconds=5.0)
        if state is not None and state.pid:
            os.kill(state.pid, signal.SIGKILL)  # its watchdog ends the rest
            state = self._wait_for_end(seconds=10.0)
        if state is not None:
            raise LocalStackError(f"The stack could not be ended; its supervisor has the pid {state.pid}.")
        self._state_path.unlink(missing_ok=True)
        return True

    def _wait_for_end(self, *, seconds: float) -> State | None:
        deadline = time.monotonic() + seconds
        while (state := self.state()) is not None and time.monotonic() < deadline:
            time.sleep(0.05)
        return state

    def supervise(self, environ: Mapping[str, str]) -> None:
        """Run the stack in this process until SIGTERM, or until its files are removed; what ends is started again."""
        self.local_dir.mkdir(exist_ok=True)
        with self._lock_path.open("a") as lock:
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                raise LocalStackError("The stack is running already.") from error
            with ended_by_signals():
                try:
                    self._run(environ, lock)
                except LocalStackError as error:
                    self._write(phase="failed", error=str(error))  # for `up`, which says it
                    sys.exit(2)

    def _run(self, environ: Mapping[str, str], lock: TextIO) -> None:
        self._write(phase="starting")
        ports = Ports.choose(environ, documented=True)
        with Stack(self.data_dir, ports, environ=environ) as stack:
            if self._can_be_found(lock):
                found = {"api_key": stack.api_key, "secrets_keys_file": stack.secrets_keys_file}
                self._write(phase="ready", urls=stack.urls, notes=ports.moved(environ), **found)
            revival = Revival(stack.processes, lambda line: print(line, flush=True))
            while self._can_be_found(lock):
                revival.run_once()
                time.sleep(_LOOK_EVERY_S)
            print(f"The files in {self.local_dir} were removed; the stack ends.", flush=True)

    def _can_be_found(self, lock: TextIO) -> bool:
        """Say whether `down` could still find this supervisor: its state, and the very lock file that it holds."""
        try:
            self._state_path.stat()
            return os.path.samestat(self._lock_path.stat(), os.fstat(lock.fileno()))
        except OSError:
            return False

    def _write(self, **fields: Any) -> None:
        unfinished = self._state_path.with_suffix(".new")
        unfinished.touch(mode=0o600)  # the database's password is in there, and the API key
        unfinished.write_text(json.dumps({"pid": os.getpid(), **fields}))
        unfinished.replace(self._state_path)


@contextmanager
def ended_by_signals() -> Iterator[None]:
    """Have SIGTERM and SIGHUP raise SystemExit in the main thread, as Ctrl-C raises KeyboardInterrupt."""

    def leave(signum: int, _frame: object) -> None:
        raise SystemExit(128 + signum)

    before = {signum: signal.signal(signum, leave) for signum in (signal.SIGTERM, signal.SIGHUP)}
    try:
        yield
    finally:
        for signum, handler in before.items():
            signal.signal(signum, handler)
