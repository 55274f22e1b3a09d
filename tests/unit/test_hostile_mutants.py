"""The mechanisms that `python -m tests.hostile` takes away: they are there, and the page says which rows they hold."""

import re

import pytest

from tests.chaos.rewriting import REPOSITORY, check_edit
from tests.hostile.mutants import BY_NAME, MUTANTS, SHOWN_BY_A_TEST, Mutant


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.name)
def test_what_is_taken_away_is_there(mutant: Mutant) -> None:
    """Each text occurs once, what stands in its place is Python, and the row's tests are where they are looked for."""
    for edit in mutant.edits:
        check_edit(edit)

    place = REPOSITORY / mutant.tests
    text = "".join(path.read_text() for path in ([place] if place.is_file() else place.rglob("test_*.py")))
    assert [row for row in mutant.rows if not re.search(rf"def test_row_0?{row}_", text)] == []


def test_names_are_unique() -> None:
    """They are what the command takes, beside numbers."""
    assert len(BY_NAME) == len(MUTANTS)
    assert not any(name.isdigit() for name in BY_NAME)


def test_the_page_names_what_holds_its_rows() -> None:
    """In the last column of the table: a mutant of that row, or a test that does without the mechanism by itself."""
    lines = re.findall(r"(?m)^\| (\d+) \|.*\|([^|]*)\|$", (REPOSITORY / "docs/security.md").read_text())
    named = {(int(row), name) for row, names in lines for name in re.findall(r"`(\w+)`", names)}
    may = {(row, one.name) for one in MUTANTS for row in one.rows} | set(SHOWN_BY_A_TEST.items())

    seen = {(row, name) for row, name in named if name in BY_NAME or name in SHOWN_BY_A_TEST.values()}
    assert seen <= may
    assert seen >= set(SHOWN_BY_A_TEST.items())
