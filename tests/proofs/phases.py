"""Two phases of one load, calm and then disturbed, and how somebody fared in each who should notice nothing."""

from collections.abc import Collection, Iterable
from dataclasses import dataclass

from tests.proofs.figures import accepted_at, longest_gap, percentile
from tests.proofs.receiver import Row
from tests.proofs.report import Report

ARRIVE_WITHIN_S = 5.0
"""Of a phase's end: what takes longer has not kept the rate."""


@dataclass(frozen=True, slots=True)
class Phase:
    """How those fared who are watched, between two instants. What never arrived took for ever."""

    begin: float
    end: float
    accepted: int
    arrived: int
    p50_s: float
    p99_s: float
    worst_s: float
    silence_s: float

    @property
    def rate(self) -> float:
        """The share of what was accepted that arrived in time."""
        return self.arrived / self.accepted if self.accepted else 0.0

    @property
    def accepted_per_s(self) -> float:
        """How many were accepted a second."""
        return self.accepted / (self.end - self.begin)


def phase(accepted: Iterable[str], rows: Collection[Row], *, begin: float, end: float) -> Phase:
    """Measure one phase, of the ids that are watched: from accept, the instant in the id, to arrival."""
    wanted = {id_ for id_ in accepted if begin <= accepted_at(id_) < end}
    first: dict[str, float] = {}
    for row in rows:
        if row.id in wanted:
            first.setdefault(row.id, row.received_at)
    took = [first.get(id_, float("inf")) - accepted_at(id_) for id_ in wanted] or [float("inf")]
    arrived = sum(at < end + ARRIVE_WITHIN_S for at in first.values())
    silence_s = longest_gap(first.values(), begin=begin, end=end)
    return Phase(begin, end, len(wanted), arrived, percentile(took, 0.5), percentile(took, 0.99), max(took), silence_s)


def compare(report: Report, calm: Phase, disturbed: Phase, *, name: str) -> None:
    """Tell of both phases, and hold that the second is as good as the first."""
    for title, one in (("calm", calm), (name, disturbed)):
        report.figure(f"{title}: accepted of them per s", one.accepted_per_s)
        report.figure(f"{title}: median ms", one.p50_s * 1000)
        report.figure(f"{title}: p99 ms", one.p99_s * 1000)
        report.figure(f"{title}: longest ms", one.worst_s * 1000)
        report.figure(f"{title}: longest s without an arrival", one.silence_s)
    ratio = disturbed.p99_s / calm.p99_s
    report.promise(f"p99, {name} to calm", ratio, "<= 1.25", held=ratio <= 1.25)
    report.promise("calm: share that arrived in time", calm.rate, ">= 0.99", held=calm.rate >= 0.99)
    share = disturbed.rate / calm.rate if calm.rate else 0.0
    report.promise(f"rate, {name} to calm", share, ">= 0.95", held=share >= 0.95)
