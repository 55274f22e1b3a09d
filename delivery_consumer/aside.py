"""Records nobody can decode, on their way out of the pipeline's."""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Protocol

from delivery_consumer import metrics
from delivery_consumer.work import Received, Source


class PoisonStore(Protocol):
    """Where records go that nobody can decode."""

    async def set_aside(self, received: Received, reason: str) -> None:
        """Publish it unchanged to the dead-letter topic; return once Kafka has acknowledged it."""
        ...


class Aside:
    """Records to be set aside. `done` is told of each that was."""

    def __init__(self, store: PoisonStore, done: Callable[[Source, Received], None]) -> None:
        self._store, self._done = store, done
        self._records: deque[tuple[Source, Received, str]] = deque()
        self.wake = asyncio.Event()

    def add(self, source: Source, received: Received, reason: str) -> None:
        """Have a record set aside."""
        self._records.append((source, received, reason))
        self.wake.set()

    async def once(self) -> int:
        """Set aside what there is; return how many."""
        count = len(self._records)
        for _ in range(count):
            source, received, reason = self._records.popleft()
            await self._store.set_aside(received, reason)
            metrics.RECORDS_POISONED.labels(reason).inc()
            self._done(source, received)
        return count
