"""Jobs that cannot be lined up before something was asked for: the URL of an endpoint that is new to this process."""

import asyncio
from collections import deque
from collections.abc import Callable

from delivery_consumer.delivery import Deliverer
from delivery_consumer.store import STATEMENT_ROWS
from delivery_consumer.tenants import split_leaving
from delivery_consumer.work import Job


class Lookups:
    """Jobs that wait for an answer, one question for all there are. `done` is told of each that has it."""

    def __init__(self, deliverer: Deliverer, done: Callable[[Job], None]) -> None:
        self._deliverer, self._done = deliverer, done
        self._jobs: deque[Job] = deque()
        self.wake = asyncio.Event()

    def add(self, job: Job) -> None:
        """Have what a job needs looked up."""
        self._jobs.append(job)
        self.wake.set()

    async def once(self) -> int:
        """Ask for what an earlier question has not answered; return how many jobs have their answer."""
        jobs = [self._jobs.popleft() for _ in range(min(STATEMENT_ROWS, len(self._jobs)))]
        unanswered = self._deliverer.outdated(jobs)
        waiting = set(unanswered)
        for job in jobs:
            if job not in waiting:
                self._done(job)  # before anything is awaited: what is read meanwhile for its endpoint comes later
        if unanswered:
            await self._deliverer.look_up(unanswered)
        for job in unanswered:
            self._done(job)
        return len(jobs)

    def take_out_leaving(self) -> list[Job]:
        """Remove and return the jobs of partitions that leave."""
        return split_leaving(self._jobs)
