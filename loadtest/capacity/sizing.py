"""From the cost of one notification to what a rate needs. Pure arithmetic; all that is assumed stands in one place."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from loadtest.capacity.costs import Costs

RATES_PER_S: Final = (100, 1_000, 10_000, 100_000)
BUCKETS: Final = 64
_US: Final = 1e-6
_DAY_S: Final = 86_400


class DoesNotFitError(Exception):
    """Not even the smallest share of a rate fits into a cell."""


@dataclass(frozen=True, slots=True)
class Assumptions:
    """What was not measured: how the load looks, how full machines may be, and what one PostgreSQL is trusted with."""

    peak_factor: float = 2.0  # the busiest minutes, as a multiple of the rate
    utilisation: float = 0.5  # of a core or a process, at the peak
    single_share: float = 0.1  # accepted one by one; the others come in batches
    email_share: float = 0.5  # the others are webhooks
    least_processes: int = 2  # of each service in a cell, so that one may end
    kafka_replicas: int = 3
    kafka_kept_h: float = 24.0
    retention_days: tuple[int, ...] = (1, 30, 90)
    table_slack: float = 1.2  # tables and indexes beside their packed size: room that vacuum freed, half-full pages
    cell_retention_days: int = 30
    cell_disk_gb: float = 20_000.0  # a larger one takes days to copy, for a standby or a restore
    cell_postgres_cores: float = 32.0
    cell_wal_mb_per_s: float = 200.0  # one stream of WAL, written, flushed and sent to a standby


@dataclass(frozen=True, slots=True)
class Need:
    """What a rate needs, over all cells. `cores` are to be provided: the peak's CPU divided by the utilisation."""

    per_s: float
    cells: int
    limits: tuple[str, ...]  # what does not allow for fewer cells
    cores: Mapping[str, float]  # by service and server
    processes: Mapping[str, int]  # by service
    connections: int
    transactions_per_s: float  # at the peak, like all rates here
    dead_rows_per_s: float
    wal_mb_per_s: float
    wal_gb_per_day: float
    kafka_mb_per_s: float  # of one copy
    kafka_gb: float  # of all replicas, for as long as records are kept
    disk_gb: Mapping[int, float]  # tables and indexes, by days of retention


def needed(per_s: float, costs: Costs, assumed: Assumptions) -> Need:
    """Return what a rate needs, in as few cells as it fits into. Raises DoesNotFitError."""
    limits: tuple[str, ...] = ()
    for cells in range(1, 10_001):
        cell = _cell(per_s / cells, costs, assumed)
        passed = _passed(cell, assumed)
        if not passed:
            return _times(cell, cells, limits)
        limits = passed
    raise DoesNotFitError(f"{per_s:,.0f} a second do not fit into 10,000 cells: {', '.join(limits)}")


def relays_for(peak_per_s: float, own_us: float, read_us: float, utilisation: float) -> int | None:
    """Return how many relays share a rate; None where no number can.

    Each goes over every row (`read_us`) and moves its share of them (`own_us` divided by their number), and none is to
    be busier than `utilisation`.
    """
    left = utilisation - peak_per_s * read_us * _US
    if left <= 0:
        return None
    relays = max(1, math.ceil(peak_per_s * own_us * _US / left))
    return relays if relays <= BUCKETS else None


def cpu_us(costs: Costs, assumed: Assumptions) -> dict[str, float]:
    """Return the CPU of one notification by service and server, for the mix that is assumed; one relay."""
    shares = {
        "accept_single": assumed.single_share,
        "accept_batch": 1 - assumed.single_share,
        "relay": 1.0,
        "webhook": 1 - assumed.email_share,
        "email": assumed.email_share,
    }
    names = {"api": "api_service", "relay": "outbox_relay", "delivery": "delivery_consumer"}
    summed: dict[str, float] = {}
    for step, share in shares.items():
        for process, us in costs.cpu_us[step].items():
            name = names.get(process, process)
            summed[name] = summed.get(name, 0.0) + share * us
    return summed


