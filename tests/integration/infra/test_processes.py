"""Nothing that was started is left behind, however its supervisor ends."""

import os
import signal
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.local import watchdog
from infra.local.errors import LocalStackError
from infra.local.processes import Supervisor, answers_ok
from infra.local.testbed import REPOSITORY

# A child that ends at once when asked to, and a grandchild that does not listen: a server and a stuck worker.
FAMILY = """
import subprocess, sys, time
deaf = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
subprocess.Popen([sys.executable, "-c", deaf])
print("ready", flush=True)
time.sleep(600)
"""
# Supervises a PostgreSQL and a family, prints the pids, and waits. argv: directory, "main" or "thread", how to end.
PARENT = """
import signal, sys, threading, time
signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell's background job was started to ignore it
from pathlib import Path
from infra.local import watchdog
from infra.local.background import ended_by_signals
from infra.local.postgres import Postgres
from infra.local.processes import Supervisor, answers_ok

directory, family = Path(sys.argv[1]), sys.argv[2]
with ended_by_signals(), Supervisor(directory / "logs") as supervisor:
    def start():
        Postgres(directory / "postgres", supervisor).start()
        process = supervisor.process("family", [sys.executable, "-c", family]).start()
        process.wait_until(lambda: len(watchdog.descendants(process.pid)) == 1, timeout_s=20)
    starter = threading.Thread(target=start)  # a thread that ends must not take its children along
    starter.start()
    starter.join()
    time.sleep(0.3)
    import os
    print(*watchdog.descendants(os.getpid()), flush=True)
    if sys.argv[3] == "return":
        sys.exit(0)
    if sys.argv[3] == "raise":
        raise RuntimeError("on purpose")
    time.sleep(600)
"""


@pytest.fixture
def supervisor(tmp_path: Path) -> Iterator[Supervisor]:
    """A supervisor whose processes end with the test."""
    with Supervisor(tmp_path / "logs") as supervisor:
        yield supervisor


@pytest.mark.parametrize("ending", ["return", "raise", "SIGINT", "SIGTERM", "SIGHUP", "SIGKILL"])
def test_nothing_is_left_however_the_parent_ends(tmp_path: Path, ending: str) -> None:
    """Neither PostgreSQL's backends nor a grandchild that ignores signals, nor the watchdog."""
    parent = subprocess.Popen(
        [sys.executable, "-c", PARENT, str(tmp_path), FAMILY, ending],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert parent.stdout is not None
    started = [int(pid) for pid in parent.stdout.readline().split()]

    if ending.startswith("SIG"):
        parent.send_signal(signal.Signals[ending])
    parent.wait(30)
    parent.stdout.close()

    assert len(started) >= 8  # watchdog, postgres and its workers, family of two
    _wait_for_end(started)


def test_a_stopped_child_is_ended_as_well(tmp_path: Path) -> None:
    """SIGSTOP holds back every signal but SIGKILL; the watchdog knows."""
    script = textwrap.dedent("""
        import os, sys, time
        from pathlib import Path
        from infra.local import watchdog
        from infra.local.processes import Supervisor, answers_ok
        supervisor = Supervisor(Path(sys.argv[1]))
        process = supervisor.process("sleeper", ["sleep", "600"]).start()
        process.pause()
        print(*watchdog.descendants(os.getpid()), flush=True)
        time.sleep(600)
    """)
    parent = subprocess.Popen(
        [sys.executable, "-c", script, str(tmp_path)], cwd=REPOSITORY, stdout=subprocess.PIPE, text=True
    )
    assert parent.stdout is not None
    started = [int(pid) for pid in parent.stdout.readline().split()]

    parent.kill()
    parent.wait()
    parent.stdout.close()

    _wait_for_end(started)


def test_a_child_outlives_the_thread_that_started_it(supervisor: Supervisor) -> None:
    """The kernel's death signal belongs to a thread; ours is one that stays."""
    process = supervisor.process("sleeper", ["sleep", "600"])

    starter = threading.Thread(target=process.start)
    starter.start()
    starter.join()
    time.sleep(0.3)

    assert process.is_running


def test_a_process_can_be_killed_and_started_again(supervisor: Supervisor) -> None:
    """With another pid, and all below it gone."""
    process = supervisor.process("family", [sys.executable, "-c", FAMILY]).start()
    process.wait_until(lambda: len(watchdog.descendants(process.pid)) == 1, timeout_s=20)
    before = [process.pid, *watchdog.descendants(process.pid)]

    process.kill()
    left = [pid for pid in before if watchdog.is_alive(pid)]
    code = process.returncode
    process.start()

    assert (left, code) == ([], -signal.SIGKILL)
    assert process.is_running
    assert process.pid not in before


def test_a_process_that_ignores_its_signal_is_killed_after_the_deadline(supervisor: Supervisor) -> None:
    """Stopping always ends."""
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(600)"
    )
    process = supervisor.process("deaf", [sys.executable, "-c", deaf]).start()
    process.wait_until(lambda: "deaf" in process.log_path.read_text(), timeout_s=20)

    code = process.terminate(timeout_s=0.3)

    assert code == -signal.SIGKILL


def test_a_process_that_dies_at_its_start_is_reported_with_its_last_words(supervisor: Supervisor) -> None:
    """Instead of being waited for."""
    process = supervisor.process("brief", ["sh", "-c", "echo no such luck; exit 7"]).start()

    with pytest.raises(LocalStackError, match=r"(?s)brief exited with code 7.*no such luck"):
        process.wait_healthy("http://127.0.0.1:1/health/ready")


def test_nothing_starts_once_everything_is_being_ended(tmp_path: Path) -> None:
    """A start that comes too late, from another thread, leaves no process."""
    supervisor = Supervisor(tmp_path)
    late = supervisor.process("late", ["sleep", "600"])
    supervisor.close()

    with pytest.raises(LocalStackError, match="late was not started"):
        late.start()

    assert not late.is_running


def _wait_for_end(pids: list[int]) -> None:
    deadline = time.monotonic() + 15
    while left := [pid for pid in pids if watchdog.is_alive(pid)]:
        assert time.monotonic() < deadline, f"still running: {left}, of us: {os.getpid()}"
        time.sleep(0.05)


@pytest.mark.parametrize("url", ["http://127.0.0.1:port/", "http://127.0.0.1:1/", "no url"])
def test_what_does_not_answer_is_not_ok(url: str) -> None:
    """A URL that is none is answered by nobody either."""
    assert answers_ok(url) is False
