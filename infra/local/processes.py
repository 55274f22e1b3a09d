"""Child processes that can be started, hurt and restarted, and that never outlive whoever started them.

Three things end a child when its supervisor goes: `Supervisor.close()` on every orderly way out, the kernel
(PR_SET_PDEATHSIG, Linux) and the watchdog child (everywhere, see watchdog.py) when the supervisor was killed.
"""

import functools
import http.client
import os
import pwd
import queue
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from infra.local import watchdog
from infra.local.errors import LocalStackError

_POLL_S = 0.02
_LOG_LINES_SHOWN = 15


class Supervisor:
    """Owns a set of child processes and the watchdog that ends them should this process be killed."""

    def __init__(self, log_dir: Path) -> None:
        log_dir.mkdir(parents=True, exist_ok=True)
        self.log_dir = log_dir
        self._lock = threading.Lock()
        self._running: dict[int, ManagedProcess] = {}
        self._closed = False
        self._watchdog = subprocess.Popen(
            [sys.executable, "-I", "-S", watchdog.__file__],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
            cwd="/",
        )

    def process(
        self,
        name: str,
        argv: Sequence[str | os.PathLike[str]],
        *,
        env: Mapping[str, str] | None = None,
        cwd: Path | None = None,
        stop_signal: signal.Signals = signal.SIGTERM,
        death_signal: signal.Signals = signal.SIGKILL,
        unprivileged: bool = False,
    ) -> "ManagedProcess":
        """Describe a process without starting it.

        `stop_signal` asks it to end in order; `death_signal` is what it gets when this supervisor is killed.
        `unprivileged`: a process that refuses to be root runs as the user of `privilege_drop()`.
        """
        return ManagedProcess(
            self,
            name,
            [str(part) for part in argv],
            env=env,
            cwd=cwd,
            stop_signal=stop_signal,
            death_signal=death_signal,
            unprivileged=unprivileged,
        )

    def close(self, *, timeout_s: float = 25.0) -> None:
        """End everything still running, newest first, and then the watchdog; harmless to repeat."""
        with self._lock:
            self._closed = True
        for process in reversed(list(self._running.values())):
            process.terminate(timeout_s=timeout_s)
        if self._watchdog.stdin is not None and not self._watchdog.stdin.closed:
            self._watchdog.stdin.close()
        self._watchdog.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def started(self, process: "ManagedProcess") -> None:
        """Have the watchdog know a process that has just been started; after close() there is no place for it."""
        with self._lock:
            if not self._closed:
                self._running[process.pid] = process
                self._tell_watchdog(f"+ {process.pid} {int(process.death_signal)}\n")
                return
        process.kill()
        raise LocalStackError(f"{process.name} was not started: everything is being ended.")

    def ended(self, pid: int) -> bool:
        """Have the watchdog forget a process that has been reaped; return whether that is news."""
        with self._lock:
            known = self._running.pop(pid, None) is not None
            if known:
                self._tell_watchdog(f"- {pid}\n")
        return known

    def _tell_watchdog(self, line: str) -> None:
        pipe = self._watchdog.stdin
        if pipe is not None and not pipe.closed:
            with suppress(BrokenPipeError):  # somebody killed the watchdog: the orderly ways out still work
                pipe.write(line.encode())
                pipe.flush()


