"""What a profile promised, beside what was measured. Pure."""

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from loadtest.measuring import Lines
from loadtest.reconcile import Verdict
from loadtest.results import Latency, Limit

COUNTS: Final = (
    *("lost", "on_their_way", "at_rest", "ended_otherwise", "doubled", "unexplained"),
    *("refused", "unanswered"),
)
LATENCIES: Final = {"accept": "accept", "receiver": "accept_to_receiver"}
GROWTH_PARTS: Final = 6
"""Growth compares the last sixth of a run with its second: of an hour the last ten minutes with those after the
first ten."""


def judge(
    limits: Mapping[str, float],
    *,
    counts: Mapping[str, int],
    latencies: Sequence[Latency],
    lines: Lines,
    idle: Mapping[str, float],
    ledger: Verdict | None,
    load_from_s: float,
    load_to_s: float,
) -> list[Limit]:
    """Judge every limit of a profile; one whose figure was not measured did not hold."""
    found = [none_of(name, limits[name], counts.get(name)) for name in COUNTS if name in limits]
    by_name = {latency.name: latency for latency in latencies}
    for name, value in limits.items():
        of, _, figure = name.partition("_p")
        if of in LATENCIES and figure in ("50_ms", "99_ms"):
            latency = by_name.get(LATENCIES[of])
            measured = None if latency is None else getattr(latency, f"p{figure.removesuffix('_ms')}")
            found.append(at_most(name, value, measured, "ms"))
    if "capacity_per_s" in limits:
        found.append(at_least("capacity_per_s", limits["capacity_per_s"], counts.get("capacity_per_s"), "/s"))
    for name, unit in (("idle_cpu_percent", "% of a core"), ("idle_process_mib", "MiB")):
        if name in limits:
            found.append(at_most(name, limits[name], idle.get(name), unit))
    for name, growth in (("memory_growth", memory_growth), ("dead_rows_growth", dead_rows_growth)):
        if name in limits:
            found.append(at_most(name, limits[name], growth(lines, load_from_s, load_to_s), "x"))
    if ledger is not None:
        words = ledger.words if ledger.clean is not False else f"offenders: {ledger.words}"
        found.append(Limit("ledger", "clean", words, ledger.clean is True))
    return found


def none_of(name: str, promised: float, measured: int | None) -> Limit:
    """A limit of a count, as a rule 0."""
    shown = "not measured" if measured is None else f"{measured:,}"
    return Limit(name, f"{promised:,g}", shown, measured is not None and measured <= promised)


def at_most(name: str, promised: float, measured: float | None, unit: str) -> Limit:
    """A limit from above."""
    shown = "not measured" if measured is None else f"{measured:,.4g} {unit}"
    return Limit(name, f"at most {promised:,g} {unit}", shown, measured is not None and measured <= promised)


def at_least(name: str, promised: float, measured: float | None, unit: str) -> Limit:
    """A limit from below."""
    shown = "not measured" if measured is None else f"{measured:,.4g} {unit}"
    return Limit(name, f"at least {promised:,g} {unit}", shown, measured is not None and measured >= promised)


def memory_growth(lines: Lines, from_s: float, to_s: float) -> float | None:
    """By how much the part of ours that grew most has grown; the servers' memory is theirs."""
    ours = [name for name in lines.names("memory") if name.endswith(("_service", "_relay", "_consumer"))]
    ratios = [growth(lines.points("memory", name), from_s, to_s, fold=mean) for name in ours]
    known = [ratio for ratio in ratios if ratio is not None]
    return max(known) if known else None


def dead_rows_growth(lines: Lines, from_s: float, to_s: float) -> float | None:
    """By how much the highest number of dead rows has grown; autovacuum makes it go up and down."""
    return growth(lines.points("database", "dead rows"), from_s, to_s, fold=max)


def growth(
    points: Sequence[tuple[float, float]], from_s: float, to_s: float, *, fold: Callable[[Sequence[float]], float]
) -> float | None:
    """The last sixth of a stretch over its second; None where one of them is empty, or nothing."""
    part = (to_s - from_s) / GROWTH_PARTS
    early = [value for at_s, value in points if from_s + part <= at_s < from_s + 2 * part]
    late = [value for at_s, value in points if to_s - part <= at_s <= to_s]
    if not early or not late or fold(early) <= 0:
        return None
    return fold(late) / fold(early)


def mean(values: Sequence[float]) -> float:
    """The mean."""
    return sum(values) / len(values)
