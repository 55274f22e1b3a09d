"""What this consumer holds against its destinations, written into PostgreSQL every two seconds for people to see.

Deliveries never wait for it: the loop only looks, which is bounded, and a thread with a connection of its own writes.
While it writes no further report is made, and one that fails is skipped.
"""

import asyncio
import logging
import queue
import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Collection, Iterable, Mapping
from itertools import islice
from typing import Final, LiteralString, NamedTuple
from uuid import UUID

import psycopg

from delivery_consumer.destinations import Destination, DestinationKey, Destinations
from delivery_consumer.providers import Provider
from shared.db import Session, destinations
from shared.db.destinations import Report
from shared.db.outages import outage_reason
from shared.model import BreakerState, Channel

log = logging.getLogger(__name__)

REPORT_EVERY_S: Final = 2.0
MAX_REPORTS: Final = 500
RESERVED: Final = 100
"""Of the reports, those kept for destinations that were not used lately and come to rest."""
_SETTINGS: Final[tuple[LiteralString, ...]] = (
    "SET synchronous_commit = off",
    "SET lock_timeout = '1s'",
    "SET statement_timeout = '5s'",
)


class _State(NamedTuple):
    """What of a destination is reported when it has changed."""

    breaker: BreakerState
    open_until: float | None
    slots_in_use: int
    slots_allowed: int
    waiting: int
    calls: int
    failures: int
    last_reason: str | None

    @property
    def rests(self) -> bool:
        """Say whether it stays as it is while nothing is sent there."""
        return self.open_until is None and not (self.slots_in_use or self.waiting or self.calls)


class Changes:
    """Finds what has changed since it was reported last. In the loop's thread; no I/O."""

    def __init__(
        self,
        known: Destinations,
        providers: Mapping[Channel, Provider],
        waiting: Callable[[Destination], int],
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._destinations, self._waiting, self._clock = known, waiting, clock
        self._channels = {id(provider.limits): channel for channel, provider in providers.items()}
        self._reported: dict[DestinationKey, _State | None] = {}
        self._dropped: list[DestinationKey] = []
        self._restless = OrderedDict[DestinationKey, None]()  # what changes by itself, the longest unseen first

    def forget(self) -> None:
        """Report everything again: nobody knows what is written. Names stay, so that what is forgotten is dropped."""
        self._reported = dict.fromkeys([*self._reported, *self._dropped])

    def take(self) -> tuple[list[Report], list[DestinationKey]]:
        """Return at most 500 reports, and the tenants and names of what was reported and is no longer known.

        Looked at are breakers that are not closed, the destinations used last, and in turn those that were on their
        way to rest; so a look costs the same whatever the number of destinations.
        """
        now, known = self._clock(), self._destinations.known
        not_closed = [one for one in known.values() if one.breaker.open_until is not None]
        latest = [known[key] for key in islice(reversed(known), MAX_REPORTS - RESERVED)]
        first = self._changed([*not_closed[: MAX_REPORTS - RESERVED], *latest], now, limit=MAX_REPORTS - RESERVED)
        restless = [known[key] for key in list(islice(self._restless, 2 * RESERVED)) if key in known]
        for one in restless:
            self._restless.move_to_end(one.key)
        rest = self._changed(restless, now, limit=MAX_REPORTS - len(first))
        self._dropped = self._forgotten()
        return first + rest, self._dropped

    def _changed(self, candidates: Iterable[Destination], now: float, *, limit: int) -> list[Report]:
        reports: list[Report] = []
        for one in candidates:
            if len(reports) == limit:
                break
            state = self._state(one, now)
            if self._reported.get(one.key) == state:
                continue
            self._reported[one.key] = state
            self._note_restless(one.key, rests=state.rests)
            reports.append(self._report(one, state, now))
        return reports

    def _state(self, one: Destination, now: float) -> _State:
        breaker = one.breaker
        return _State(
            breaker.state(now),
            breaker.open_until,
            one.under_way,
            one.allowed,
            self._waiting(one),
            *breaker.recent(now),
            one.last_reason,
        )

    def _note_restless(self, key: DestinationKey, *, rests: bool) -> None:
        if rests:
            self._restless.pop(key, None)
        else:
            self._restless.setdefault(key)

    def _report(self, one: Destination, state: _State, now: float) -> Report:
        return Report(
            tenant_id=one.tenant.id,
            destination=one.name,
            channel=self._channels[id(one.limits)],
            breaker=state.breaker,
            slots_in_use=state.slots_in_use,
            slots_allowed=state.slots_allowed,
            waiting=state.waiting,
            calls=state.calls,
            failures=state.failures,
            last_reason=state.last_reason,
            probe_in_s=None if state.open_until is None else state.open_until - now,
        )

    def _forgotten(self) -> list[DestinationKey]:
        known = self._destinations.known
        if len(self._reported) <= len(known):
            return []
        gone = list(islice((key for key in self._reported if key not in known), MAX_REPORTS))
        for key in gone:
            del self._reported[key]
            self._restless.pop(key, None)
        return gone


class Reporter:
    """Writes what has changed, from a thread of its own. Make it inside the event loop."""

    def __init__(self, conninfo: str, changes: Changes, *, consumer: UUID, channels: Collection[Channel]) -> None:
        self._changes, self._consumer, self._channels = changes, consumer, channels
        self.webhook_consumers = 1  # how many are alive that send webhooks, as of the last report
        self._session = Session(conninfo, application_name="delivery_consumer reports", settings=_SETTINGS)
        self._handed: queue.SimpleQueue[tuple[list[Report], list[DestinationKey]] | None] = queue.SimpleQueue()
        self._idle = threading.Event()
        self._idle.set()
        self._incomplete = False  # set by the thread: what was reported earlier may be missing
        self._failing = False
        # A daemon: a PostgreSQL that does not answer keeps it, and must not keep the process.
        self._thread = threading.Thread(target=self._write, name="reports", daemon=True)

    async def run(self) -> None:
        """Report until cancelled; first at once, since whoever seems to be alone takes an endpoint's whole rate."""
        self._thread.start()
        try:
            while True:
                self.hand_over()
                await asyncio.sleep(REPORT_EVERY_S)
        finally:
            self._handed.put(None)

    def hand_over(self) -> None:
        """Give the thread what has changed, unless it is still at work on the last report."""
        if not self._idle.is_set():
            return
        if self._incomplete:
            self._incomplete = False
            self._changes.forget()
        self._idle.clear()
        self._handed.put(self._changes.take())

    def _write(self) -> None:
        while (handed := self._handed.get()) is not None:
            reports, forgotten = handed
            try:
                told = destinations.report(
                    self._session.connection(),
                    self._consumer,
                    reports,
                    forgotten=forgotten,
                    channels=self._channels,
                )
            except psycopg.Error as error:
                self._skip(error)
            else:
                self._incomplete, self._failing = not told.known, False
                self.webhook_consumers = told.webhook_consumers
            self._idle.set()
        self._session.drop()

    def _skip(self, error: psycopg.Error) -> None:
        """Mention that reports fail, once; the outage itself is the store's to report."""
        if not self._failing:
            log.warning("destinations_not_reported", extra={"reason": outage_reason(error)})
        self._incomplete, self._failing = True, True
        self._session.drop()
