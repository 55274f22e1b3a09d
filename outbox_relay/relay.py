"""The relay's loop: read in order, produce, delete after the delivery reports.

A crash anywhere publishes rows again and loses none: a row leaves the table only by its own number, after Kafka has it.
"""

import logging
import threading
import time
from collections.abc import Callable
from typing import Any, Final

from confluent_kafka import KafkaError, KafkaException, Producer
from psycopg import Connection

from outbox_relay import buckets, metrics
from outbox_relay.flight import Batch, Flight, ProducerFailedError, refused_rows
from outbox_relay.reader import MAX_GAPS, Reader
from outbox_relay.settings import Settings
from shared.db import OUTAGE, Session, outbox
from shared.db.outages import OutageLog
from shared.db.outbox import OutboxRow, Question
from shared.db.pipelining import pipelined
from shared.kafka import ensure_topics, producer_config, quiet_logger
from shared.model import BUCKETS
from shared.records import Topics

log = logging.getLogger(__name__)

SESSION_SETTINGS: Final = (
    "SET synchronous_commit = off",  # a lost DELETE is a duplicate, never a loss
    "SET idle_session_timeout = '10s'",  # a relay that is stopped loses its buckets to the others
    "SET tcp_user_timeout = '10s'",  # the same, where it was stopped before it took what it had asked for
    "SET lock_timeout = '10s'",
    "SET statement_timeout = '60s'",  # a first look over tens of millions of dead rows, while a snapshot keeps them
    # Planning what is asked a hundred times a second costs as much as a tenth of its rows. The plan is made once, for
    # any table: only along its index is right for an empty one and for one with millions of rows.
    "SET plan_cache_mode = force_generic_plan",
    "SET enable_seqscan = off",
    "SET enable_bitmapscan = off",
)
DRAIN_S: Final = 15.0
_WIDEST: Final = 4
"""A page is read over at most so many times a batch of rows, to find a batch of ours among them."""
_REPORT_WAIT_S: Final = 0.1
_REBALANCE_EVERY_S: Final = 1.0
_LOOK_FOR_MISSED_EVERY_S: Final = 30.0
_LOOKING_SHARE: Final = 0.01  # of its time at most: dead rows that a snapshot keeps make the look long


