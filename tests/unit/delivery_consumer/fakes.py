"""A store, a provider and an intake of the tests' own, and an engine around them."""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Literal

from delivery_consumer.delivery import Deliverer
from delivery_consumer.destinations import Limits
from delivery_consumer.engine import Engine
from delivery_consumer.errors import DeliveryError
from delivery_consumer.lanes import Lanes
from delivery_consumer.providers import Attempt, Place, Receipt
from delivery_consumer.rates import Rate
from delivery_consumer.store import Answer
from delivery_consumer.tenants import Tenants
from delivery_consumer.work import Received
from shared.db.notifications import Claimed, Ended, Ticket
from shared.model import Channel, uuid7
from shared.records import Record, Topics, encode_record, record_headers

TOPICS = Topics()
NORMAL, HIGH = TOPICS.lanes(Channel.WEBHOOK)
LEASE_S = 30.0


@dataclass
class Clock:
    """A clock that a test sets."""

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the instant."""
        return self.now

    async def sleep(self, seconds: float) -> None:
        """Let time pass."""
        self.now += seconds


@dataclass
class FakeStore:
    """Claims everything once, and again after a release; remembers what it was asked.

    The answer to the first sending of a claim is lost for what is `unheard`: it is claimed, and nobody is told.
    """

    clock: Clock
    refuse: set[str] = field(default_factory=set)
    expired: set[str] = field(default_factory=set)
    busy: set[str] = field(default_factory=set)
    dropped: dict[str, Literal["suppressed", "early"]] = field(default_factory=dict)
    expires_in_s: float | None = None
    unheard: set[str] = field(default_factory=set)
    taken_over: bool = False
    claims: list[list[str]] = field(default_factory=list)
    ended: list[Ended] = field(default_factory=list)
    released: list[tuple[str, bool]] = field(default_factory=list)
    put_off_s: dict[str, float] = field(default_factory=dict)
    _claimed: set[Ticket] = field(default_factory=set)

    async def claim(self, tickets: Sequence[Ticket]) -> Answer:
        """Begin each ticket once."""
        self.claims.append([str(ticket.id) for ticket in tickets])
        mine = []
        repeated = bool(self.unheard)
        for ticket in tickets:
            if str(ticket.id) in self.unheard:
                self.unheard.discard(str(ticket.id))
                self._claimed.add(ticket)
            if str(ticket.id) in self.busy:
                mine.append(Claimed(ticket.id, ticket.attempt, "busy"))
            elif state_told := self.dropped.get(str(ticket.id)):
                mine.append(Claimed(ticket.id, ticket.attempt, state_told))
            elif ticket not in self._claimed and str(ticket.id) not in self.refuse:
                self._claimed.add(ticket)
                state: Literal["expired", "claimed"] = "expired" if str(ticket.id) in self.expired else "claimed"
                mine.append(Claimed(ticket.id, ticket.attempt, state, self.expires_in_s))
        return Answer(mine, self.clock.now, repeated)

    async def write_back(self, outcomes: Sequence[Ended]) -> int:
        """Remember outcomes."""
        self.ended += outcomes
        return len(outcomes)

    async def release(self, tickets: Sequence[Ticket], *, republish: bool) -> int:
        """Remember what was given back."""
        self.released += [(str(ticket.id), republish) for ticket in tickets]
        self._claimed -= set(tickets)
        return len(tickets)

    async def put_off(self, asked: Sequence[tuple[Ticket, float]]) -> None:
        """Remember what comes later, and in how many seconds."""
        self.put_off_s |= {str(ticket.id): delay_s for ticket, delay_s in asked}

    async def renew(self, tickets: Sequence[Ticket]) -> tuple[set[Ticket], float]:
        """Extend all leases, or none."""
        return (set() if self.taken_over else set(tickets)), self.clock.now


@dataclass
class FakeProvider:
    """Accepts, or does what `behave` says; remembers what it was given."""

    name: str = "webhook"
    timeout_s: float = 5.0
    limits: Limits = field(default_factory=lambda: Limits(slots=50, first_slots=50, waiting=5))
    sent: list[tuple[str, int]] = field(default_factory=list)
    behave: Callable[[Record], Awaitable[None]] | None = None
    rate: Rate | None = None
    unknown: set[str] = field(default_factory=set)  # recipients that have to be looked up
    forgotten: set[str] = field(default_factory=set)  # and those that were forgotten after the claim
    known_for_s: float = 0.0
    fault: DeliveryError | None = None  # of what is known
    lookups: list[list[str]] = field(default_factory=list)

    @property
    def directory(self) -> "FakeProvider":
        """Its own."""
        return self

    def place(self, record: Record, *, looked_up: bool = False) -> Place | None:
        """The recipient's host."""
        if record.recipient in self.unknown:
            return None
        return Place(record.recipient.split("/")[2], self.rate)

    def is_known(self, record: Record, *, within_s: float) -> bool:
        """As told."""
        return record.recipient not in self.unknown and self.known_for_s < within_s

    async def look_up(self, records: Sequence[Record]) -> None:
        """Know them from now on."""
        self.lookups.append([record.id for record in records])
        self.unknown -= {record.recipient for record in records}
        self.forgotten -= {record.recipient for record in records}
        self.known_for_s = 0.0

    def check(self, record: Record) -> bool:
        """As told."""
        if self.fault:
            raise self.fault
        return record.recipient not in self.forgotten

    async def send(self, record: Record, attempt: Attempt) -> Receipt:
        """Accept."""
        self.sent.append((record.id, attempt.number))
        if self.behave is not None:
            await self.behave(record)
        return Receipt("http_200")

    async def aclose(self) -> None:
        """Nothing is open."""


