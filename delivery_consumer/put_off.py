"""Jobs whose turn is further away than a moment: left to PostgreSQL, which publishes them again when they are due.

A record that waits here would stand in the way of those behind it in its topic: of another tenant, or of an endpoint
that is not as slow. So its notification stays pending, its offset goes on, and `outbox_due` says when it comes back.
"""

import asyncio
from collections import deque
from collections.abc import Callable

from delivery_consumer import metrics
from delivery_consumer.store import STATEMENT_ROWS, Store
from delivery_consumer.work import Job


class PutOff:
    """Jobs on their way into outbox_due. `done` is told of each that has arrived there."""

    def __init__(self, store: Store, done: Callable[[Job], None]) -> None:
        self._store, self._done = store, done
        self._jobs: deque[tuple[Job, float]] = deque()
        self.wake = asyncio.Event()

    def add(self, job: Job, delay_s: float, reason: str) -> None:
        """Have a job put off: its tenant has its `share`, or the `rate` of its endpoint is used up."""
        metrics.RECORDS_PUT_OFF.labels(reason).inc()
        self._jobs.append((job, delay_s))
        self.wake.set()

    async def once(self) -> int:
        """Put some off; return how many."""
        asked = [self._jobs.popleft() for _ in range(min(STATEMENT_ROWS, len(self._jobs)))]
        if asked:
            await self._store.put_off([(job.ticket, delay_s) for job, delay_s in asked])
        for job, _ in asked:
            self._done(job)
        return len(asked)

    def take_out_leaving(self) -> list[Job]:
        """Remove and return the jobs of partitions that leave."""
        leaving = [job for job, _ in self._jobs if job.source.leaving]
        if leaving:
            self._jobs = deque(entry for entry in self._jobs if not entry[0].source.leaving)
        return leaving
