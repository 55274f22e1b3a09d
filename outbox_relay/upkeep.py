"""What waits is seen to: due rows promoted, overdue leases ended, the lost published again, the old deleted.

One relay at a time does this, whoever holds the upkeep lock; each task is one statement that may run anywhere, twice.
"""

import logging
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

from psycopg import Connection

from outbox_relay import metrics
from outbox_relay.pruner import WALK_ROWS, Pruner
from outbox_relay.settings import Settings
from outbox_relay.steadiness import ServerClock
from shared.db import OUTAGE, Session, idempotency_keys, notifications, outbox, suppressions, sweeping
from shared.db.outages import OutageLog
from shared.records import Topics

log = logging.getLogger(__name__)

_UPKEEP_LOCK: Final = 7_246_193
_CHUNK: Final = 500
_WALK_ROWS: Final = 2_000
LEASE_GRACE_S: Final = 15.0
"""After a database outage, or a jump of its clock, owners get this long to renew or write back before their leases are
called over."""

_FIRST_ID: Final = UUID(int=0)
_LAST_ID: Final = UUID(int=2**128 - 1)
_SWEEPS_REMEMBERED: Final = 100_000
_LONGEST_WAIT: Final = 4
"""Times the first wait: what Kafka loses again and again must not be left alone for ever longer."""


@dataclass(slots=True)
class Task:
    """Something done every so often: `work` returns how many rows it moved; a full chunk is followed at once."""

    name: str
    every_s: float
    work: Callable[[Connection[Any]], int]
    next_at: float = 0.0
    full_chunk: int = _CHUNK


class Sweeper:
    """Walks notifications by id, and publishes again what has stood still for too long with no outbox row.

    Two walks: one follows close behind the newest rows, so that a loss is seen soon; one goes round the whole table,
    and sees retries, promotions and second losses. What was published again is left alone for twice, then four times as
    long, so that a consumer that is only slow is not buried. This memory is in the process alone: losing it costs
    duplicates.
    """

    def __init__(self, older_than_s: float, dlq_topic: str, clock: Callable[[], float] = time.time) -> None:
        self._older_than_s, self._dlq_topic, self._clock = older_than_s, dlq_topic, clock
        self._near = self._id_at(clock() - 2 * older_than_s)
        self._round = _FIRST_ID
        self._again_at: dict[UUID, tuple[float, float]] = {}  # id → when next, and the wait after that

    def run_once(self, conn: Connection[Any]) -> int:
        """Look at the next stretch of both walks; return how many rows were published again."""
        old_enough = self._id_at(self._clock() - self._older_than_s)
        near = sweeping.look(
            conn, after=self._near, before=old_enough, limit=_WALK_ROWS, older_than_s=self._older_than_s
        )
        self._near = near.last or max(self._near, old_enough)
        far = sweeping.look(conn, after=self._round, before=_LAST_ID, limit=_WALK_ROWS, older_than_s=self._older_than_s)
        self._round = far.last or _FIRST_ID
        due = [id_ for id_ in {*near.stalled, *far.stalled} if self._is_due(id_)]
        return sweeping.publish_again(conn, due, dlq_topic=self._dlq_topic) if due else 0

    def _is_due(self, notification_id: UUID) -> bool:
        now = self._clock()
        at, wait_s = self._again_at.get(notification_id, (0.0, self._older_than_s))
        if now < at:
            return False
        if len(self._again_at) >= _SWEEPS_REMEMBERED:
            self._again_at = {id_: entry for id_, entry in self._again_at.items() if entry[0] > now}
        if len(self._again_at) >= _SWEEPS_REMEMBERED:
            return False
        wait_s = min(2 * wait_s, _LONGEST_WAIT * self._older_than_s)
        self._again_at[notification_id] = (now + wait_s, wait_s)
        return True

    @staticmethod
    def _id_at(unix_s: float) -> UUID:
        return UUID(int=max(0, int(unix_s * 1000)) << 80)


