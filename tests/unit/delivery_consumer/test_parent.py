"""A parent and its processes: started, watched, replaced, ended. The processes here deliver nothing."""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from delivery_consumer import parent as module
from delivery_consumer.parent import HOPELESS_AFTER, LONGEST_PAUSE_S, Parent, pause_s
from delivery_consumer.tie import Tie
from shared import runtime_dir
from shared.runtime_dir import RuntimeDir
from shared.telemetry import exposition_of, run_checks

BEGIN = """
import os, pathlib, sys, time
from delivery_consumer.tie import Tie, share_counts
from shared.lifecycle import stop_on_signals

tie = Tie.take(os.environ)
starts = pathlib.Path(sys.argv[1]) / str(tie.number)
with starts.open("a") as file:
    print(os.getpid(), file=file)
stop = stop_on_signals()
"""
WELL = BEGIN + "tie.hold({'kafka': lambda: None}, stop)\nstop.wait(60)\n"


def eventually(holds: Callable[[], bool], timeout_s: float = 20) -> None:
    """Wait until something holds."""
    deadline = time.monotonic() + timeout_s
    while not holds():
        assert time.monotonic() < deadline
        time.sleep(0.02)


@dataclass
class Running:
    """A parent on a thread of its own, with two processes of a program."""

    program: str
    directory: RuntimeDir
    notes: Path
    code: int | None = None
    replaced: list[int] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.stop = threading.Event()
        command = [sys.executable, "-c", self.program, str(self.notes)]
        self.parent = Parent(command, 2, self.directory, self.stop, replaced=lambda: self.replaced.append(1))
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        self.code = self.parent.run()

    def pids(self, number: int) -> list[int]:
        """The processes that were started under a number."""
        with contextlib.suppress(FileNotFoundError):
            return [int(line) for line in (self.notes / str(number)).read_text().splitlines()]
        return []

    def verdicts(self) -> dict[str, str]:
        """What readiness says."""
        return run_checks(self.parent.checks)

    def ready(self) -> bool:
        """Whether all is well."""
        return set(self.verdicts().values()) == {"ok"}

    def ended(self) -> int:
        """Its exit code, which comes soon."""
        self._thread.join(30)
        assert self.code is not None
        return self.code


@pytest.fixture
def run(tmp_path: Path) -> Iterator[Callable[[str], Running]]:
    """Run a program twice under a parent."""
    (tmp_path / "notes").mkdir()
    with contextlib.ExitStack() as stack:
        directory = stack.enter_context(runtime_dir.held("notify-delivery", tmp_path))

        def start(program: str) -> Running:
            running = Running(program, directory, tmp_path / "notes")
            stack.callback(running.ended)
            stack.callback(running.stop.set)
            return running

        yield start


def test_pauses_grow_to_half_a_minute() -> None:
    """The first start again is at once; one that cannot live is no loop that spins."""
    pauses = [pause_s(ends) for ends in range(1, HOPELESS_AFTER)]

    assert pauses == [0, 1, 2, 4, 8, 16, 30]
    assert max(pause_s(ends) for ends in range(100)) == LONGEST_PAUSE_S


def test_all_are_ready_or_none_is(run: Callable[[str], Running]) -> None:
    """What is wrong with one is named, with its number."""
    checks = "{'a': lambda: None, 'kafka': lambda: 'away' if tie.number == 2 else None}"
    running = run(BEGIN + f"tie.hold({checks}, stop)\nstop.wait(60)")

    assert running.verdicts() == {"process_1": "not up yet", "process_2": "not up yet"}
    eventually(lambda: running.verdicts() == {"process_1": "ok", "process_2": "kafka: away"})


def test_one_that_is_silent_is_not_ready(run: Callable[[str], Running], monkeypatch: pytest.MonkeyPatch) -> None:
    """It lives, and answers nobody."""
    running = run(WELL)
    eventually(running.ready)
    monkeypatch.setattr(module, "SILENT_S", 1.5)
    pid = running.pids(2)[0]

    os.kill(pid, signal.SIGSTOP)
    eventually(lambda: running.verdicts() == {"process_1": "ok", "process_2": "does not answer"})
    os.kill(pid, signal.SIGCONT)

    eventually(running.ready)


