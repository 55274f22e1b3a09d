"""Whole runs of the load test against a pipeline that may lie: what it does wrong has to be noticed."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from infra.local.ports import free_port
from infra.local.processes import Supervisor
from infra.local.stack import REPOSITORY
from loadtest.results import RunResult, load
from tests.servers import Database, PostgresServer

Start = Callable[..., str]


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    """Start a stand-in for the pipeline; return its URL."""
    with Supervisor(tmp_path / "logs") as supervisor:

        def started(*options: str) -> str:
            port = free_port()
            command = [sys.executable, "-m", "tests.integration.loadtest.stand_in", f"--port={port}", *options]
            process = supervisor.process("stand-in", command, cwd=REPOSITORY).start()
            process.wait_healthy(f"http://127.0.0.1:{port}/health/ready")
            return f"http://127.0.0.1:{port}"

        yield started


def arguments(reports: Path, for_s: float, **others: str) -> list[str]:
    chosen = {
        "mix.channels": "{webhook = 1}",
        "stages": f"[{{for_s = {for_s}, rate_per_s = 400}}]",
        "warm_up_s": "0.5",
        "drain_s": "3",
        "generator.processes": "2",
        "receivers": "{origins = 2, latency_ms = 0, latency_p99_ms = 0, failing_share = 0, failing_status = 503}",
        "limits.accept_p99_ms": "false",  # what is promised here must not hang on how busy this machine is
        "limits.receiver_p99_ms": "false",
        "limits.generator_lag_p99_ms": "false",
        "limits.ledger": "false",  # there is no database
        **others,
    }
    sets = [f"--set={key}={value}" for key, value in chosen.items()]
    return [sys.executable, "-m", "loadtest", "run", "smoke", f"--reports={reports}", *sets]


def run(url: str, reports: Path, **more: str) -> tuple[int, str, RunResult]:
    environ = {**os.environ, "TARGET_URL": url, **more}
    command = arguments(reports, 2)
    done = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=60, check=False)
    (path,) = reports.glob("*.json")
    return done.returncode, done.stdout + done.stderr, load(path)


def test_an_honest_pipeline_holds(start: Start, tmp_path: Path) -> None:
    """Every message is followed to its receiver; the report is there."""
    code, output, result = run(start(), tmp_path / "reports")

    assert code == 0, output
    assert result.counts["asked"] > 400
    assert result.counts["asked"] == result.counts["accepted"] == result.counts["received"]
    assert {latency.name for latency in result.latencies} >= {"accept", "accept_to_receiver_webhook"}
    assert {"throughput", "latency", "backlog", "cpu", "memory"} <= {series.group for series in result.series}
    assert list((tmp_path / "reports").glob("*smoke.html"))


@pytest.mark.parametrize(
    ("option", "limit"),
    [
        ("--lose=90", "lost"),
        ("--double=90", "doubled"),
        ("--swap=90", "misplaced"),
        ("--invent=90", "unexplained"),
        ("--mangle=90", "foreign"),
        ("--refuse=40", "refused"),
    ],
)
def test_whatever_a_pipeline_does_wrong_is_noticed(start: Start, tmp_path: Path, option: str, limit: str) -> None:
    """That limit does not hold, and no other."""
    code, output, result = run(start(option), tmp_path / "reports")

    assert code == 1, output
    assert [one.name for one in result.limits if not one.held] == [limit], output
    assert result.counts[limit] > 0


def test_a_run_whose_time_is_up_waits_for_what_is_on_its_way(start: Start, tmp_path: Path) -> None:
    """Four a second to receivers that take two: when it is ended some are on their way, and none of them is lost."""
    slow = "{origins = 2, latency_ms = 1000, latency_p99_ms = 1000, failing_share = 0, failing_status = 503}"
    stages = "[{for_s = 60, rate_per_s = 4}]"
    even = {"arrivals": "even", "mix.single_share": "1"}
    command = arguments(tmp_path, 60, stages=stages, receivers=slow, limit_s="3", drain_s="20", **even)
    environ = {**os.environ, "TARGET_URL": start()}
    done = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 3, done.stdout + done.stderr
    (path,) = tmp_path.glob("*.json")
    result = load(path)
    assert result.broken_off == "not done after 3 s (limit_s)"
    assert result.counts["accepted"] == result.counts["received"] >= 8
    assert (result.counts["lost"], result.counts["on_their_way"]) == (0, 0)


def test_ctrl_c_ends_a_run_with_a_report_of_what_was_measured(start: Start, tmp_path: Path) -> None:
    """Exit 3: nothing is proven; and nothing is left running."""
    environ = {**os.environ, "TARGET_URL": start()}
    command = arguments(tmp_path, 60)
    with subprocess.Popen(command, cwd=REPOSITORY, env=environ, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        for line in process.stdout:
            if "receiver" in line and "backlog" in line:
                break
        process.send_signal(signal.SIGINT)
        deadline = time.monotonic() + 40
        rest = process.stdout.read()
        assert process.wait(max(1.0, deadline - time.monotonic())) == 3, rest

    (path,) = tmp_path.glob("*.json")
    result = load(path)
    assert result.broken_off == "ended by Ctrl-C"
    assert result.counts["accepted"] == result.counts["received"] > 0


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("TARGET_URL", "http://127.0.0.1:1"),
        ("TARGET_RELAY_URL", "http://127.0.0.1:1"),
        ("TARGET_DELIVERY_URL", "http://127.0.0.1:1"),
        ("TARGET_DATABASE_URL", "postgresql://me:s3cret@127.0.0.1:1/notifications"),
        ("TARGET_DATABASE_URL", "another database"),
    ],
)
def test_a_target_that_does_not_answer_is_refused_before_the_start(
    start: Start, postgres: PostgresServer, tmp_path: Path, variable: str, value: str
) -> None:
    """Exit 2, naming the variable, and not the password; nothing was started, so there is nothing to report."""
    value = postgres.dsn() if value == "another database" else value
    environ = {**os.environ, "TARGET_URL": start(), variable: value}
    command = arguments(tmp_path / "reports", 2)
    done = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2, done.stdout + done.stderr
    assert f"  {variable}: " in done.stderr
    assert "s3cret" not in done.stderr
    assert not (tmp_path / "reports").exists()


@pytest.mark.parametrize("key", ["", "nk_live_another", "nk_live_ä"])
def test_a_target_that_does_not_know_the_key_is_refused_before_the_start(
    start: Start, tmp_path: Path, key: str
) -> None:
    """Every request would be refused."""
    environ = {**os.environ, "TARGET_URL": start("--key=nk_live_x"), "TARGET_API_KEY": key}
    command = arguments(tmp_path / "reports", 2)
    done = subprocess.run(command, cwd=REPOSITORY, env=environ, capture_output=True, text=True, timeout=60, check=False)

    assert done.returncode == 2, done.stdout + done.stderr
    assert "  TARGET_API_KEY: the API answers 401; expected an API key of the scope send" in done.stderr
    assert "another" not in done.stderr


def test_a_target_that_knows_the_key_is_loaded(start: Start, tmp_path: Path) -> None:
    """It is sent with each request."""
    code, output, _ = run(start("--key=nk_live_x"), tmp_path, TARGET_API_KEY="nk_live_x")

    assert code == 0, output


def test_a_target_whose_parts_all_answer_is_loaded(start: Start, database: Database, tmp_path: Path) -> None:
    """Its database is asked, and is found to be the pipeline's."""
    url = start()
    more = {"TARGET_RELAY_URL": url, "TARGET_DELIVERY_URL": url, "TARGET_DATABASE_URL": database.dsn}

    code, output, result = run(url, tmp_path, **more)

    assert code == 0, output
    assert any(series.group == "database" for series in result.series)
