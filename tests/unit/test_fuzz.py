"""`make fuzz` proves something: it finds what was planted, repeats itself, and its targets hold for a moment."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import strategies as st

from tests.fuzz.api import ApiFuzzed, log_lines, read_log, read_report
from tests.fuzz.hooks import BEYOND_A_SCHEMA, codes_of
from tests.fuzz.parsers import TARGETS, Target
from tests.fuzz.running import fuzz, fuzz_all


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_target_holds_for_a_hundred_inputs(target: Target) -> None:
    """The same hundred each time; `make fuzz` tries many more."""
    done = fuzz(target, seed=7, seconds=0, chunk=100)

    assert done.finding is None
    assert done.inputs >= 50


def test_a_planted_crash_is_found_and_shown_small() -> None:
    """With the error, and the smallest input that leads to it."""

    def crash(number: int) -> None:
        if number >= 1000:
            raise ZeroDivisionError("planted")

    done = fuzz(Target("planted", st.integers(), crash), seed=1, seconds=0)

    assert done.finding == "ZeroDivisionError: planted for 1000"


def test_a_seed_tries_the_same_inputs_again() -> None:
    """Whatever else has run before; another seed tries others."""

    def tried(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        fuzz(Target("kept", st.binary(), seen.append), seed=seed, seconds=0, chunk=50)
        return seen

    assert tried(3) == tried(3) != tried(4)


def test_the_time_is_shared_among_all() -> None:
    """None is left out where there is little of it."""
    targets = [Target(name, st.integers(), lambda _: None) for name in "abc"]

    assert [one.name for one in fuzz_all(targets, seed=1, seconds=0)] == ["a", "b", "c"]


def test_an_answer_of_500_and_an_error_in_the_log_are_findings_whatever_schemathesis_says() -> None:
    """The API's own log is read after each turn."""
    answers = [{"event": "request", "status": status, "method": "GET", "route": "/x"} for status in (200, 200, 500)]
    found = ApiFuzzed("admin")

    read_log(found, [*answers, {"event": "request_failed", "level": "error", "error": "KeyError"}])

    assert found.statuses == {"200": 2, "500": 1}
    assert [finding.split(":")[0] for finding in found.findings] == ["500 to GET /x", "the API logged request_failed"]


def test_a_line_that_is_no_json_is_an_error(tmp_path: Path) -> None:
    """Whatever wrote it; the separators that only Unicode has end no line."""
    log = tmp_path / "api.log"
    log.write_text('{"event": "a\u2028b"}\nTraceback\n')

    first, second = log_lines(log)

    assert first == {"event": "a\u2028b"}
    assert second["level"] == "error"


def report(**fields: Any) -> str:
    """What schemathesis writes at its end."""
    nothing = {
        "test_cases": {"generated": 9},
        "filtered": 2,
        "operations": {"tested": 5, "total": 5},
        "failures": [],
        "errors": [],
    }
    return json.dumps(nothing | fields)


@pytest.mark.parametrize(
    ("text", "code", "findings"),
    [
        (report(), 0, 0),
        (report(), 1, 1),
        (None, 0, 1),
        (report(errors=[{"title": "Network Error", "count": 1}]), 1, 1),
        (report(failures=[{"title": "Server error", "code": "ST101", "count": 2, "operations": ["GET /x"]}]), 1, 1),
    ],
)
def test_whatever_is_not_a_whole_run_without_failures_is_a_finding(
    tmp_path: Path, text: str | None, code: int, findings: int
) -> None:
    """A run that ended early, or left an operation out, has shown nothing."""
    if text is not None:
        (tmp_path / "report.json").write_text(text)
    found = ApiFuzzed("admin")

    read_report(found, tmp_path / "report.json", code, tmp_path / "output.txt")

    assert len(found.findings) == findings


@pytest.mark.parametrize(
    ("errors", "codes"),
    [
        ([{"pointer": "/scheduled_for", "code": "in_the_past"}], {"in_the_past"}),
        ([{"pointer": "/3/sender", "code": "too_long"}], {"sender:too_long"}),
        ([{"pointer": "/sender", "code": "too_long"}, {"pointer": "/message", "code": "too_long"}], None),
        ([{"parameter": "recipient", "code": "invalid"}], {"recipient:invalid"}),
        ([{"parameter": "status", "code": "invalid"}], None),
        ([], None),
    ],
)
def test_a_refusal_is_put_aside_where_all_of_its_codes_have_a_reason(
    errors: list[dict[str, str]], codes: set[str] | None
) -> None:
    """A problem without errors counts by its own code."""
    found = codes_of(json.dumps({"code": "validation_failed", "errors": errors}).encode())

    assert (found <= BEYOND_A_SCHEMA.keys()) is (codes is not None)
    assert codes is None or found == codes