class ManagedProcess:
    """One child, leader of its own session and process group, logging to `<log_dir>/<name>.log`."""

    def __init__(
        self,
        supervisor: Supervisor,
        name: str,
        argv: list[str],
        *,
        env: Mapping[str, str] | None,
        cwd: Path | None,
        stop_signal: signal.Signals,
        death_signal: signal.Signals,
        unprivileged: bool,
    ) -> None:
        self.name = name
        self.argv = argv
        self.death_signal = death_signal
        self.log_path = supervisor.log_dir / f"{name}.log"
        self._supervisor = supervisor
        self._env = env
        self._cwd = cwd
        self.stop_signal = stop_signal
        self._unprivileged = unprivileged
        self._child: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int:
        """The pid of the present run. Raises LocalStackError before the first start."""
        if self._child is None:
            raise LocalStackError(f"{self.name} has not been started.")
        return self._child.pid

    @property
    def is_running(self) -> bool:
        """Whether the present run goes on; a stopped (SIGSTOP) process counts as running."""
        return self._child is not None and self.returncode is None

    @property
    def returncode(self) -> int | None:
        """How the present run ended (negative: the signal that ended it), None while it goes on."""
        if self._child is None:
            return None
        code = self._child.poll()
        if code is not None and self._supervisor.ended(self._child.pid):
            watchdog.signal_group(self._child.pid, signal.SIGKILL)  # workers that outlived their master
        return code

    def start(self) -> Self:
        """Start it and return at once. Raises LocalStackError when it runs already."""
        if self.is_running:
            raise LocalStackError(f"{self.name} is running already.")
        self._child = _SPAWNER.call(self._spawn)
        self._supervisor.started(self)
        return self

    def _spawn(self) -> "subprocess.Popen[bytes]":
        with self.log_path.open("ab") as log:
            return subprocess.Popen(
                [*_launcher(self.death_signal, unprivileged=self._unprivileged), *self.argv],
                env=None if self._env is None else dict(self._env),
                cwd=self._cwd,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def terminate(self, *, timeout_s: float = 25.0) -> int | None:
        """Ask it to end, wait, and kill it when it has not after `timeout_s`; return its exit code."""
        if self._child is not None and self.is_running:
            watchdog.signal_process(self.pid, self.stop_signal)
            self.resume()
            try:
                self._child.wait(timeout_s)
            except subprocess.TimeoutExpired:
                self.kill()
        return self.returncode

    def kill(self) -> None:
        """SIGKILL the process with everything below it, and return once all of it is gone."""
        if self._child is None:
            return
        everything = [self.pid, *watchdog.descendants(self.pid)] if self.is_running else []
        watchdog.signal_group(self.pid, signal.SIGKILL)
        for pid in everything[1:]:
            watchdog.signal_process(pid, signal.SIGKILL)
        self._child.wait()
        while any(watchdog.is_alive(pid) for pid in everything[1:]):
            time.sleep(_POLL_S)
        self._supervisor.ended(self.pid)

    def send_signal(self, signum: signal.Signals) -> None:
        """Send a signal to the process alone, not to what it started."""
        watchdog.signal_process(self.pid, signum)

    def pause(self) -> None:
        """SIGSTOP the process and everything below it: it answers nothing, and its connections stay open."""
        self._signal_everything(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT the process and everything below it."""
        self._signal_everything(signal.SIGCONT)

    def _signal_everything(self, signum: signal.Signals) -> None:
        if self.is_running:
            for pid in (self.pid, *watchdog.descendants(self.pid)):
                watchdog.signal_process(pid, signum)

    def restart(self) -> None:
        """End it in order if it runs, then start it again with the same command."""
        self.terminate()
        self.start()

    def wait_until(self, ready: Callable[[], bool], *, timeout_s: float, poll_s: float = 0.05) -> None:
        """Return once `ready()`. Raises LocalStackError, with the log's end, if it exits first or time is up."""
        deadline = time.monotonic() + timeout_s
        while not ready():
            if not self.is_running:
                raise LocalStackError(f"{self.name} exited with code {self.returncode}.{self._log_tail()}")
            if time.monotonic() > deadline:
                raise LocalStackError(f"{self.name} was not ready after {timeout_s:.0f} s.{self._log_tail()}")
            time.sleep(poll_s)

    def wait_healthy(self, url: str, *, timeout_s: float = 60.0) -> None:
        """Return once `url` answers 200, such as `http://127.0.0.1:8080/health/ready`."""
        self.wait_until(lambda: answers_ok(url), timeout_s=timeout_s)

    def _log_tail(self) -> str:
        lines = self.log_path.read_text(errors="replace").splitlines()[-_LOG_LINES_SHOWN:]
        return "".join(f"\n    {line}" for line in [f"The end of {self.log_path}:", *lines])


def answers_ok(url: str, *, timeout_s: float = 2.0) -> bool:
    """Say whether a GET of `url` is answered with 200; proxies of the environment are not asked."""
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(url, timeout=timeout_s) as answer:
            return bool(answer.status == 200)
    except (OSError, http.client.HTTPException, ValueError):  # the last: the URL is none
        return False


@functools.cache
def privilege_drop() -> tuple[str, ...]:
    """The command prefix under which root starts what refuses to be root; empty when we are not root.

    It becomes `nobody`, which exists everywhere, so no user is created. CAP_DAC_OVERRIDE stays where it may: a clone
    below /root, or pytest's private directories, are closed to others, and opening them up would be worse.
    """
    if os.geteuid() != 0:
        return ()
    nobody = pwd.getpwnam("nobody")
    setpriv = shutil.which("setpriv")
    if setpriv is None:
        raise LocalStackError("PostgreSQL does not run as root and `setpriv` is missing; use an ordinary user.")
    identity = (setpriv, f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups")
    with_access = (*identity, "--inh-caps=+dac_override", "--ambient-caps=+dac_override")
    allowed = subprocess.run([*with_access, "true"], capture_output=True, check=False).returncode == 0
    return with_access if allowed else identity


def _launcher(death_signal: signal.Signals, *, unprivileged: bool) -> tuple[str, ...]:
    """The command prefix that has the kernel signal a child when we die.

    A program of its own instead of Popen's preexec_fn, which may deadlock in a process with threads.
    """
    setpriv = shutil.which("setpriv") if sys.platform == "linux" else None
    prefix = privilege_drop() if unprivileged else ()
    if setpriv is None:
        return prefix
    return (*(prefix or (setpriv,)), f"--pdeathsig={death_signal.name.removeprefix('SIG')}", "--")


class _Spawner:
    """Starts children on one thread that lives as long as the process.

    The kernel sends PR_SET_PDEATHSIG when the *thread* that forked ends: a child started from a pool's worker would be
    killed when the pool shrinks. A daemon thread ends with the process, after the handlers of `atexit` have run.
    """

    def __init__(self) -> None:
        self._calls: queue.SimpleQueue[
            tuple[Callable[[], subprocess.Popen[bytes]], Future[subprocess.Popen[bytes]]]
        ] = queue.SimpleQueue()
        self._pid = 0
        self._lock = threading.Lock()

    def call(self, spawn: Callable[[], "subprocess.Popen[bytes]"]) -> "subprocess.Popen[bytes]":
        """Run `spawn` on the thread and return, or raise, what it does."""
        with self._lock:
            if self._pid != os.getpid():  # threads do not survive a fork
                self._pid = os.getpid()
                threading.Thread(target=self._run, name="spawner", daemon=True).start()
        future: Future[subprocess.Popen[bytes]] = Future()
        self._calls.put((spawn, future))
        return future.result()

    def _run(self) -> None:
        while True:
            spawn, future = self._calls.get()
            try:
                future.set_result(spawn())
            except Exception as error:  # noqa: BLE001 - raised again on the caller's thread
                future.set_exception(error)


_SPAWNER = _Spawner()
