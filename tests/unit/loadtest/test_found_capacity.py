"""Which capacity a soak may trust."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from loadtest import found_capacity, profiles, surroundings
from loadtest.results import Limit, RunResult, save

STRESS = profiles.load("stress")
HERE = "the embedded stack"
MACHINE = surroundings.machine()
MISSED = Limit("capacity_per_s", "at least 5,000 /s", "4,000 /s", held=False)


def a_stress_run(**changed: Any) -> RunResult:
    """One that can be trusted."""
    return RunResult(
        **{
            "kind": "stress",
            "profile": "stress",
            "seed": 1,
            "command": "",
            "started_at": "2030-01-31T09:00:00+00:00",
            "took_s": 1.0,
            "versions": {"commit": "0123abcd"},
            "machine": MACHINE,
            "settings": surroundings.settings(STRESS, target=HERE),
            "counts": {"capacity_per_s": 3000},
            "limits": [Limit("lost", "0", "0", held=True), MISSED],
            **changed,
        }
    )


def find(reports: Path) -> tuple[int | None, list[str]]:
    return found_capacity.find(reports, stress=STRESS, target=HERE, machine=MACHINE)


def test_the_newest_is_taken_and_named(tmp_path: Path) -> None:
    """File, commit and date; that it is below what is promised makes it no less true."""
    save(a_stress_run(counts={"capacity_per_s": 9000}), tmp_path)
    path = save(a_stress_run(started_at="2030-02-01T09:00:00+00:00"), tmp_path)

    assert find(tmp_path) == (
        3000,
        [f"The capacity found is 3,000/s: {path.name}, commit 0123abcd, 2030-02-01T09:00:00+00:00."],
    )


def the_setting(name: str, value: str) -> dict[str, Any]:
    return {"settings": surroundings.settings(STRESS, target=HERE) | {name: value}}


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"broken_off": "ended by Ctrl-C"}, "it was broken off"),
        ({"counts": {"capacity_per_s": 0}}, "it found none"),
        ({"limits": [MISSED, Limit("lost", "0", "3", held=False)]}, "it did not hold lost"),
        ({"machine": dict(MACHINE) | {"cores": 96}}, "another machine: cores"),
        (the_setting("target", "https://elsewhere.test"), "other settings: target"),
        (the_setting("search.step_s", "3"), "other settings: search.step_s"),
        (the_setting("mix.batch_items", "100"), "other settings: mix.batch_items"),
    ],
)
def test_one_that_says_nothing_about_this_run_is_passed_over(tmp_path: Path, changed: dict[str, Any], why: str) -> None:
    """With the reason; an older one that does is taken."""
    trusted = save(a_stress_run(started_at="2030-01-01T00:00:00+00:00"), tmp_path)
    newer = save(replace(a_stress_run(counts={"capacity_per_s": 300}), **changed), tmp_path)

    capacity, notes = find(tmp_path)

    assert capacity == 3000
    assert trusted.name in notes[0]
    assert notes[1] == f"{newer.name} was passed over: {why}."


def test_what_is_no_result_is_passed_over(tmp_path: Path) -> None:
    """As a file that was cut."""
    (tmp_path / "20310101T000000Z-stress-stress.json").write_text("{")

    capacity, notes = find(tmp_path)

    assert capacity is None
    assert "No stress run" in notes[0]
    assert "cannot be read" in notes[1]
