"""From the series of a run to its charts: which lines stand together, how to read them, what the browser gets."""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Final

from loadtest.report.figures import median
from loadtest.results import Group, RunResult, Series

HINTS: Final[dict[Group, str]] = {
    "throughput": "What was asked for, accepted and received each second. Where received stays below accepted, "
    "a backlog grows; where accepted stays below asked, the API is at its end.",
    "latency": "Counted from the instant at which a request was meant to start, so that waiting for a slow answer "
    "is part of the figure. High percentiles that leave the median behind mean a queue; all rising means overload.",
    "backlog": "What is accepted and waits. Rows that gather in the outbox point at the relay, records that nobody has "
    "read yet (consumer lag) at delivery; without either it is the receivers. It must not grow to the end.",
    "lag": "How old the oldest is of what waits. An age that grows says that the next stage is slower than what comes "
    "in; one that jumps and falls was a pause.",
    "cpu": "What each process uses. A Python process that stays at one whole core is the bottleneck; all cores in use "
    "together mean that the machine is.",
    "memory": "Resident memory of each process. A line that still rises at the end of a long run is a leak.",
    "handles": "Open files and connections of each service, and its threads. A line that only rises is a leak.",
    "database": "What PostgreSQL says of itself. Dead rows that only rise mean that vacuum does not keep up.",
    "retries": "Deliveries that receivers refused, and attempts after the first. Once the receivers have healed, both "
    "must come to rest.",
}
ORDER: Final = list(HINTS)
BENCH_HINT: Final = "Each point is a round; those that are compared take turns within it."
_LOG_FROM = 50.0  # highest to lowest: from here on a straight axis shows the highest line only
_DIGITS = 5


@dataclass(frozen=True, slots=True)
class Summary:
    """One line of a chart in figures; None where nothing was read."""

    name: str
    lowest: float | None
    middle: float | None
    highest: float | None
    last: float | None


@dataclass(frozen=True, slots=True)
class Chart:
    """Lines of one group and unit; of a bench, those of one stage."""

    number: int  # in the page
    stage: str
    group: Group
    unit: str
    lines: list[Series]
    hint: str = ""  # how to read it, at the first of its kind

    @property
    def id(self) -> str:
        """The element in the page that it is drawn in."""
        return f"chart-{self.number}"

    @property
    def title(self) -> str:
        """What stands above it."""
        group = "CPU" if self.group == "cpu" else self.group.capitalize()
        return f"{self.stage and f'{self.stage}: '}{group}{self.unit and f', {self.unit}'}"

    @property
    def log(self) -> bool:
        """Whether its axis is logarithmic: for latencies that span so much that a straight one would hide most."""
        positive = [value for line in self.lines for value in read(line) if value > 0]
        return self.group == "latency" and bool(positive) and max(positive) >= _LOG_FROM * min(positive)

    @property
    def summaries(self) -> list[Summary]:
        """The same in figures."""
        return [summary(line) for line in self.lines]


def charts(result: RunResult) -> list[Chart]:
    """Put series of one group and unit together, groups in the order of `HINTS`; what was never read is left out.

    The lines of a bench are named `stage/contender`; there each stage has charts of its own.
    """
    bench = result.kind == "bench"
    found: dict[tuple[str, Group, str], list[Series]] = {}
    for series in filter(read, result.series):
        stage = series.name.partition("/")[0] if bench else ""
        found.setdefault((stage, series.group, series.unit), []).append(series)
    stages = [stage for stage, _, _ in found]
    keys = sorted(found, key=lambda key: (stages.index(key[0]), ORDER.index(key[1])))
    hints = [BENCH_HINT if bench else HINTS[group] for _, group, _ in keys]
    return [
        Chart(number, *key, found[key], "" if hint in hints[:number] else hint)
        for number, (key, hint) in enumerate(zip(keys, hints, strict=True))
    ]


def read(series: Series) -> list[float]:
    """Return the values that are there."""
    return [value for value in series.values if value is not None and math.isfinite(value)]


def summary(series: Series) -> Summary:
    """Put a line into figures."""
    values = read(series)
    if not values:
        return Summary(series.name, None, None, None, None)
    return Summary(series.name, min(values), median(values), max(values), values[-1])


def for_browser(chart: Chart) -> dict[str, Any]:
    """Return what `charts.js` draws: `tables` of [instants, values, values, ...], one per set of instants.

    `labels` go with the columns of values, table by table; plots with the same `sync` are zoomed together. Lines read
    at the same instants share a table; the browser joins tables, for only there can "not asked at this instant" (the
    line goes on) differ from "asked without an answer" (a gap).
    """
    tables: dict[tuple[float, ...], list[Series]] = {}
    for line in chart.lines:
        tables.setdefault(tuple(line.at_s), []).append(line)
    ordered = [line for lines in tables.values() for line in lines]
    return {
        "id": chart.id,
        "sync": f"run {chart.stage}",
        "log": chart.log,
        "labels": [line.name for line in ordered],
        "tables": [
            [[rounded(at) for at in at_s], *(drawn(line.values, log=chart.log) for line in lines)]
            for at_s, lines in tables.items()
        ],
    }


def drawn(values: Iterable[float | None], *, log: bool) -> list[float | None]:
    """Round values for drawing; what cannot be drawn (no number, or not above 0 on a logarithmic axis) is None."""
    return [None if value is None or (log and value <= 0) else rounded(value) for value in values]


def rounded(value: float) -> float | None:
    """Keep as many digits as a screen can show."""
    return float(f"{value:.{_DIGITS}g}") if math.isfinite(value) else None


def thinned(series: Series, points: int) -> tuple[list[float], list[float | None]]:
    """Return a series of at most `points`: the mean of each stretch of time, or of latencies the highest.

    A stretch stands at its middle; one without a value is None.
    """
    if len(series.at_s) <= points:
        return [rounded(at) or 0.0 for at in series.at_s], drawn(series.values, log=False)
    begin, width_s = series.at_s[0], (series.at_s[-1] - series.at_s[0]) / points
    stretches: list[list[float]] = [[] for _ in range(points)]
    for at, value in zip(series.at_s, series.values, strict=True):
        if value is not None and math.isfinite(value):
            stretches[min(int((at - begin) / width_s), points - 1)].append(value)
    at_s = [rounded(begin + (index + 0.5) * width_s) or 0.0 for index in range(points)]
    return at_s, [None if not values else rounded(_one(series, values)) for values in stretches]


def _one(series: Series, values: list[float]) -> float:
    return max(values) if series.group == "latency" else sum(values) / len(values)