def written(costs: Costs, assumed: Assumptions, figure: str) -> float:
    """Return a figure of COUNTED for one notification over all steps, for the mix that is assumed."""
    accepted = (
        assumed.single_share * costs.written["accept_single"][figure]
        + (1 - assumed.single_share) * costs.written["accept_batch"][figure]
    )
    return accepted + costs.written["relay"][figure] + costs.written["deliver"][figure]


def _cell(per_s: float, costs: Costs, assumed: Assumptions) -> Need:
    """Return what a rate needs in one cell, whether or not there is such a one."""
    peak, each = per_s * assumed.peak_factor, cpu_us(costs, assumed)
    read_us = costs.read_again_us("relay")
    relays = relays_for(peak, each["outbox_relay"] - read_us, read_us, assumed.utilisation) or BUCKETS + 1
    relays = max(relays, assumed.least_processes)
    each["outbox_relay"] += (relays - 1) * read_us
    each["postgres"] += (relays - 1) * costs.read_again_us("postgres")
    cores = {name: peak * us * _US / assumed.utilisation for name, us in each.items()}
    processes = {
        "api_service": _processes(cores["api_service"], assumed),
        "outbox_relay": relays,
        "delivery_consumer": _processes(cores["delivery_consumer"], assumed),
        "dlq_consumer": assumed.least_processes,
    }
    wal_bytes = written(costs, assumed, "wal_bytes")
    return Need(
        per_s=per_s,
        cells=1,
        limits=(),
        cores=cores,
        processes=processes,
        connections=round(sum(count * costs.connections[name] for name, count in processes.items())),
        transactions_per_s=peak * written(costs, assumed, "transactions"),
        dead_rows_per_s=peak * written(costs, assumed, "dead_rows"),
        wal_mb_per_s=peak * wal_bytes / 1e6,
        wal_gb_per_day=per_s * wal_bytes * _DAY_S / 1e9,
        kafka_mb_per_s=peak * costs.kafka_bytes / 1e6,
        kafka_gb=per_s * costs.kafka_bytes * assumed.kafka_replicas * assumed.kafka_kept_h * 3_600 / 1e9,
        disk_gb={
            days: per_s * costs.stored_bytes * assumed.table_slack * days * _DAY_S / 1e9
            for days in {*assumed.retention_days, assumed.cell_retention_days}
        },
    )


def _passed(cell: Need, assumed: Assumptions) -> tuple[str, ...]:
    """Name the limits of one cell that it is beyond."""
    limits = {
        "relays": cell.processes["outbox_relay"] > BUCKETS,
        "PostgreSQL's cores": cell.cores["postgres"] > assumed.cell_postgres_cores,
        "WAL": cell.wal_mb_per_s > assumed.cell_wal_mb_per_s,
        f"disk for {assumed.cell_retention_days} days": (
            cell.disk_gb[assumed.cell_retention_days] > assumed.cell_disk_gb
        ),
    }
    return tuple(name for name, passed in limits.items() if passed)


def _processes(cores: float, assumed: Assumptions) -> int:
    """A process of ours uses one core at the most; rounded, so that a sum of fractions costs no process."""
    return max(assumed.least_processes, math.ceil(round(cores, 6)))


def _times(cell: Need, cells: int, limits: tuple[str, ...]) -> Need:
    return Need(
        per_s=cell.per_s * cells,
        cells=cells,
        limits=limits,
        cores={name: cores * cells for name, cores in cell.cores.items()},
        processes={name: count * cells for name, count in cell.processes.items()},
        connections=cell.connections * cells,
        transactions_per_s=cell.transactions_per_s * cells,
        dead_rows_per_s=cell.dead_rows_per_s * cells,
        wal_mb_per_s=cell.wal_mb_per_s * cells,
        wal_gb_per_day=cell.wal_gb_per_day * cells,
        kafka_mb_per_s=cell.kafka_mb_per_s * cells,
        kafka_gb=cell.kafka_gb * cells,
        disk_gb={days: size * cells for days, size in cell.disk_gb.items()},
    )
