"""The command line: what it refuses, what it reports, and what its exit code says."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from loadtest import command as command_module
from loadtest import elsewhere, profiles
from loadtest.__main__ import COMMANDS, main
from loadtest.command import at_its_rate
from loadtest.errors import RunError
from loadtest.progress import summary
from loadtest.results import Limit, RunResult, save
from tests.unit.loadtest.test_found_capacity import a_stress_run
from tests.unit.loadtest.test_results import a_result


def invoke(*arguments: str, **environ: str) -> Any:
    nothing = dict.fromkeys(
        ("TARGET_URL", "TARGET_RELAY_URL", "TARGET_DELIVERY_URL", "TARGET_DATABASE_URL", "SINK_SMTP_PORT"), ""
    )
    return CliRunner().invoke(main, arguments, env={**nothing, **environ})


def test_every_fault_of_a_run_is_named_before_anything_is_started() -> None:
    """Exit 2."""
    ended = invoke("run", "smoke", "--set", "mix.single_share=2", "--set", "limits.foo=1")

    assert ended.exit_code == 2
    assert "mix.single_share: 2" in ended.output
    assert "limits.foo: there is no such limit" in ended.output


def test_a_target_that_makes_no_sense_is_refused() -> None:
    """With all that is wrong with it, its e-mails included."""
    ended = invoke("run", "smoke", TARGET_URL="notify.test", TARGET_RELAY_URL="ftp://x", SINK_SMTP_PORT="mail")

    assert ended.exit_code == 2
    for fault in ("TARGET_URL: 'notify.test'", "TARGET_RELAY_URL: 'ftp://x'", "SINK_SMTP_PORT: 'mail'"):
        assert fault in ended.output
    assert "s3cret" not in invoke("run", "smoke", TARGET_URL="http://me:s3cret@notify.test").output
    assert "mix.channels={webhook=1}" in invoke("run", "smoke", TARGET_URL="http://notify.test").output


def test_limits_that_nobody_could_judge_elsewhere_are_named_with_what_does_without() -> None:
    """Before the start: after four minutes they would have failed for no fault of the target's."""
    ended = invoke("run", "load", TARGET_URL="http://notify.test", SINK_SMTP_PORT="2525")

    assert ended.exit_code == 2
    assert "limits ledger: cannot be judged without TARGET_DATABASE_URL" in ended.output
    for limit in ("ledger", "idle_cpu_percent", "idle_process_mib"):
        assert f"--set limits.{limit}=false" in ended.output
    soak = invoke("run", "soak", TARGET_URL="http://notify.test", SINK_SMTP_PORT="2525").output
    assert "limits consumer_lag_growth: cannot be judged without TARGET_DELIVERY_URL" in soak


def test_the_dlq_test_needs_the_targets_database() -> None:
    """It looks at each dead letter: taking the ledger's verdict away is no remedy."""
    ended = invoke("dlq", "--set", "limits.ledger=false", TARGET_URL="http://notify.test")

    assert (ended.exit_code, "TARGET_DATABASE_URL: nothing" in ended.output) == (2, True)


@pytest.mark.parametrize("database", ["garbage", "postgres:/me:s3cret@notify.test", "postgresql://127.0.0.1:s3cret/y"])
def test_a_database_that_makes_no_sense_is_refused_without_its_password(
    monkeypatch: pytest.MonkeyPatch, database: str
) -> None:
    """Whatever the parser quotes of it."""
    monkeypatch.setattr(elsewhere, "answers_ok", lambda _, timeout_s: timeout_s > 0)
    monkeypatch.setattr(elsewhere, "_is_known", lambda *_: True)

    ended = invoke("run", "smoke", TARGET_URL="http://x", SINK_SMTP_PORT="25", TARGET_DATABASE_URL=database)

    assert ended.exit_code == 2
    assert "TARGET_DATABASE_URL: " in ended.output
    assert "expected postgresql://user:password@host:port/name" in ended.output
    assert "s3cret" not in ended.output


@pytest.mark.parametrize("url", ["http://[", "http://h:notaport", "http://me:s3cret@[", "//h"])
def test_a_url_that_is_none_is_refused(url: str) -> None:
    """Though the parser of URLs raises at some."""
    ended = invoke("run", "smoke", TARGET_URL=url, SINK_SMTP_PORT="25")

    assert (ended.exit_code, "TARGET_URL: " in ended.output) == (2, True)
    assert "s3cret" not in ended.output


