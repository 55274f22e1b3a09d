"""How figures and verdicts are worded."""

import math
from typing import Any

import pytest

from loadtest.report.figures import duration, instant, number, title, verdict, verdict_words
from loadtest.results import Limit
from tests.unit.loadtest.runs import a_run

HELD, MISSED = Limit("a", "", "", held=True), Limit("b", "", "", held=False)


@pytest.mark.parametrize(
    ("value", "written"),
    [
        (None, "–"),
        (math.nan, "–"),
        (0, "0"),
        (0.0, "0"),
        (7, "7"),
        (1234567, "1,234,567"),
        (9.0, "9.00"),
        (0.01234, "0.0123"),
        (-4.567, "-4.57"),
        (99.94, "99.9"),
        (412.4, "412"),
        (12345.6, "12,346"),
    ],
)
def test_a_number_has_the_digits_that_matter(value: float | None, written: str) -> None:
    """A count is exact, a measurement has three digits."""
    assert number(value) == written


@pytest.mark.parametrize(
    ("seconds", "written"),
    [(0.25, "0.25 s"), (41.5, "41.5 s"), (200, "3 min 20 s"), (3600, "1 h 0 min"), (5430, "1 h 30 min")],
)
def test_a_length_of_time(seconds: float, written: str) -> None:
    """In the units that people say."""
    assert duration(seconds) == written


def test_an_instant_is_written_in_utc() -> None:
    """Whatever its zone; without one it is taken for UTC."""
    assert instant("2030-01-31T10:00:00+01:00") == "2030-01-31 09:00:00 UTC"
    assert instant("2030-01-31T09:00:00") == "2030-01-31 09:00:00 UTC"


@pytest.mark.parametrize(
    ("kind", "profile", "written"),
    [
        ("load", "smoke", "smoke"),
        ("stress", "stress", "stress"),
        ("dlq", "dlq", "dlq"),
        ("bench", "accept", "bench: accept"),
    ],
)
def test_a_run_is_named_once(kind: str, profile: str, written: str) -> None:
    """By its profile, unless its kind says more."""
    assert title(a_run(kind=kind, profile=profile)) == written


@pytest.mark.parametrize(
    ("changed", "short", "words"),
    [
        ({"limits": [HELD]}, "held", "the limit held"),
        ({"limits": [HELD, HELD]}, "held", "all 2 limits held"),
        ({"limits": [HELD, MISSED]}, "missed", "1 of 2 limits not held"),
        ({"limits": []}, "open", "no limits set"),
        ({"limits": [HELD], "broken_off": ""}, "broken", "broken off"),
    ],
)
def test_a_verdict(changed: dict[str, Any], short: str, words: str) -> None:
    """A run that promised nothing has held nothing, and one that was broken off neither."""
    assert (verdict(a_run(**changed)), verdict_words(a_run(**changed))) == (short, words)
