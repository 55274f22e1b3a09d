"""The tables, as Markdown."""

from collections.abc import Callable, Sequence
from dataclasses import fields
from typing import Final

from loadtest.capacity.costs import COUNTED, PROCESSES, SCALED, Costs
from loadtest.capacity.sizing import Assumptions, DoesNotFitError, Need, cpu_us, needed, written
from loadtest.limits import SERVICES
from loadtest.markdown import number, shown, table

SERVERS: Final = ("postgres", "kafka")
_MEANING: Final = {
    "peak_factor": "the busiest minutes, as a multiple of the rate in the head of the table",
    "utilisation": "how busy a core or a process may be at the peak",
    "single_share": "of the notifications are accepted one by one, the others in batches of 1,000",
    "email_share": "are e-mails of 2 KB, the others webhooks of 600 bytes",
    "least_processes": "of each service in a cell, so that one may end",
    "kafka_replicas": "copies of each record",
    "kafka_kept_h": "hours that Kafka keeps a record",
    "retention_days": "days that ended notifications are kept, `RETENTION_DAYS`",
    "table_slack": "of the packed size: room that vacuum has freed, pages that are not full",
    "cell_retention_days": "days that a cell's disk has to hold",
    "cell_disk_gb": "GB of tables and indexes that one PostgreSQL is trusted with: more takes days to copy or restore",
    "cell_postgres_cores": "cores of the largest PostgreSQL that is trusted with a cell",
    "cell_wal_mb_per_s": "MB/s of WAL that one PostgreSQL writes, flushes and sends to a standby",
}


def everything(costs: Costs, assumed: Assumptions, rates: Sequence[float]) -> str:
    """Return all sections, one after the other."""
    sections = (
        ("Measured by", sources(costs)),
        ("Assumed", assumptions(assumed)),
        ("CPU of a notification, µs", cpu(costs, assumed)),
        ("What a notification writes", writes(costs, assumed)),
        ("What a rate needs", needs(costs, assumed, rates)),
        ("One, two and four processes", scaling(costs)),
    )
    return "\n\n".join(f"### {title}\n\n{text}" for title, text in sections) + "\n"


def sources(costs: Costs) -> str:
    """Return the runs that the figures are from."""
    rows = [
        (one.name, one.versions.get("commit", "?"), one.counts.get("rounds", 1), _machine(one.machine))
        for one in costs.used
    ]
    return table(("run", "commit", "rounds", "machine"), rows)


def assumptions(assumed: Assumptions) -> str:
    """Return what is assumed, a line each."""
    return table(
        ("assumption", "value", "is"),
        [(f"`{one.name}`", shown(getattr(assumed, one.name)), _MEANING[one.name]) for one in fields(assumed)],
    )


def cpu(costs: Costs, assumed: Assumptions) -> str:
    """Return the CPU of each step, of the mix, and of the whole pipeline as it was measured in one piece."""
    rows = []
    for step, used in costs.cpu_us.items():
        service = next(us for process, us in used.items() if process not in SERVERS)
        rows.append((step.replace("_", ", "), service, used["postgres"], used.get("kafka", ""), sum(used.values())))
    mixed = cpu_us(costs, assumed)
    services = sum(us for name, us in mixed.items() if name not in SERVERS)
    rows.append(("the mix assumed", services, mixed["postgres"], mixed["kafka"], sum(mixed.values())))
    batch_and_webhook = [costs.cpu_us[step] for step in ("accept_batch", "relay", "webhook")]
    added = sum(sum(used.values()) for used in batch_and_webhook)
    measured = "" if costs.whole_us is None else f"; in one piece (`whole`): {number(costs.whole_us)} µs"
    text = table(("step", "service", "PostgreSQL", "Kafka", "all"), rows)
    return f"{text}\n\nBatch, relay and webhook add up to {number(added)} µs{measured}."


