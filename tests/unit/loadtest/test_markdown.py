"""Tables and pages in Markdown."""

import pytest

from loadtest.markdown import number, replaced, table


def test_a_page_without_marks_is_left_alone() -> None:
    """Nobody knows where the tables would belong."""
    with pytest.raises(ValueError, match="lacks the marks"):
        replaced("a page", "tables", "mark")


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        (0.0, "0"),
        (0.0004, "< 0.001"),
        (0.0432, "0.0432"),
        (2.36, "2.36"),
        (59.0, "59"),
        (2_548.8, "2,550"),
        (99.96, "100"),
    ],
)
def test_numbers_have_three_figures(value: float, shown: str) -> None:
    """And no exponent."""
    assert number(value) == shown


def test_a_table_has_a_line_for_each_row() -> None:
    """Numbers are rounded, words stand as they are."""
    assert table(("what", "how much"), [("one", 1234.5), ("several", (1, 2.5))]) == (
        "| what | how much |\n| --- | --- |\n| one | 1,230 |\n| several | 1, 2.5 |"
    )
