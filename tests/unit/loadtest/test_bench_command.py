"""The command of the bench: a stage that breaks costs no other stage its figures."""

import urllib.error
from pathlib import Path

import pytest
from click.testing import CliRunner

from loadtest import results
from loadtest.bench import command
from loadtest.bench.figures import Sample
from loadtest.bench.frame import Stage


class Contender:
    """Gives a round, and breaks in the next one as a dead service makes it break."""

    name = what = "ours"

    def __init__(self, *, breaks: bool) -> None:
        self._breaks, self._rounds = breaks, 0

    def setup(self) -> None:
        pass

    def round(self) -> Sample:
        self._rounds += 1
        if self._breaks and self._rounds == 2:
            raise urllib.error.URLError("connection refused")
        return Sample(100, 1.0)

    def teardown(self) -> None:
        pass


def test_contenders_that_are_not_there_prove_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A name with a slip in it would have measured nothing, and held all of it."""
    monkeypatch.setattr(command, "STAGES", {"relay": Stage("relay", "relay", lambda _r, _p: [Contender(breaks=False)])})
    monkeypatch.setattr(command, "_others", dict)

    done = CliRunner().invoke(command.command, ["--contender", "mine", "--reports", str(tmp_path)])

    assert done.exit_code == command.BROKEN
    assert "none of its contenders is asked for: ours" in done.output


def test_reports_go_into_a_directory(tmp_path: Path) -> None:
    """That is said before anything is measured, not when the hours are over."""
    (path := tmp_path / "file").write_text("")

    assert CliRunner().invoke(command.command, ["--reports", str(path)]).exit_code == 2


def test_whatever_a_stage_raises_ends_that_stage_alone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its rounds until then and those of the next stage are in the result, and the exit code says that one broke."""
    stages = {
        "relay": Stage("relay", "relay", lambda _rig, _plan: [Contender(breaks=True)]),
        "whole": Stage("whole", "whole", lambda _rig, _plan: [Contender(breaks=False)]),
    }
    monkeypatch.setattr(command, "STAGES", stages)
    monkeypatch.setattr(command, "_others", dict)

    done = CliRunner().invoke(command.command, ["--rounds", "3", "--reports", str(tmp_path)])

    (path,) = tmp_path.glob("*-bench-*.json")
    result = results.from_json(path.read_text())
    assert done.exit_code == command.BROKEN
    assert result.broken_off == "relay: URLError: <urlopen error connection refused>"
    assert {series.name: len(series.values) for series in result.series} == {"relay/ours": 1, "whole/ours": 3}
