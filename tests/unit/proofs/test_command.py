"""The command line of the proofs."""

import re
from pathlib import Path

import pytest

from tests.proofs.__main__ import NAMES, find, listing, main
from tests.proofs.report import Report

HERE = Path(__file__).resolve().parents[2] / "proofs"
THERE = [name for name in NAMES if (HERE / f"{name}.py").exists()]


def test_every_proof_there_is_is_listed_with_what_it_says() -> None:
    """One line each."""
    shown = re.findall(r"(?m)^  (\w+) +(\S.+)$", listing())

    assert [name for name, _ in shown] == THERE
    assert len(THERE) >= 5


@pytest.mark.parametrize("name", THERE)
def test_a_proof_is_found_and_explains_itself(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`--help` starts nothing."""
    with pytest.raises(SystemExit) as ended:
        find(name)(["--help"])

    assert ended.value.code == 0
    assert "usage:" in capsys.readouterr().out.lower()


def test_an_unknown_name_is_refused_with_the_list(capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2; a module of the package that is no proof is none either."""
    assert main(["lab"]) == 2
    assert "recovery" in capsys.readouterr().err


@pytest.mark.parametrize("size", ["0", "-1", "many", "1.5"])
def test_a_ledger_of_no_rows_is_refused(size: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, before anything is started, with the name of the proof."""
    with pytest.raises(SystemExit) as ended:
        find("ledger")(["--rows", size])

    assert ended.value.code == 2
    assert "usage: python -m tests.proofs ledger" in " ".join(capsys.readouterr().err.split())


def test_a_report_holds_only_if_every_promise_does() -> None:
    """And a run that measured nothing proves nothing."""
    report = Report("x", {})
    report.figure("seen", 1)
    assert not report.held

    report.promise("a", 1.0, "<= 2", held=True)
    assert report.held

    report.promise("b", 3.0, "<= 2", held=False)
    assert not report.held
    assert "DID NOT HOLD" in report.text({})


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        ("herd --count 0", "from 1 on"),
        ("herd --origins -1", "from 1 on"),
        ("herd --dlq-poll-s 0", "above 0"),
        ("bulkhead --destinations 1", "from 2 on"),
        ("bulkhead --per-s nan", "above 0"),
        ("cancels --count 0", "from 1 on"),
        ("recovery --times 0", "from 1 on"),
        ("recovery --parts nothing", "api_worker"),
        ("loss --mib 0", "above 0"),
        ("ledger --rows 0", "from 1 on"),
        ("ledger --minutes some", "from 1 on"),
        ("herd --limit-s 0", "from 1 on"),
    ],
)
def test_what_cannot_be_measured_is_refused(arguments: str, expected: str, capsys: pytest.CaptureFixture[str]) -> None:
    """With what can be, and exit code 2, before anything starts."""
    with pytest.raises(SystemExit) as ended:
        main(arguments.split())

    assert ended.value.code == 2
    assert expected in capsys.readouterr().err