def test_one_that_is_killed_is_replaced_and_the_other_left_alone(run: Callable[[str], Running]) -> None:
    """Under its number; the end is counted."""
    running = run(WELL)
    eventually(running.ready)

    os.kill(running.pids(1)[0], signal.SIGKILL)
    eventually(lambda: len(running.pids(1)) == 2 and running.ready())

    assert len(running.pids(2)) == 1
    assert running.replaced == [1]
    running.stop.set()
    assert running.ended() == 0


def test_counts_add_up_and_outlive_a_process_whose_gauges_vanish(run: Callable[[str], Running]) -> None:
    """A successor counts on in the same file."""
    running = run(
        BEGIN
        + "share_counts(tie.counts, tie.number)\n"
        + "from delivery_consumer import metrics\n"
        + "metrics.DELIVERIES.labels('webhook', 'accepted', 'accepted').inc(tie.number)\n"
        + "first = len(starts.read_text().splitlines()) == 1\n"
        + "metrics.PARTITIONS.set(10 * tie.number if first else 1)\n"
        + "tie.hold({}, stop)\nstop.wait(60)\n"
    )
    counts = running.directory.counts

    def says(deliveries: int, partitions: int) -> bool:
        lines = exposition_of(counts).decode().splitlines()
        expected = {
            f'deliveries_total{{channel="webhook",outcome="accepted",reason="accepted"}} {deliveries}.0',
            f"delivery_partitions {partitions}.0",
        }
        return expected <= set(lines)

    eventually(lambda: running.ready() and says(1 + 2, 10 + 20))
    files = sorted(counts.iterdir())
    os.kill(running.pids(2)[0], signal.SIGKILL)
    eventually(lambda: running.ready() and says(1 + 2 + 2, 10 + 1))

    assert sorted(counts.iterdir()) == files


def test_a_partition_that_is_another_s_is_nothing_in_the_sum(tmp_path: Path) -> None:
    """What processes share cannot be taken back; nor is a warning written about it."""
    program = f"""
from pathlib import Path
from delivery_consumer.tie import share_counts
from shared.telemetry import exposition_of

share_counts(Path({str(tmp_path)!r}), 1)
from delivery_consumer import metrics

metrics.CONSUMER_LAG.labels("t", 3).set(7)
print(exposition_of(Path({str(tmp_path)!r})).decode().count('kafka_consumer_lag{{partition="3",topic="t"}} 7.0'))
metrics.forget_lag("t", 3)
print(exposition_of(Path({str(tmp_path)!r})).decode().count('kafka_consumer_lag{{partition="3",topic="t"}} 0.0'))
"""
    done = subprocess.run(
        [sys.executable, "-W", "error::UserWarning", "-c", program],
        capture_output=True,
        text=True,
        timeout=30,
        check=False,
    )

    assert (done.stdout.split(), done.stderr) == (["1", "1"], "")


def test_a_bad_configuration_ends_all_with_2(run: Callable[[str], Running]) -> None:
    """Starting it again would change nothing; the other one drains."""
    running = run(BEGIN + "if tie.number == 2: sys.exit(2)\n" + WELL.removeprefix(BEGIN))

    assert running.ended() == 2
    assert len(running.pids(2)) == 1
    assert running.replaced == []


def test_one_that_never_lives_is_given_up(run: Callable[[str], Running], monkeypatch: pytest.MonkeyPatch) -> None:
    """After eight ends in a row, with exit code 1; the other one has drained."""
    monkeypatch.setattr(module, "pause_s", lambda ends: 0.01 * ends)
    monkeypatch.setattr(module, "HOPELESS_AFTER", 3)
    running = run(BEGIN + "if tie.number == 2: sys.exit(5)\n" + WELL.removeprefix(BEGIN))

    assert running.ended() == 1
    assert len(running.pids(2)) == 3