def test_an_unknown_command_or_profile_is_bad_usage() -> None:
    """Exit 2, with what there is."""
    assert invoke("walk").exit_code == 2
    assert invoke("run", "holiday").exit_code == 2
    assert set(COMMANDS) >= {"run", "dlq", "report", "bench"}


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (("run", "smoke", "--seed", "-1"), "--seed"),
        (("dlq", "--seed", "-1"), "--seed"),
        (("bench", "--seed", "-1"), "--seed"),
        (("run", "smoke", "--rate", "nan"), "--rate"),
        (("run", "smoke", "--rate", "inf"), "--rate"),
        (("capacity", "--rate", "nan"), "--rate"),
        (("capacity", "--rate", "inf"), "--rate"),
        (("capacity", "--rate", "0"), "--rate"),
        (("capacity", "--directory", "typo"), "typo"),
        (("report", "--directory", "typo"), "typo"),
        (("performance", "--directory", "typo"), "typo"),
        (("bench", "--tune", "--only", "relay"), "--only tune_celery"),
    ],
)
def test_options_that_make_no_sense_are_refused(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: tuple[str, ...], named: str
) -> None:
    """Exit 2, with the option's name, and nothing is written."""
    monkeypatch.chdir(tmp_path)

    ended = invoke(*arguments)

    assert (ended.exit_code, named in ended.output) == (2, True), ended.output
    assert list(tmp_path.iterdir()) == []


def test_half_of_the_capacity_is_taken_from_the_newest_stress_run(tmp_path: Path) -> None:
    """And the notes name its file."""
    path = save(a_stress_run(counts={"capacity_per_s": 4000}), tmp_path)

    profile, notes = at_its_rate(profiles.load("soak"), None, tmp_path)

    assert max(stage.rate_per_s for stage in profile.stages) == 2000
    assert "4,000/s" in notes[1]
    assert path.name in notes[1]


def test_without_a_stress_run_the_profile_has_a_rate_of_its_own(tmp_path: Path) -> None:
    """And the report says so; --rate wins in any case."""
    profile, notes = at_its_rate(profiles.load("soak"), None, tmp_path)
    assert profile == profiles.load("soak")
    assert "No stress run" in notes[1]

    profile, notes = at_its_rate(profiles.load("soak"), 70, tmp_path)
    assert ([stage.rate_per_s for stage in profile.stages], notes) == ([70], [])


class FakeRunning:
    """A run without processes."""

    result_of: RunResult = a_result()
    arrives = True  # what is on its way, when it is given a moment

    def __init__(self, *_: Any, **__: Any) -> None:
        self.found = type("Found", (), {"notes": []})()
        self.crew = type("Crew", (), {"sink": object()})()

    def __enter__(self) -> "FakeRunning":
        return self

    def __exit__(self, *_: object) -> None: ...

    def start(self) -> None: ...

    def wind_down(self) -> bool:
        if not self.arrives:
            raise RunError("the generator is gone as well")
        return True

    def result(self, _kind: str, broken_off: str | None) -> RunResult:
        late = any("may only be late" in note for note in self.found.notes[:-1])
        assert (late, self.found.notes[-1]) == (broken_off is not None and not self.arrives, "reconciled")
        return RunResult("load", "smoke", 1, "c", "2030-01-31T09:00:00+00:00", 1.0, broken_off=broken_off,
                         limits=self.result_of.limits)  # fmt: skip


@pytest.mark.parametrize("arrives", [True, False])
@pytest.mark.parametrize(
    ("raises", "limits", "code"),
    [
        (None, [Limit("lost", "0", "0", held=True)], 0),
        (None, [Limit("lost", "0", "1", held=False)], 1),
        (RunError("postgres ended"), [], 3),
        (KeyboardInterrupt(), [], 3),
    ],
)
def test_whatever_happens_is_reported_and_the_exit_code_says_what_it_proves(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, raises: BaseException | None, limits: list[Limit], code: int,
    arrives: bool,
) -> None:  # fmt: skip
    """Whoever ends a run, what is on its way has a moment, and where that was too short a note says so."""

    def play(_running: Any) -> None:
        if raises is not None:
            raise raises

    monkeypatch.setattr(command_module, "Running", FakeRunning)
    monkeypatch.setattr(command_module, "play", play)
    monkeypatch.setattr(FakeRunning, "arrives", arrives)
    monkeypatch.setattr(command_module, "reconcile", lambda running: running.found.notes.append("reconciled"))
    monkeypatch.setattr(FakeRunning, "result_of", RunResult("load", "x", 1, "", "", 0.0, limits=limits))

    ended = invoke("run", "smoke", "--reports", str(tmp_path))

    assert ended.exit_code == code, ended.output
    assert ("BROKEN OFF" in ended.output) == (code == 3)
    assert sorted(path.suffix for path in tmp_path.glob("2030*")) == [".html", ".json"]
    assert (tmp_path / "index.html").exists()


def test_the_summary_names_each_limit_with_what_was_measured() -> None:
    """A person reads it before the page."""
    text = summary(a_result())

    assert "load smoke: held" in text
    assert "ok  lost" in text
    assert "a sentence" in text


def test_a_run_that_ended_in_its_warm_up_says_that_nothing_was_measured() -> None:
    """Rather than the head of a table without lines."""
    text = summary(RunResult("load", "smoke", 1, "c", "2030-01-31T09:00:00+00:00", 1.0, broken_off="ended by Ctrl-C"))

    assert "Nothing was measured yet" in text
    assert "p99.9" not in text
