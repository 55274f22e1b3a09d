"""Writing back, without Kafka and providers: the consumer's statement on a connection of its own."""

import time
from collections.abc import Callable, Sequence
from typing import Any, Final
from uuid import UUID, uuid4

from psycopg import Connection

from loadtest.bench.cpu import Meter
from loadtest.bench.feeding import feed
from loadtest.bench.figures import Sample
from loadtest.bench.frame import BenchError, Contender, Plan, Stage
from loadtest.bench.rig import Installation, Rig
from shared.db import connect, notifications
from shared.db.notifications import Ended, Ticket
from shared.model import Outcome

ROWS: Final = 500
_LEASE_S: Final = 3_600.0
Write = Callable[[Connection[Any], Sequence[Ticket], UUID], None]


class Statements:
    """Runs one statement over claimed attempts, so many rows at a time."""

    def __init__(
        self, installation: Installation, name: str, what: str, write: Write, *, count: int, rows: int
    ) -> None:
        self.name, self.what = name, f"{what}, {rows} a statement; {count:,} rows"
        self._installation, self._write, self._count, self._rows = installation, write, count, rows
        self._round = 0

    def setup(self) -> None:
        """Nothing is needed but the installation."""

    def round(self) -> Sample:
        """Accept and claim, then measure the statement alone."""
        self._round += 1
        installation, owner = self._installation, uuid4()
        installation.empty()
        feed(installation, count=self._count, channel="webhook", seed=installation.rig.plan.seed + self._round)
        with connect(installation.dsn, application_name="bench") as conn:
            tickets = _claim_all(conn, owner)
            installation.settle()
            chunks = [tickets[start : start + self._rows] for start in range(0, len(tickets), self._rows)]
            meter = Meter({"postgres": installation.rig.postgres.process.pid})
            client_began, began = time.process_time(), time.perf_counter()
            for chunk in chunks:
                self._write(conn, chunk, owner)
            took_s, client_s = time.perf_counter() - began, time.process_time() - client_began
            cpu_s = meter.read() | {"client": client_s}
            left = conn.execute("SELECT count(*) FROM notifications WHERE status <> 'sent'").fetchall()[0][0]
        if left:
            raise BenchError(f"{left} of {self._count} were not written back")
        return Sample(self._count, took_s, cpu_s)

    def teardown(self) -> None:
        """Nothing is left."""


def _claim_all(conn: Connection[Any], owner: UUID) -> list[Ticket]:
    waiting = conn.execute("SELECT id, attempt FROM notifications ORDER BY id").fetchall()
    tickets = [Ticket(*row) for row in waiting]
    for start in range(0, len(tickets), ROWS):
        notifications.claim(conn, tickets[start : start + ROWS], owner=owner, lease_s=_LEASE_S)
    return tickets


def _write_back(conn: Connection[Any], tickets: Sequence[Ticket], owner: UUID) -> None:
    ended = [
        Ended(
            id=ticket.id,
            attempt=ticket.attempt,
            outcome=Outcome.ACCEPTED,
            reason="accepted",
            receipt="http_200",
            provider="webhook",
            destination="https://hooks.example.com:443",
            topic="bench.webhook",
            partition=1,
            offset=number,
        )
        for number, ticket in enumerate(tickets)
    ]
    notifications.write_back(conn, ended, owner=owner, dlq_topic="bench.dlq")


def _bare_update(conn: Connection[Any], tickets: Sequence[Ticket], owner: UUID) -> None:
    """End attempts and notifications by their ids, with nothing but constants: no outcome, no guard, no dead letter."""
    query = """
        WITH ended AS (
            UPDATE delivery_attempts SET outcome = 'accepted', ended_at = now()
             WHERE notification_id = ANY(%(ids)s::uuid[]) AND owner = %(owner)s RETURNING notification_id
        )
        UPDATE notifications SET status = 'sent', updated_at = now() FROM ended WHERE id = ended.notification_id
    """
    ids = "{" + ",".join(str(ticket.id) for ticket in tickets) + "}"
    conn.execute(query, {"ids": ids, "owner": owner})


def _build(rig: Rig, plan: Plan) -> list[Contender]:
    installation = rig.installation("write_back")
    count, few = plan.pick(100_000, 1_000), plan.pick(10_000, 500)
    return [
        Statements(installation, "ours", "the consumer's write-back", _write_back, count=count, rows=ROWS),
        Statements(installation, "one by one", "the consumer's write-back", _write_back, count=few, rows=1),
        Statements(installation, "bare UPDATE", "both tables updated by id", _bare_update, count=count, rows=ROWS),
    ]


STAGE = Stage("write_back", "Write back", _build)
