"""The page of all runs in a directory; it compares two of them."""

from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from loadtest.report.charts import ORDER, read, thinned
from loadtest.report.figures import duration, instant, number, title, verdict, verdict_words
from loadtest.report.inlining import page, write_whole
from loadtest.results import Latency, ResultError, RunResult, load

INDEX = "index.html"
_COMPARED = 30  # the newest runs; each adds its series to the page
_POINTS = 200  # of a line in a comparison; the page of a run has them all


@dataclass(frozen=True, slots=True)
class Row:
    """A run in the table."""

    name: str  # of its file, without the ending; what a link to a comparison names it by
    page: str | None  # its own, if that has been written
    result: RunResult
    title: str
    verdict: str
    verdict_words: str
    latency: Latency | None  # from accept to the receiver, or what else was measured


@dataclass(frozen=True, slots=True)
class Unreadable:
    """A file that is no result of a run."""

    file: str
    why: str


def write_index(directory: Path) -> Path:
    """Write `index.html` of all results in a directory, newest first; return its path.

    A file that cannot be read has a line that says why: a run does not vanish from the list.
    """
    rows, unreadable = read_all(directory)
    path = directory / INDEX
    write_whole(path, render_index(rows, unreadable))
    return path


def read_all(directory: Path) -> tuple[list[Row], list[Unreadable]]:
    """Read every `*.json` of a directory, newest first."""
    rows, unreadable = [], []
    for path in sorted(directory.glob("*.json"), reverse=True):
        try:
            own = path.with_suffix(".html")
            rows.append(row(path.stem, load(path), own.name if own.exists() else None))
        except (ResultError, OSError) as error:
            unreadable.append(Unreadable(path.name, str(error)))
    return rows, unreadable


def row(name: str, result: RunResult, page: str | None) -> Row:
    """Sum a run up."""
    by_name = {latency.name: latency for latency in result.latencies}
    shown = by_name.get("accept_to_receiver") or next(iter(result.latencies), None)
    return Row(name, page, result, title(result), verdict(result), verdict_words(result), shown)


def render_index(rows: list[Row], unreadable: list[Unreadable]) -> str:
    """Return the page; it begins with the newest run that has an earlier one of the same title, and that."""
    compared = rows[:_COMPARED]
    return page(
        "index.html",
        scripts=["charts.js", "compare.js"],
        data={"runs": {one.name: for_comparison(one) for one in compared}, "chosen": first_choice(compared)},
        rows=rows,
        compared=compared,
        unreadable=unreadable,
    )


def first_choice(rows: list[Row]) -> list[str]:
    """Name the earlier and the later run to begin with, or none if there are no two."""
    for later, one in enumerate(rows):
        for earlier in rows[later + 1 :]:
            if earlier.title == one.title:
                return [earlier.name, one.name]
    return [rows[1].name, rows[0].name] if len(rows) > 1 else []


def for_comparison(one: Row) -> dict[str, Any]:
    """Return what `compare.js` compares."""
    result = one.result
    facts = {"profile": one.title}
    for prefix, found in (("machine", result.machine), ("version", result.versions), ("setting", result.settings)):
        facts |= {f"{prefix}: {name}": number(v) if isinstance(v, float) else str(v) for name, v in found.items()}
    facts |= {"command": result.command, "seed": str(result.seed), "took": duration(result.took_s)}
    return {
        "title": f"{one.title}, {instant(result.started_at)}",
        "verdict": one.verdict_words,
        "facts": facts,
        "limits": {limit.name: asdict(limit) for limit in result.limits},
        "latencies": {latency.name: asdict(latency) for latency in result.latencies},
        "counts": result.counts,
        "series": [
            {"group": series.group, "unit": series.unit, "name": series.name, "table": thinned(series, _POINTS)}
            for series in sorted(result.series, key=lambda series: ORDER.index(series.group))
            if read(series)
        ],
    }
