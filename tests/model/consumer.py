"""A delivery consumer as a process: the real engine, deliverer and store, each step of them at the model's word."""

import asyncio
import contextlib
import random
from collections.abc import Callable, Iterable
from typing import Any, Final, Literal, TypeVar
from uuid import UUID

import psycopg

from delivery_consumer.delivery import Deliverer
from delivery_consumer.engine import Engine
from delivery_consumer.lanes import Lanes
from delivery_consumer.poison import poison_headers
from delivery_consumer.store import _ROLLED_BACK, _SETTINGS, PostgresStore, _Worker
from delivery_consumer.tenants import Tenants
from delivery_consumer.work import PartitionId, Received
from shared.db import Session
from shared.model import Channel
from shared.records import Topics
from tests.model.broker import Broker, Place
from tests.model.clock import Clock, ModelLoop
from tests.model.database import Administrator
from tests.model.provider import Gate, Gates, ModelProvider, Witness

T = TypeVar("T")
TOPICS: Final = Topics("model")
NORMAL, HIGH = TOPICS.lanes(Channel.WEBHOOK)
LEASE_S: Final = 600.0
REVOKE_WITHIN_S: Final = 60.0
CUT_AFTER_S: Final = 30.0
WORKERS: Final = 3
ASIDE: Final = ("aside",)
STORE: Final = ("claims: before", "claims: after", "writes: before", "writes: after", *ASIDE)
Word = Literal["go", "lost", "busy", "locked"]


class PromiseBrokenError(AssertionError):
    """An invariant does not hold."""


class _GatedWorker(_Worker):
    """A connection whose statements wait before they go out and before their answer comes in."""

    def __init__(self, node: "ConsumerNode", name: str) -> None:
        self._node, self._name = node, name
        self.session = Session("", application_name=f"delivery_consumer {name}", settings=_SETTINGS)

    async def run(self, ask: Callable[[psycopg.Connection[Any]], T]) -> tuple[T, bool]:
        """As the product's: until it comes through, and whether an earlier try may have come through unheard."""
        gates, repeated = self._node.gates, False
        while True:
            word: Word = await gates.arrive(f"{self._name}: before")
            if word in ("lost", "busy"):
                repeated |= word == "lost"
                continue
            try:
                with self._node.administrator.holding_rows() if word == "locked" else contextlib.nullcontext():
                    result = ask(self.session.connection())
            except _ROLLED_BACK as error:
                # One statement runs at a time, no service leaves a transaction open (see World.check), and nobody sees
                # the rows of an application's: whoever holds a row is the model, by the word "locked". What a starved
                # machine takes too long for is the one thing that may happen besides.
                if word != "locked" and not isinstance(error, psycopg.errors.QueryCanceled):
                    raise PromiseBrokenError(f"{self._name}: nobody holds a row, and still: {error}") from error
                continue
            if await gates.arrive(f"{self._name}: after") == "lost":
                repeated = True
                continue
            return result, repeated


class _Intake:
    """Which topics are not read for now."""

    def __init__(self) -> None:
        self.paused: set[str] = set()

    def pause(self, topic: str) -> None:
        self.paused.add(topic)

    def resume(self, topic: str) -> None:
        self.paused.discard(topic)