def test_one_that_ran_for_a_minute_ends_for_the_first_time(
    run: Callable[[str], Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Ends that lie far apart are no reason to give up."""
    monkeypatch.setattr(module, "STEADY_S", 0.0)
    monkeypatch.setattr(module, "HOPELESS_AFTER", 2)
    running = run(BEGIN + "sys.exit(5)")

    eventually(lambda: len(running.pids(1)) >= 4)
    running.stop.set()
    assert running.ended() in {0, 1}  # 1 where the one that ran at that moment ended with its 5


def test_a_stop_is_passed_on_and_waited_for(run: Callable[[str], Running]) -> None:
    """Each gets SIGTERM and drains; one that fails to makes the exit code 1."""
    drains = "tie.hold({}, stop)\nstop.wait(60)\ntime.sleep(0.5)\n(starts.parent / f'drained-{tie.number}').touch()\n"
    running = run(BEGIN + drains + "sys.exit(3 if tie.number == 2 else 0)\n")
    eventually(running.ready)

    running.stop.set()

    assert running.ended() == 1
    assert {path.name for path in running.notes.glob("drained-*")} == {"drained-1", "drained-2"}


def test_one_that_does_not_end_is_killed(run: Callable[[str], Running], monkeypatch: pytest.MonkeyPatch) -> None:
    """Before the orchestrator kills everything."""
    monkeypatch.setattr(module, "KILL_AFTER_S", 0.5)
    running = run(BEGIN + "tie.hold({}, stop)\ntime.sleep(60)\n")
    eventually(running.ready)

    running.stop.set()

    assert running.ended() == 1


def test_nothing_is_started_after_a_stop(tmp_path: Path) -> None:
    """Whoever comes too late with a replacement."""
    with runtime_dir.held("notify-delivery", tmp_path) as directory:
        stop = threading.Event()
        stop.set()
        parent = Parent([sys.executable, "-c", "raise SystemExit(7)"], 3, directory, stop, replaced=lambda: None)

        assert parent.run() == 0


def test_a_program_that_is_gone_is_an_end_like_any_other(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """An installation under way, or no memory for a fork."""
    monkeypatch.setattr(module, "pause_s", lambda _: 0.0)
    with runtime_dir.held("notify-delivery", tmp_path) as directory:
        parent = Parent([str(tmp_path / "gone")], 1, directory, threading.Event(), replaced=lambda: None)

        assert parent.run() == 1


def test_the_end_of_the_parent_stops_a_process() -> None:
    """However it went: the kernel closes its end of the socket."""
    ours, theirs = socket.socketpair()
    stop = threading.Event()
    Tie(1, theirs.detach(), Path("counts")).hold({"kafka": lambda: "away"}, stop)

    assert ours.recv(100) == b'{"kafka":"away"}\n'
    assert not stop.is_set()
    ours.close()
    assert stop.wait(5)


def test_a_tie_is_taken_out_of_the_environment() -> None:
    """Nothing that a process starts would take it for its own."""
    environ = Tie(2, 7, Path("/tmp/a:b")).environ()

    assert Tie.take(environ) == Tie(2, 7, Path("/tmp/a:b"))
    assert environ == {}
    assert Tie.take(environ) is None


def test_a_parent_is_small() -> None:
    """No Kafka, no database, no delivery code."""
    program = "import sys\nfrom delivery_consumer import __main__, metrics, parent\nprint(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=30, check=True)
    loaded = set(done.stdout.split())

    assert loaded.isdisjoint({"confluent_kafka", "psycopg", "httpx", "aiosmtplib", "uvloop"})
    assert {name for name in loaded if name.startswith("delivery_consumer.")} == {
        f"delivery_consumer.{name}" for name in ("__main__", "parent", "tie", "metrics", "settings")
    }