@dataclass
class FakeIntake:
    """Remembers what was paused."""

    calls: list[tuple[str, str]] = field(default_factory=list)

    def pause(self, topic: str) -> None:
        """Note it."""
        self.calls.append(("pause", topic))

    def resume(self, topic: str) -> None:
        """Note it."""
        self.calls.append(("resume", topic))


@dataclass
class FakePoison:
    """Remembers what was set aside."""

    aside: list[tuple[Received, str]] = field(default_factory=list)

    async def set_aside(self, received: Received, reason: str) -> None:
        """Note it."""
        self.aside.append((received, reason))


class Bench:
    """An engine on fakes, driven by hand. Make it inside an event loop."""

    def __init__(
        self, *, in_flight: int = 1000, unproven_slots: int = 100, claim_ahead: int = 200, waiting: int = 500
    ) -> None:
        self.clock = Clock()
        self.store, self.provider = FakeStore(self.clock), FakeProvider()
        self.intake, self.poison = FakeIntake(), FakePoison()
        self.tenants = Tenants()
        self.lanes = Lanes(clock=self.clock, tenants=self.tenants, unproven_slots=unproven_slots, waiting=waiting)
        self.deliverer = Deliverer(
            {Channel.WEBHOOK: self.provider}, self.lanes, self.tenants, clock=self.clock, sleep=self.clock.sleep
        )
        self.engine = Engine(
            store=self.store,
            deliverer=self.deliverer,
            lanes=self.lanes,
            tenants=self.tenants,
            intake=self.intake,
            poison=self.poison,
            channels=frozenset({Channel.WEBHOOK}),
            high_topics=frozenset({HIGH}),
            lease_s=LEASE_S,
            in_flight=in_flight,
            claim_ahead=claim_ahead,
            clock=self.clock,
        )
        self._offsets: dict[str, int] = {}

    def records(self, count: int = 1, *, topic: str = NORMAL, host: str = "a.example", **fields: Any) -> list[str]:
        """Receive some records; returns their ids."""
        ids = [str(uuid7()) for _ in range(count)]
        self.engine.receive([self.received(id_, topic=topic, host=host, **fields) for id_ in ids])
        return ids

    def received(
        self,
        id_: str,
        *,
        topic: str = NORMAL,
        host: str = "a.example",
        tenant: str = "default",
        attempt: int = 1,
        **fields: Any,
    ) -> Received:
        """A record as Kafka hands it over, at the next offset."""
        offset = self._offsets[topic] = self._offsets.get(topic, -1) + 1
        record = Record(id_, tenant, Channel.WEBHOOK, f"https://{host}/h", "Hi", "2026-01-02T03:04:05Z", **fields)
        headers = [(name, value.encode()) for name, value in record_headers(attempt=attempt).items()]
        return Received(topic, 0, offset, b"k", encode_record(record), headers)  # type: ignore[arg-type]

    async def work(self) -> None:
        """End everything that is claimed, one after another."""
        while self.engine.waiting_for_workers:
            await self.engine.work_once()

    async def all(self) -> None:
        """Claim, work, write back, put off, until nothing is left to do."""
        while True:
            asked = await self.engine.claim_once() + await self.engine.put_off.once() + await self.engine.lookups.once()
            await self.work()
            if not asked + await self.engine.write_back_once():
                return

    def safe(self, topic: str = NORMAL) -> int | None:
        """The offset of partition 0 that is safe to commit."""
        return self.engine.safe_offsets().get((topic, 0))

    @property
    def sent(self) -> list[str]:
        """The ids the provider was given, in order."""
        return [id_ for id_, _ in self.provider.sent]


async def until_blocked() -> None:
    """Let every other task run until it waits."""
    for _ in range(10):
        await asyncio.sleep(0)


@asynccontextmanager
async def running(bench: Bench, *, workers: int) -> AsyncIterator[None]:
    """Run the engine's loops beside the block."""
    loops = asyncio.create_task(bench.engine.run(workers))
    await asyncio.sleep(0)
    yield
    loops.cancel()
    await asyncio.wait([loops])
