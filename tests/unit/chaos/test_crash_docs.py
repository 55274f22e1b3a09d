"""docs/crash-tests.md lists what there is."""

import re

import pytest

from tests.chaos.crash_points import POINTS
from tests.chaos.mutants import MUTANTS
from tests.chaos.scenarios import SCENARIOS
from tests.dockerfiles import REPOSITORY

PAGE = (REPOSITORY / "docs/crash-tests.md").read_text(encoding="utf-8")


def names_in(heading: str) -> list[str]:
    """The first column of the table below a heading."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"(?m)^\| (\w+) \|", section)[1:]


@pytest.mark.parametrize(
    ("heading", "there"),
    [
        ("Crash points", [point.name for point in POINTS]),
        ("Scenarios", [scenario.name for scenario in SCENARIOS]),
        ("Mutants", [mutant.name for mutant in MUTANTS]),
    ],
)
def test_the_page_lists_each_once(heading: str, there: list[str]) -> None:
    """In the order of the code."""
    assert names_in(heading) == there