def writes(costs: Costs, assumed: Assumptions) -> str:
    """Return what each step writes, and what stays."""
    rows: list[Sequence[object]] = [
        (step.replace("_", ", "), *(each[figure] for figure in COUNTED)) for step, each in costs.written.items()
    ]
    rows.append(("the mix assumed", *(written(costs, assumed, figure) for figure in COUNTED)))
    text = table(("step", "WAL, bytes", "full-page images", "transactions", "dead rows"), rows)
    connections = ", ".join(f"{service} {number(count)}" for service, count in costs.connections.items())
    return (
        f"{text}\n\nA record takes {number(costs.kafka_bytes)} bytes of a topic's segment. Packed, "
        f"{number(costs.stored_bytes)} bytes stay in `notifications` and `delivery_attempts`, "
        f"{number(costs.stored_in_indexes_bytes)} of them in indexes; a table's first rows take "
        f"{number(costs.stored_loose_bytes)}, until others use the room of their earlier versions. "
        f"Sessions of one process: {connections}."
    )


def needs(costs: Costs, assumed: Assumptions, rates: Sequence[float]) -> str:
    """Return what each rate needs, a column each."""
    found: list[Need | str] = []
    for rate in rates:
        try:
            found.append(needed(rate, costs, assumed))
        except DoesNotFitError as error:
            found.append(str(error))
    rows = [(name, *(one if isinstance(one, str) else of(one) for one in found)) for name, of in _rows(assumed)]
    return table(("notifications a second, on average", *(f"{rate:,.0f}" for rate in rates)), rows)


def scaling(costs: Costs) -> str:
    """Return what several processes of a kind did, and what it cost."""
    if not costs.scaling:
        return "Not measured: `python -m loadtest bench --only scaling`. Relays are taken to share all of their work."
    rows = []
    for kind, counts in costs.scaling.items():
        first = counts.get(1)
        for count in PROCESSES:
            if (one := counts.get(count)) is None:
                continue
            beside = f"{one.per_s / first.per_s:.2f}" if first else ""
            service, postgres = (us for _, us in sorted(one.cpu_us.items(), key=lambda item: item[0] == "postgres"))
            rows.append((SCALED[kind], count, one.per_s, beside, service, postgres))
    read_us, postgres_us = costs.read_again_us("relay"), costs.read_again_us("postgres")
    head = ("stage", "processes", "a second", "× one", "µs, service", "µs, PostgreSQL")
    return (
        f"{table(head, rows)}\n\nEach further relay goes over all rows: {number(read_us)} µs of its own and "
        f"{number(postgres_us)} µs of PostgreSQL a row."
    )


def _rows(assumed: Assumptions) -> list[tuple[str, Callable[[Need], object]]]:
    """Return the lines of the table of needs: a name, and how to read it."""

    def service(name: str) -> Callable[[Need], object]:
        def shown(need: Need) -> object:
            cores = f" ({number(need.cores[name])} cores)" if name in need.cores else ""
            return f"{need.processes[name]:,}{cores}"

        return shown

    def disk(days: int) -> Callable[[Need], object]:
        return lambda need: need.disk_gb[days]

    return [
        ("cells", lambda need: need.cells),
        ("why not fewer", lambda need: ", ".join(need.limits) or "–"),
        *((f"{name}, processes", service(name)) for name in SERVICES),
        ("PostgreSQL, cores", lambda need: need.cores["postgres"]),
        ("PostgreSQL, connections", lambda need: f"{need.connections:,}"),
        ("PostgreSQL, transactions a second", lambda need: need.transactions_per_s),
        ("PostgreSQL, dead rows a second", lambda need: need.dead_rows_per_s),
        ("WAL, MB/s", lambda need: need.wal_mb_per_s),
        ("WAL, GB a day", lambda need: need.wal_gb_per_day),
        *((f"tables and indexes, GB, days kept: {days}", disk(days)) for days in assumed.retention_days),
        ("Kafka, cores of one broker", lambda need: need.cores["kafka"]),
        ("Kafka, MB/s", lambda need: need.kafka_mb_per_s),
        ("Kafka, all replicas, GB", lambda need: need.kafka_gb),
    ]


def _machine(machine: object) -> str:
    found = machine if isinstance(machine, dict) else {}
    return f"{found.get('cores', '?')} cores, {found.get('cpu', '?')}"