class Pause:
    """How long to sleep while there are no rows: 5 ms, 25 ms after a second of that, 50 ms after ten.

    At rest these looks are most of what all four services take; after that second they are short ones.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._idle_since: float | None = None

    def next_s(self) -> float:
        """Return the next sleep in seconds."""
        if self._idle_since is None:
            self._idle_since = self._clock()
        return 0.005 if not self.is_long else 0.025 if self._idle_s <= 10 else 0.05

    @property
    def is_long(self) -> bool:
        """Say whether there has been nothing to do for more than a second."""
        return self._idle_s > 1

    @property
    def _idle_s(self) -> float:
        return 0.0 if self._idle_since is None else self._clock() - self._idle_since

    def end(self) -> None:
        """Note that there was something to do."""
        self._idle_since = None


class Relay:
    """Moves rows from the outbox to Kafka until asked to stop. Everything in here belongs to one thread."""

    def __init__(self, settings: Settings, stop: threading.Event) -> None:
        self._settings, self._stop = settings, stop
        self._topics = Topics(settings.kafka.topic_prefix)
        self._session = Session(settings.service.conninfo, application_name="outbox_relay", settings=SESSION_SETTINGS)
        self._outages = OutageLog(log)
        self._reader = Reader()
        self._flight = self._new_flight()
        self._page: list[OutboxRow] = []  # read, and not yet produced
        self._mine: frozenset[int] = frozenset()
        self._surplus: frozenset[int] = frozenset()
        self._rewind = False
        self._joined: Connection[Any] | None = None
        self._next_rebalance = self._next_look = 0.0
        self._topics_exist = False
        self._pause = Pause()

    def run(self) -> None:
        """Relay until asked to stop; an outage is waited out, a bug ends the process."""
        while not self._stop.is_set():
            try:
                busy = self.run_once() > 0 or bool(self._flight) or bool(self._page)
            except OUTAGE as error:
                self._outages.note(error)
                self._start_over("postgres_unreachable")
            except (ProducerFailedError, KafkaException) as error:
                self._topics_exist &= not getattr(error, "topics_missing", False)
                log.warning("kafka_unreachable", extra={"reason": _kafka_reason(error)})
                self._start_over("kafka_unreachable")
            else:
                if busy:
                    self._pause.end()
                else:
                    self._stop.wait(self._pause.next_s())
        self._drain()

    def run_once(self) -> int:
        """Delete the oldest batch that landed, send what was read, read on; return rows read. A crash repeats rows."""
        conn = self._connection()
        self._make_topics()
        self._keep_to_share(conn)
        batch = self._flight.landed(wait_s=0 if self._page and self._flight.has_room else _REPORT_WAIT_S)
        read = self._exchange(conn, batch)
        if batch is None and not self._flight:
            self._reader.bound_gaps(conn)
        metrics.ROWS_IN_FLIGHT.set(self._flight.row_count)
        metrics.GAPS.set(self._reader.gap_count)
        return read

    @property
    def passed(self) -> int:
        """Return the number up to which rows were read, less those in flight: what the depth gauge is measured from."""
        return self._reader.cursor - self._flight.row_count - len(self._page)

    @property
    def front(self) -> int:
        """Return the number below which the last look at the whole table has found no row."""
        return self._reader.front

    def postgres_fault(self) -> str | None:
        """Readiness: is there a connection?"""
        return self._session.fault()

    def kafka_fault(self) -> str | None:
        """Readiness: does Kafka acknowledge?"""
        if not self._topics_exist:
            return "topics not confirmed"
        waiting_s = self._flight.oldest_age_s
        return f"no delivery report for {waiting_s:.0f} s" if waiting_s > 10 else None

    def _connection(self) -> Connection[Any]:
        conn = self._session.connection()
        if conn is not self._joined:
            self._forget()
            buckets.join(conn)
            self._joined = conn
        return conn

    def _make_topics(self) -> None:
        if not self._topics_exist:
            settings = self._settings
            ensure_topics(
                settings.kafka,
                self._topics.all(),
                partitions=settings.topic_partitions,
                replication=settings.topic_replication,
                timeout_s=5,  # below idle_session_timeout: the connection must outlive the wait
            )
            self._topics_exist = True

    def _exchange(self, conn: Connection[Any], batch: Batch | None) -> int:
        """Delete, ask and produce at once: PostgreSQL works on the first two while librdkafka is given its rows."""
        may_read = self._may_read(landed=batch)
        if batch is None and not self._page:  # nothing to do meanwhile, and a pipeline costs as much as the question
            return self._take(self._ask(conn)) if may_read and not self._rests(conn) else 0
        with pipelined(conn) as pipeline:
            deleted = outbox.delete(conn, batch.acknowledged) if batch else None
            asked = self._ask(conn) if may_read else None
            pipeline.send_off()
            self._take_off()
        if batch and deleted:
            self._landed(conn, batch, xid=outbox.xid(deleted))
        return self._take(asked) if asked else 0

    def _rests(self, conn: Connection[Any]) -> bool:
        """Say whether there is still nothing to read after a while of that, for less than a page costs."""
        return self._pause.is_long and time.monotonic() < self._next_look and not self._reader.has_more(conn)

    def _ask(self, conn: Connection[Any]) -> Question:
        """Ask for a page that holds about a batch of rows that are ours."""
        if len(self._mine) == BUCKETS:
            return self._reader.ask(conn, limit=self._settings.batch_rows)
        wider = min(BUCKETS // len(self._mine), _WIDEST)
        return self._reader.ask(conn, limit=self._settings.batch_rows * wider, share=self._mine)

    def _take(self, asked: Question) -> int:
        page = self._reader.take(asked)
        rows = page.rows
        if time.monotonic() >= self._next_look:
            rows = self._missed(asked.conn, known={*self._flight.seqs(), *(row.seq for row in rows)}) + rows
        self._page = rows
        if not page.full and not page.cut:
            self._take_off()  # nothing is behind these for the moment that would be worth asking for first
        return len(page.rows) or int(page.full)  # nothing of ours on it, and more behind it

    def _missed(self, conn: Connection[Any], *, known: set[int]) -> list[OutboxRow]:
        began = time.monotonic()
        missed = self._reader.read_missed(conn, limit=self._settings.batch_rows)
        ended = time.monotonic()
        self._next_look = ended + max(_LOOK_FOR_MISSED_EVERY_S, (ended - began) / _LOOKING_SHARE)
        return [row for row in missed if row.seq not in known and row.bucket in self._mine]

    def _take_off(self) -> None:
        if self._page and self._flight.has_room:
            rows, self._page = self._page, []
            self._flight.produce(rows)

    def _delete(self, conn: Connection[Any], batch: Batch) -> None:
        self._landed(conn, batch, xid=outbox.xid(outbox.delete(conn, batch.acknowledged)))

    def _landed(self, conn: Connection[Any], batch: Batch, *, xid: int) -> None:
        self._reader.note_xid(xid)
        metrics.ROWS_PUBLISHED.inc(len(batch.rows) - len(batch.refused))
        if refused := refused_rows(batch):
            outbox.refuse(conn, refused)
            metrics.ROWS_REFUSED.inc(len(refused))
            log.error("rows_refused_by_kafka", extra={"seqs": [row.seq for row in refused], "error": refused[0].error})

    def _keep_to_share(self, conn: Connection[Any]) -> None:
        """Once a second take and give up buckets as the members change; this also keeps an idle session alive."""
        if time.monotonic() < self._next_rebalance:
            return
        self._next_rebalance = time.monotonic() + _REBALANCE_EVERY_S
        wanted = buckets.wanted(conn)
        self._surplus = self._mine - wanted
        gained = buckets.take(conn, wanted - self._mine) if wanted - self._mine else frozenset()
        if gained:
            self._mine |= gained
            self._rewind = True  # rows of these buckets were passed over until now
            log.info("buckets_taken", extra={"held": len(self._mine), "wanted": len(wanted)})

    def _may_read(self, *, landed: Batch | None) -> bool:
        """Tell whether rows may be read; a change of share, or a rewind, waits until all that was read is deleted."""
        if self._reader.gap_count > MAX_GAPS:
            self._rewind = True
        if self._surplus or self._rewind:
            if self._flight or self._page or landed:
                return False
            self._change_share()
        return bool(self._mine) and self._flight.has_room

    def _change_share(self) -> None:
        if self._surplus:
            buckets.give_up(self._connection(), self._surplus)
            self._mine -= self._surplus
            log.info("buckets_given_up", extra={"held": len(self._mine)})
        if self._rewind:
            self._reader.start_over()
        self._surplus, self._rewind = frozenset(), False
        metrics.BUCKETS_HELD.set(len(self._mine))

    def _start_over(self, reason: str) -> None:
        metrics.STARTS_OVER.labels(reason).inc()
        self._session.drop()
        self._forget()
        self._stop.wait(self._settings.outage_wait_s)

    def _forget(self) -> None:
        self._abandon()
        self._page = []
        self._reader.start_over()
        self._mine = self._surplus = frozenset()
        self._joined, self._rewind, self._next_rebalance = None, False, 0.0
        metrics.BUCKETS_HELD.set(0)

    def _abandon(self) -> None:
        if self._flight.used:
            self._flight.abandon()
            self._flight = self._new_flight()

    def _new_flight(self) -> Flight:
        return Flight(
            Producer(producer_config(self._settings.kafka, client_id="outbox-relay"), logger=quiet_logger(log))
        )

    def _drain(self) -> None:
        """Wait for what is in flight, delete it, and give the buckets up; what does not land is published again."""
        deadline = time.monotonic() + DRAIN_S
        try:
            conn = self._connection()
            while self._flight and time.monotonic() < deadline:
                if (batch := self._flight.landed(wait_s=_REPORT_WAIT_S)) is not None:
                    self._delete(conn, batch)
        except (*OUTAGE, ProducerFailedError) as error:
            log.warning("drain_cut_short", extra={"cause": type(error).__name__})
        if self._flight:
            self._flight.abandon()
        self._session.drop()


def _kafka_reason(error: ProducerFailedError | KafkaException) -> str:
    if isinstance(error, ProducerFailedError):
        return str(error)
    return str(error.args[0].name()) if error.args and isinstance(error.args[0], KafkaError) else "unknown"
