"""docs/crash-tests.md lists what there is, and says of each what the code does."""

import re

import pytest

from tests.chaos.crash_points import POINTS, CrashPoint
from tests.chaos.mutants import MUTANTS, Mutant
from tests.chaos.scenarios import SCENARIOS, Scenario
from tests.dockerfiles import REPOSITORY

PAGE = (REPOSITORY / "docs/crash-tests.md").read_text(encoding="utf-8")


def rows_in(heading: str) -> list[str]:
    """The table below a heading, without its head."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    return re.findall(r"(?m)^\| .*$", section)[1:]


def row_of(one: CrashPoint | Scenario | Mutant) -> str:
    """How it stands there."""
    match one:
        case CrashPoint():
            where = ", ".join(f"`{place.module}`: {place.name}" for place in one.places)
            cells = [one.name, f"`{one.service}`", f"{one.when} {where}", one.threatens]
        case Scenario():
            cells = [one.name, one.says, "on" if one.nets else "off"]
        case Mutant():
            cells = [one.name, one.says, one.invariants, ", ".join(sorted(one.caught_by)), ", ".join(one.scenarios)]
    return f"| {' | '.join(cells)} |"


@pytest.mark.parametrize(
    ("heading", "there"),
    [("Crash points", POINTS), ("Scenarios", SCENARIOS), ("Mutants", MUTANTS)],
)
def test_the_page_lists_each_once(heading: str, there: tuple[CrashPoint | Scenario | Mutant, ...]) -> None:
    """In the order of the code."""
    assert rows_in(heading) == [row_of(one) for one in there]