class Upkeep:
    """Runs the tasks on a connection of its own, on a thread of its own."""

    def __init__(
        self, settings: Settings, stop: threading.Event, *, passed: Callable[[], int], front: Callable[[], int]
    ) -> None:
        self._settings, self._stop, self._passed, self._front = settings, stop, passed, front
        self._session = Session(
            settings.service.conninfo,
            application_name="outbox_relay_upkeep",
            settings=("SET statement_timeout = '60s'", "SET idle_session_timeout = '10s'"),
        )
        self._outages = OutageLog(log)
        self._leader_on: Connection[Any] | None = None
        self._rescue_from = 0.0
        self._server_clock = ServerClock()
        self._pruner = Pruner(settings.retention_days, settings.idempotency_keep_s)
        self._oldest_age_s = 0.0
        dlq_topic = Topics(settings.kafka.topic_prefix).dlq
        self._sweeper = Sweeper(settings.sweep_after_s, dlq_topic)
        self._dlq_topic = dlq_topic
        self._tasks = [
            Task("promote", 0.1, lambda conn: outbox.promote_due(conn, limit=_CHUNK)),
            Task("end_leases", 1.0, self._end_leases),
            Task("lift_deleted", 5.0, lambda conn: suppressions.lift_deleted(conn, limit=_CHUNK)),
            Task("resume_held", 1.0, lambda conn: suppressions.resume_held(conn, limit=_CHUNK)),
            Task("gauges", 5.0, self._measure),
            Task("sweep", 1.0, self._sweep),
            Task(
                "prune_keys",
                60.0,
                lambda conn: idempotency_keys.prune(conn, older_than_s=settings.idempotency_keep_s, limit=_CHUNK),
            ),
            Task("prune", 1.0, self._prune, full_chunk=WALK_ROWS // 2),
        ]

    def run(self) -> None:
        """Keep up until asked to stop; an outage is waited out."""
        while not self._stop.is_set():
            try:
                if self.lead():
                    self.run_once()
            except OUTAGE as error:
                self._outages.note(error)
                self._session.drop()
            self._stop.wait(0.05 if self._leader_on else 1.0)
        self._session.drop()

    def lead(self) -> bool:
        """Take or hold the upkeep lock; False while another relay holds it."""
        conn = self._session.connection()
        if conn is not self._leader_on:
            self._leader_on = None
            metrics.UPKEEP_LEADER.set(0)
            row = conn.execute("SELECT pg_try_advisory_lock(%s)", (_UPKEEP_LOCK,)).fetchone()
            if row and row[0]:
                self._leader_on = conn
                self._rescue_from = time.monotonic() + LEASE_GRACE_S
                metrics.UPKEEP_LEADER.set(1)
                log.info("upkeep_leads")
        return self._leader_on is not None

    def run_once(self) -> int:
        """Do what is due and return how many rows moved."""
        conn = self._session.connection()
        moved = 0
        for task in self._tasks:
            if time.monotonic() >= task.next_at:
                rows = task.work(conn)
                metrics.UPKEEP_ROWS.labels(task.name).inc(rows)
                task.next_at = 0.0 if rows >= task.full_chunk else time.monotonic() + task.every_s
                moved += rows
        return moved

    def fault(self) -> str | None:
        """Readiness: is there a connection?"""
        return self._session.fault()

    def _end_leases(self, conn: Connection[Any]) -> int:
        with conn.transaction():  # one now() for the look at the clock and for the leases
            if self._server_clock.jumped(conn):
                self._rescue_from = time.monotonic() + LEASE_GRACE_S
                log.warning("postgres_clock_jumped")
            if time.monotonic() < self._rescue_from:
                return 0
            ended = notifications.end_overdue_leases(conn, dlq_topic=self._dlq_topic, limit=_CHUNK)
        if ended:
            log.warning("leases_over", extra={"attempts": ended})
        return ended

    def _prune(self, conn: Connection[Any]) -> int:
        return 0 if self._is_behind() else self._pruner.run_once(conn)

    def _sweep(self, conn: Connection[Any]) -> int:
        if self._is_behind():
            return 0
        return self._sweeper.run_once(conn)

    def _is_behind(self) -> bool:
        """Say whether the relay is, as when Kafka is away: what waits is late, not lost, and no time to tidy up."""
        return self._oldest_age_s > self._settings.sweep_after_s

    def _measure(self, conn: Connection[Any]) -> int:
        state = outbox.state(conn, front=self._front())
        passed = max(self._passed(), (state.first_seq or state.last_seq + 1) - 1)
        metrics.OUTBOX_DEPTH.set(max(0, state.last_seq - passed))
        metrics.OUTBOX_OLDEST_AGE.set(state.oldest_age_s)
        self._oldest_age_s = state.oldest_age_s
        return 0
