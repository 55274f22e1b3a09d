"""Tables in Markdown, and pages whose tables are written by a command."""

from collections.abc import Iterable, Sequence


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Return a table; numbers with three figures that matter."""
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(f"| {' | '.join(shown(cell) for cell in line)} |" for line in lines)


def number(value: float) -> str:
    """Return a number with three figures that matter, and no exponent."""
    if value >= 100:
        digits = len(str(int(value))) - 3
        return f"{round(value, -digits):,.0f}"
    if value == int(value):
        return str(int(value))
    return f"{value:.3g}" if value >= 0.001 else "< 0.001"


def replaced(page: str, text: str, mark: str) -> str:
    """Return a page with other text between `<!-- mark: begin -->` and its end. Raises ValueError where it has none."""
    begin, end = f"<!-- {mark}: begin -->\n", f"<!-- {mark}: end -->"
    before, found, rest = page.partition(begin)
    _, ended, after = rest.partition(end)
    if not found or not ended:
        raise ValueError(f"the page lacks the marks {begin.strip()} and {end}")
    return f"{before}{begin}\n{text}\n{end}{after}"


def shown(value: object) -> str:
    """Return a cell: a number with three figures, several with commas between them, anything else as it is."""
    if isinstance(value, tuple):
        return ", ".join(map(shown, value))
    return number(value) if isinstance(value, int | float) else str(value)
