"""What a notification costs, read from results of the bench: each figure from the newest run that has it."""

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from loadtest.results import RunResult

CPU: Final = {
    "accept_single": ("accept_single/ours", ("api", "postgres")),
    "accept_batch": ("accept_batch/ours", ("api", "postgres")),
    "relay": ("relay/ours", ("relay", "postgres", "kafka")),
    "webhook": ("webhook/ours", ("delivery", "postgres", "kafka")),
    "email": ("email/ours", ("delivery", "postgres", "kafka")),
}
"""Of each step, where the bench measures it, and whose CPU it takes."""
WRITTEN: Final = {
    "accept_single": "footprint/accept single",
    "accept_batch": "footprint/accept batch",
    "relay": "footprint/relay",
    "deliver": "footprint/deliver",
    "deliver, after a checkpoint": "footprint/deliver, after a checkpoint",
}
SERVICES: Final = {
    "api_service": ("footprint/accept single", "connections"),
    "outbox_relay": ("footprint/relay", "connections"),
    "delivery_consumer": ("footprint/deliver", "connections"),
    "dlq_consumer": ("footprint/deliver", "dlq_connections"),
}
COUNTED: Final = ("wal_bytes", "full_page_images", "transactions", "dead_rows")
SCALED: Final = {"accept": "accept, batches", "relay": "relay", "webhook": "webhook"}
PROCESSES: Final = (1, 2, 4)


class NotMeasuredError(Exception):
    """Figures that are needed are in none of the results; `stages` are those of the bench that measure them."""

    def __init__(self, stages: Sequence[str]) -> None:
        super().__init__(f"not measured: {', '.join(stages)}")
        self.stages = list(stages)


@dataclass(frozen=True, slots=True)
class Scaled:
    """What so many processes of one kind did."""

    per_s: float
    cpu_us: Mapping[str, float]


@dataclass(frozen=True, slots=True)
class Costs:
    """What one notification takes. CPU is in microseconds, by step and process; all else as the names say."""

    cpu_us: Mapping[str, Mapping[str, float]]
    written: Mapping[str, Mapping[str, float]]  # COUNTED, by step
    kafka_bytes: float
    stored_bytes: float
    stored_in_indexes_bytes: float
    stored_loose_bytes: float
    connections: Mapping[str, float]  # of one process of each service
    scaling: Mapping[str, Mapping[int, Scaled]]  # empty where it was not measured
    whole_us: float | None = None  # CPU of everything in the stage `whole`, a check of the sum
    used: tuple[RunResult, ...] = ()

    def read_again_us(self, process: str) -> float:
        """Return the CPU that each further relay adds per row: every relay goes over all rows for its own.

        That is a third of what four relays take more than one; 0 where it was not measured.
        """
        relays = self.scaling.get("relay", {})
        if 1 not in relays or 4 not in relays:
            return 0.0
        return max(0.0, (relays[4].cpu_us[process] - relays[1].cpu_us[process]) / 3)


class Reading:
    """The results, newest first; keeps count of those that were used and of what was not found."""

    def __init__(self, results: Sequence[RunResult]) -> None:
        self._newest_first = sorted(results, key=lambda one: one.started_at, reverse=True)
        self.used: dict[str, RunResult] = {}
        self.missing: dict[str, None] = {}

    def find(self, contender: str, figure: str = "") -> float | None:
        """Return the median of a figure in the newest result that has the contender at all."""
        name = f"{contender} {figure}".strip()
        for result in self._newest_first:
            for series in result.series:
                values = [value for value in series.values if value is not None]
                if series.name == name and values:
                    self.used[result.name] = result
                    return statistics.median(values)
        return None

    def need(self, contender: str, figure: str) -> float:
        """Return a figure; where there is none, note its stage as missing."""
        found = self.find(contender, figure)
        if found is None:
            self.missing[contender.partition("/")[0]] = None
        return found or 0.0


def read(results: Sequence[RunResult]) -> Costs:
    """Read all costs. Raises NotMeasuredError; only `scaling` and `whole` may be missing."""
    reading = Reading(results)
    cpu_us = {
        step: {process: reading.need(contender, process) for process in processes}
        for step, (contender, processes) in CPU.items()
    }
    written = {
        step: {figure: reading.need(contender, figure) for figure in COUNTED} for step, contender in WRITTEN.items()
    }
    kafka_bytes = reading.need(WRITTEN["relay"], "kafka_bytes")
    stored_bytes = reading.need(WRITTEN["deliver"], "stored_bytes")
    in_indexes = reading.need(WRITTEN["deliver"], "stored_in_indexes_bytes")
    loose = reading.need(WRITTEN["deliver"], "stored_loose_bytes")
    connections = {service: reading.need(*where) for service, where in SERVICES.items()}
    scaling = {kind: found for kind in SCALED if (found := _scaled(reading, kind))}
    whole = [
        reading.find("whole/ours", process)
        for process in ("api_service", "outbox_relay", "delivery_consumer", "dlq_consumer", "postgres", "kafka")
    ]
    if reading.missing:
        raise NotMeasuredError(list(reading.missing))
    whole_us = sum(one for one in whole if one is not None) if None not in whole else None
    used = tuple(sorted(reading.used.values(), key=lambda one: one.started_at))
    return Costs(
        cpu_us=cpu_us,
        written=written,
        kafka_bytes=kafka_bytes,
        stored_bytes=stored_bytes,
        stored_in_indexes_bytes=in_indexes,
        stored_loose_bytes=loose,
        connections=connections,
        scaling=scaling,
        whole_us=whole_us,
        used=used,
    )


def _scaled(reading: Reading, kind: str) -> dict[int, Scaled]:
    """Return what the stage `scaling` has of one kind."""
    process = {"accept": "api", "relay": "relay", "webhook": "delivery"}[kind]
    found: dict[int, Scaled] = {}
    for count in PROCESSES:
        contender = f"scaling/{kind} × {count}"
        per_s = reading.find(contender)
        cpu_us = {name: reading.find(contender, name) for name in (process, "postgres")}
        if per_s is not None and None not in cpu_us.values():
            found[count] = Scaled(per_s, {name: us for name, us in cpu_us.items() if us is not None})
    return found