class ConsumerNode:
    """One process of delivery_consumer, without its Kafka thread: the model polls, commits and rebalances."""

    def __init__(
        self, number: int, *, clock: Clock, broker: Broker, administrator: Administrator, witness: Witness
    ) -> None:
        self.owner = UUID(int=number)
        self.clock, self.broker, self.administrator = clock, broker, administrator
        self.gates, self._intake = Gates(), _Intake()
        self.loop = ModelLoop(clock)
        self.positions: dict[Place, int] = {}
        self.unheard_losses: set[Place] = set()  # evicted from these, and not told yet
        self.leaving: list[tuple[asyncio.Task[dict[PartitionId, int]], frozenset[Place]]] = []
        self.frozen = self.stopping = False
        self.provider = ModelProvider(str(self.owner), self.gates, witness)
        self._store = PostgresStore("", owner=self.owner, lease_s=LEASE_S, dlq_topic=TOPICS.dlq)
        self._store._claims, self._store._writes = _GatedWorker(self, "claims"), _GatedWorker(self, "writes")
        self.engine = self._engine(number)
        self._running = self.loop.create_task(self.engine.run(WORKERS))
        self.settle()

    def _engine(self, number: int) -> Engine:
        tenants = Tenants()
        lanes = Lanes(clock=self.clock.monotonic, tenants=tenants, unproven_slots=WORKERS)
        self._deliverer = Deliverer(
            {Channel.WEBHOOK: self.provider},
            lanes,
            tenants,
            lease_margin_s=LEASE_S / 4,
            clock=self.clock.monotonic,
            rng=random.Random(number),
        )
        return Engine(
            store=self._store,
            deliverer=self._deliverer,
            lanes=lanes,
            tenants=tenants,
            intake=self._intake,
            poison=self,
            channels=frozenset({Channel.WEBHOOK}),
            high_topics=frozenset({HIGH}),
            lease_s=LEASE_S,
            in_flight=6,
            claim_ahead=WORKERS,
            clock=self.clock.monotonic,
        )

    async def set_aside(self, received: Received, reason: str) -> None:
        """PoisonStore: publish with the product's headers, once the model lets it."""
        from datetime import UTC, datetime  # noqa: PLC0415

        while await self.gates.arrive("aside") != "go" or not self.broker.has(TOPICS.dlq):
            pass
        headers = poison_headers(received, reason, datetime(2026, 1, 1, tzinfo=UTC))
        self.broker.store(TOPICS.dlq, received.key, received.value, [(name, value or b"") for name, value in headers])

    # Steps

    def settle(self) -> None:
        """Run until everything waits; raise what ended the engine."""
        if self.frozen:
            return
        self.loop.settle()
        if self._running.done() and not self.stopping:
            self._running.result()
            raise PromiseBrokenError("the engine ended by itself")

    def say(self, gate: Gate, word: object) -> None:
        """Let one task go on."""
        gate.word.set_result(word)
        self.settle()

    @property
    def could_poll(self) -> bool:
        """Say whether records wait for it."""
        return not (self.frozen or self.leaving or self.stopping) and any(
            self.broker.logs[place].next_offset > position
            for place, position in self.positions.items()
            if place in self.broker.logs and place[0] not in self._intake.paused
        )

    def poll(self, count: int) -> int:
        """Hand over up to `count` records of the partitions that are not paused."""
        if self.frozen or self.leaving or self.stopping:
            return 0
        batch: list[Received] = []
        for place in sorted(self.positions):
            log = self.broker.logs.get(place)
            if log is None or place[0] in self._intake.paused:
                continue
            if self.positions[place] > log.next_offset:
                self.positions[place] = 0
            for record in [r for r in log.records if r.offset >= self.positions[place]][: count - len(batch)]:
                batch.append(Received(*place, record.offset, record.key, record.value, list(record.headers)))
                self.positions[place] = record.offset + 1
        if batch:
            self.loop.call_soon(self.engine.receive, batch)
            self.settle()
        return len(batch)

    def commit(self, offsets: dict[PartitionId, int]) -> int:
        """Commit what is safe, where the partition is still this one's. I11: never beyond what is in its hands."""
        count = 0
        for place, offset in offsets.items():
            if place not in self.positions or place in self.unheard_losses or place not in self.broker.logs:
                continue
            before = self.broker.safe(place)
            for job in self.engine._held.values():
                here = (job.source.topic, job.source.partition) == place
                current = job.source.leaving or self.engine._hand.owns(job.source)
                if here and current and before <= job.offset < offset:
                    raise PromiseBrokenError(f"I11: offset {offset} of {place} committed, {job.offset} has no outcome")
            self.broker.committed["delivery", place] = offset
            count += 1
        return count

    def commit_safe(self) -> int:
        """What the Kafka thread does once a second."""
        return 0 if self.frozen or self.leaving else self.commit(self.engine.safe_offsets())

    def run_on(self, limit: int = 40) -> int:
        """Let everything but the provider answer, until nothing is left to be said."""
        said = 0
        while not self.frozen and (gates := self.gates.of(*STORE)) and said < limit:
            self.say(gates[0], "go")
            said += 1
        return said

    # Partitions

    def assign(self, place: Place) -> None:
        """Own a partition, beginning where the group has committed."""
        self.positions[place] = self.broker.safe(place)

    def revoke(self, places: Iterable[Place], *, stop: bool = False) -> None:
        """Begin to give partitions back; with `stop`, as at SIGTERM."""
        places = frozenset(places)
        self.stopping |= stop
        self._deliverer.stopping |= stop
        giving = self.engine.give_back(places, timeout_s=REVOKE_WITHIN_S, cut_after_s=CUT_AFTER_S if stop else None)
        self.leaving.append((self.loop.create_task(giving), places))
        self.settle()

    def left(self) -> list[Place]:
        """Finish revocations that are through: commit, and return the partitions that are free."""
        free: list[Place] = []
        for task, places in [entry for entry in self.leaving if entry[0].done()]:
            self.leaving.remove((task, places))
            self.commit(task.result())
            kept = [place for place in places if self.positions.pop(place, None) is not None]
            free += [place for place in kept if place not in self.unheard_losses]
        return free

    def hear_of_losses(self) -> None:
        """Learn that the group went on without this one."""
        lost, self.unheard_losses = self.unheard_losses, set()
        for place in lost:
            self.positions.pop(place, None)
        self.loop.create_task(self.engine.give_back(lost, lost=True, timeout_s=0))
        self.settle()

    # Ends

    def end(self) -> None:
        """The process is gone with its memory; nothing of it reaches the outside any more."""
        self.frozen, self.provider.dead, self.stopping = False, True, True
        for task in asyncio.all_tasks(self.loop):
            task.cancel()
        self.loop.run_forever()
        self.loop.faults.clear()
        self.loop.close()
        for worker in (self._store._claims, self._store._writes):
            worker.session.drop()
