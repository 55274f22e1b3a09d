"""Where claimed jobs wait: for a worker, and those that were claimed ahead for a slot of their destination."""

import asyncio
from collections import deque
from collections.abc import Callable

from delivery_consumer.destinations import Destination
from delivery_consumer.tenants import split_leaving
from delivery_consumer.work import Job


class Claimed:
    """Claimed jobs until a worker takes them, and those claimed ahead until their destination has a slot for them."""

    def __init__(self, free: Callable[[Destination], int | None]) -> None:
        self._free = free  # how many attempts may begin, None for any number
        self._jobs: deque[Job] = deque()
        self._parked: dict[Destination, deque[Job]] = {}
        self._idle: deque[asyncio.Future[None]] = deque()

    def __len__(self) -> int:
        return len(self._jobs)

    def put(self, job: Job) -> None:
        """Let a job in."""
        self._jobs.append(job)
        self._wake()

    async def take(self) -> Job:
        """Wait for a job."""
        while not self._jobs:
            waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            self._idle.append(waiter)
            try:
                await waiter
            except asyncio.CancelledError:
                if waiter.done() and not waiter.cancelled():
                    self._wake()  # the call was for this waiter: pass it on
                raise
        return self._jobs.popleft()

    def park(self, job: Job) -> bool:
        """Keep a job that was taken until an attempt at its destination ends; False if it can begin now."""
        destination = job.destination if job.holds_slot else None
        if destination is None or (free := self._free(destination)) is None or free > 0:
            return False
        self._parked.setdefault(destination, deque()).append(job)
        return True

    def unpark(self, destination: Destination | None) -> None:
        """Let as many parked jobs be taken as their destination has slots for; one too many is parked again.

        To be called whenever a job that was let out has ended, or will not begin.
        """
        if destination is None or (queue := self._parked.get(destination)) is None:
            return
        free = self._free(destination)
        for _ in range(len(queue) if free is None else min(len(queue), free)):
            self.put(queue.popleft())
        if not queue:
            del self._parked[destination]

    def take_out_leaving(self) -> list[Job]:
        """Remove and return the jobs of partitions that leave."""
        parked = [job for queue in self._parked.values() for job in split_leaving(queue)]
        leaving = split_leaving(self._jobs) + parked
        for destination in list(self._parked):
            self.unpark(destination)  # some of those that leave had been let out
        return leaving

    def _wake(self) -> None:
        while self._idle:
            waiter = self._idle.popleft()
            if not waiter.done():
                waiter.set_result(None)
                return
