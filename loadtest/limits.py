"""What a profile promised, beside what was measured. Pure."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.measuring import Lines
from loadtest.reconcile import Verdict
from loadtest.results import Group, Latency, Limit

COUNTS: Final = (
    *("lost", "on_their_way", "at_rest", "ended_otherwise", "doubled", "misplaced", "unexplained", "foreign"),
    *("refused", "unanswered"),
)
LATENCIES: Final = {"accept": "accept", "receiver": "accept_to_receiver", "generator_lag": "generator_lag"}
SERVICES: Final = ("api_service", "outbox_relay", "delivery_consumer", "dlq_consumer")
GROWTH_PARTS: Final = 6
"""Growth compares the last sixth of a run with its second: of an hour the last ten minutes with those after the
first ten. Before the second sixth a run is not in its stride, and nothing is judged."""


def mean(values: Sequence[float]) -> float:
    """The mean."""
    return sum(values) / len(values)


@dataclass(frozen=True, slots=True)
class Growth:
    """What must not grow: some lines, of which the worst counts."""

    group: Group
    names: tuple[str, ...]
    fold: Callable[[Sequence[float]], float]  # of a sixth of the run
    floor: float  # what is less than this counts as this: from nothing to a little is no growth


GROWTHS: Final = {
    "memory_growth": Growth("memory", SERVICES, mean, 1),
    "files_growth": Growth("handles", tuple(f"{name} files" for name in SERVICES), mean, 10),
    "threads_growth": Growth("handles", tuple(f"{name} threads" for name in SERVICES), mean, 10),
    "connections_growth": Growth("database", ("connections",), max, 10),
    "outbox_dead_rows_growth": Growth("database", ("dead rows of outbox",), max, 20_000),  # its autovacuum threshold
    "outbox_rows_growth": Growth("backlog", ("outbox rows",), mean, 1_000),
    "consumer_lag_growth": Growth("backlog", ("consumer lag",), mean, 1_000),
}
MOST: Final = {"wal_mib": ("WAL on disk", "MiB"), "dead_rows_share": ("dead share of large tables", "")}
IDLE: Final = {"idle_cpu_percent": "% of a core", "idle_process_mib": "MiB"}
OF_KIND: Final = {"capacity_per_s": "stress", "overdue_s": "dlq", "recovery_s": "dlq"}
NAMES: Final = frozenset(
    (
        *(*COUNTS, *GROWTHS, *MOST, *IDLE, *OF_KIND, "ledger", "generator_lag_p99_ms"),
        *("accept_p50_ms", "accept_p99_ms", "receiver_p50_ms", "receiver_p99_ms"),
    )
)
"""Every limit there is; those `OF_KIND` only where there is something to judge."""
NEEDS: Final = {
    **dict.fromkeys((*IDLE, "memory_growth", "files_growth", "threads_growth"), "processes on this machine"),
    **dict.fromkeys((*MOST, "ledger", "connections_growth", "outbox_dead_rows_growth"), "TARGET_DATABASE_URL"),
    "outbox_rows_growth": "TARGET_RELAY_URL",
    "consumer_lag_growth": "TARGET_DELIVERY_URL",
}
"""What a limit needs to be judged of an installation elsewhere: a variable, or what it cannot have."""


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
    of_idle = {name: (idle.get(name), unit) for name, unit in IDLE.items()}
    of_growth = {name: (growth(one, lines, load_from_s, load_to_s), "x") for name, one in GROWTHS.items()}
    of_most = {name: (highest(lines, line, load_from_s, load_to_s), unit) for name, (line, unit) in MOST.items()}
    figures = of_idle | of_growth | of_most
    found += [at_most(name, limits[name], *figures[name]) for name in figures if name in limits]
    if "ledger" in limits:
        verdict = ledger or Verdict(None, "not verified: the run ended before it could be")
        found.append(Limit("ledger", "clean", verdict.words, verdict.clean is True))
    return found


def none_of(name: str, promised: float, measured: int | None) -> Limit:
    """A limit of a count, as a rule 0."""
    shown = "not measured" if measured is None else f"{measured:,}"
    return Limit(name, f"{promised:,g}", shown, measured is not None and measured <= promised)


def at_most(name: str, promised: float, measured: float | None, unit: str) -> Limit:
    """A limit from above."""
    shown = "not measured" if measured is None else f"{measured:,.4g} {unit}".rstrip()
    held = measured is not None and measured <= promised
    return Limit(name, f"at most {promised:,g} {unit}".rstrip(), shown, held)


def at_least(name: str, promised: float, measured: float | None, unit: str) -> Limit:
    """A limit from below."""
    shown = "not measured" if measured is None else f"{measured:,.4g} {unit}"
    return Limit(name, f"at least {promised:,g} {unit}", shown, measured is not None and measured >= promised)


def growth(of: Growth, lines: Lines, from_s: float, to_s: float) -> float | None:
    """By how much the line that grew most has grown; None where one of them was not seen early and late."""
    part = (to_s - from_s) / GROWTH_PARTS
    ratios = []
    for name in of.names:
        early = seen(lines, of.group, name, from_s + part, from_s + 2 * part)
        late = seen(lines, of.group, name, to_s - part, to_s)
        if not early or not late:
            return None
        ratios.append(of.fold(late) / max(of.fold(early), of.floor))
    return max(ratios)


def highest(lines: Lines, name: str, from_s: float, to_s: float) -> float | None:
    """The highest value of a line of the database's, from the second sixth on."""
    values = seen(lines, "database", name, from_s + (to_s - from_s) / GROWTH_PARTS, to_s)
    return max(values) if values else None


def seen(lines: Lines, group: Group, name: str, from_s: float, to_s: float) -> list[float]:
    """The values of a line in a stretch."""
    return [value for at_s, value in lines.points(group, name) if from_s <= at_s < to_s]
