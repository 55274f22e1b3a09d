"""What came of a run: as a table on the terminal, and as the result that reports are made of."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from rich.table import Table

from loadtest.bench.figures import PER_S, Judgement, Sample, Spread, judge, spread_of
from loadtest.bench.frame import Plan, Stage
from loadtest.results import Group, Limit, RunResult, Series

_OF_THE_DATABASE: Final = frozenset(("bytes", "images", "transactions", "rows", "connections"))


@dataclass(slots=True)
class StageOutcome:
    """The rounds of one stage, also of one that was broken off."""

    stage: Stage
    whats: dict[str, str] = field(default_factory=dict)  # contender -> what it is
    samples: dict[str, list[Sample]] = field(default_factory=dict)
    began_at_s: dict[str, list[float]] = field(default_factory=dict)  # of each round, since the run began
    left_out: dict[str, str] = field(default_factory=dict)
    fault: str | None = None

    @property
    def measured(self) -> list[tuple[str, list[Sample]]]:
        """The contenders that have a round, in the order of the stage."""
        return [(name, self.samples[name]) for name in self.whats if name in self.samples]

    @property
    def judgements(self) -> list[Judgement]:
        """What became of the stage's promises, as far as there are rounds."""
        return [one for promise in self.stage.promises if (one := judge(promise, self.samples)) is not None]


def table(outcome: StageOutcome, *, quick: bool) -> Table:
    """Return the stage as a table: a line per contender, then a line per promise."""
    title = f"{outcome.stage.title} ({outcome.stage.name})"
    made = Table(title=title, title_justify="left")
    for column in ("", "a second", "CPU µs each, by process", "other figures", "rounds"):
        made.add_column(column, overflow="fold")
    for name, samples in outcome.measured:
        others = ", ".join(f"{key} {in_words(spread_of(samples, key))}" for key in _common(samples, "others"))
        cpu = ", ".join(
            f"{process} {_number(spread_of(samples, f'cpu_us:{process}').median)}"
            for process in _common(samples, "cpu_s")
        )
        rate = in_words(spread_of(samples, PER_S)) if any(sample.work for sample in samples) else ""
        made.add_row(name, rate, cpu, others, str(len(samples)))
    for name, reason in outcome.left_out.items():
        made.add_row(name, "left out", reason, "", "0")
    for one in outcome.judgements:
        verdict = "not judged: quick" if quick else "held" if one.held else "NOT HELD"
        made.add_row(f"→ {one.promise.text}", measured(one), promised(one), verdict, "", style="bold")
    return made


def promised(judgement: Judgement) -> str:
    """Return what was promised, in words."""
    promise = judgement.promise
    bound = f"≥ {_number(promise.at_least)}" if promise.at_least is not None else f"≤ {_number(promise.at_most or 0)}"
    return f"{bound} × {judgement.beside}" if judgement.beside else bound


def measured(judgement: Judgement) -> str:
    """Return what was measured, in words."""
    return in_words(judgement.measured) + (" ×" if judgement.beside else "")


def result(
    outcomes: Sequence[StageOutcome],
    plan: Plan,
    *,
    command: str,
    started_at: str,
    took_s: float,
    versions: Mapping[str, str],
    machine: Mapping[str, str | int | float],
    settings: Mapping[str, str],
    broken_off: str | None,
) -> RunResult:
    """Return the whole run. A quick one has no limits: its sizes are too small to judge anything by."""
    faults = [f"{one.stage.name}: {one.fault}" for one in outcomes if one.fault]
    return RunResult(
        kind="bench",
        profile="quick"
        if plan.quick
        else "+".join(one.stage.name for one in outcomes)
        if len(outcomes) < 3
        else "full",
        seed=plan.seed,
        command=command,
        started_at=started_at,
        took_s=took_s,
        versions=dict(versions),
        machine=dict(machine),
        settings={f"{one.stage.name}/{name}": what for one in outcomes for name, what in one.whats.items()}
        | {**settings},
        limits=[] if plan.quick else [_limit(judged) for one in outcomes for judged in one.judgements],
        series=[series for one in outcomes for series in _series(one)],
        counts={"rounds": plan.rounds, "stages": len(outcomes)},
        notes=[note for one in outcomes for note in _notes(one, quick=plan.quick)],
        broken_off=broken_off or ("; ".join(faults) or None),
    )


def _limit(judgement: Judgement) -> Limit:
    return Limit(judgement.promise.text, promised(judgement), measured(judgement), judgement.held)


def _notes(outcome: StageOutcome, *, quick: bool) -> list[str]:
    notes = ["quick sizes: they show that everything runs, their figures mean nothing"] if quick else []
    for name, samples in outcome.measured:
        parts = [f"{in_words(spread_of(samples, PER_S))} a second"] if any(sample.work for sample in samples) else []
        parts += [
            f"{process} {in_words(spread_of(samples, f'cpu_us:{process}'))} µs of CPU each"
            for process in _common(samples, "cpu_s")
        ]
        parts += [f"{key} {in_words(spread_of(samples, key))}" for key in _common(samples, "others")]
        notes.append(f"{outcome.stage.name}/{name}: {'; '.join(parts)}")
    notes += [f"{outcome.stage.name}/{name} was left out: {reason}" for name, reason in outcome.left_out.items()]
    return notes


def _series(outcome: StageOutcome) -> list[Series]:
    """Return a line per contender and figure, a point per round."""
    made: list[Series] = []
    for name, samples in outcome.measured:
        lines: list[tuple[str, str, Group, str]] = [("", "1/s", "throughput", PER_S)]
        lines += [(process, "µs", "cpu", f"cpu_us:{process}") for process in _common(samples, "cpu_s")]
        lines += [(key, *_unit_and_group(key), key) for key in _common(samples, "others")]
        at_s = outcome.began_at_s[name][: len(samples)]
        made += [
            Series(
                f"{outcome.stage.name}/{name} {what}".strip(), unit, group, at_s, [one.figure(key) for one in samples]
            )
            for what, unit, group, key in lines
        ]
    return made


def _unit_and_group(key: str) -> tuple[str, Group]:
    """Return the unit at the end of a figure's name, and where a report draws it."""
    if key.endswith("_ms"):
        return "ms", "latency"
    if key.endswith("_mib"):
        return "MiB", "memory"
    unit = key.rpartition("_")[2]
    return unit, "database" if unit in _OF_THE_DATABASE else "cpu"


def _common(samples: Sequence[Sample], attribute: str) -> list[str]:
    """Return the keys that all samples have, in order."""
    return [key for key in getattr(samples[0], attribute) if all(key in getattr(one, attribute) for one in samples)]


def in_words(spread: Spread) -> str:
    """Return the median with the lowest and the highest."""
    if spread.low == spread.high:
        return _number(spread.median)
    return f"{_number(spread.median)} ({_number(spread.low)}–{_number(spread.high)})"


def _number(value: float) -> str:
    """Return a number with three figures that matter."""
    if value >= 1_000:
        return f"{value:,.0f}"
    return f"{value:.3g}"
