"""Where jobs wait before they are claimed, and after: for their key, for a slot of their destination, for a worker.

A job is claimed only when it could begin at once. Until then it is still pending: a cancel wins, a crash of this
process leaves it to others, and a destination that hangs holds no more claims than it has slots.
"""

import asyncio
from collections import deque
from collections.abc import Callable
from typing import Final

from delivery_consumer.destinations import Destination
from delivery_consumer.work import Job

NORMAL_SHARE: Final = 5
"""Of each five jobs taken to be claimed, one is the normal lane's first; the others are the high lane's."""


class Lanes:
    """Unclaimed jobs. A job waits for its key, then for a slot of its destination; then it may be claimed.

    Destinations that have not proved themselves share `unproven_slots` among all of them, which leaves the other
    workers to those that answer. Once `waiting` jobs wait, nothing more waits for a destination that is silent: its
    jobs end as busy, since only so many records are read ahead, and the others' would no longer be among them. For the
    same reason only half as many wait for their keys; what comes beyond that is claimed out of turn, which answers
    `early`: the database keeps it and publishes it again when its turn has come.
    """

    def __init__(self, *, clock: Callable[[], float], unproven_slots: int, waiting: int = 1_000) -> None:
        self._clock, self._unproven_slots, self._waiting_limit = clock, unproven_slots, waiting
        self._high: deque[Job] = deque()
        self._normal: deque[Job] = deque()
        self._taken = 0
        self._keys: dict[tuple[str, str], deque[Job]] = {}  # a key is present while one of its jobs is on its way
        self._waiting: dict[Destination, deque[Job]] = {}
        self._waiting_jobs = 0
        self._behind = 0  # jobs in the queues of keys
        self._starved: dict[Destination, None] = {}  # kept back by the shared share, in order
        self._unproven_in_use = 0

    def put(self, job: Job) -> None:
        """Let a job in; jobs of one key in the order of their offsets."""
        if (key := job.key) is not None:
            if (queue := self._keys.get(key)) is not None:
                self._wait_for_key(queue, job)
                return
            self._keys[key] = deque()
        self._admit(job)

    def _wait_for_key(self, queue: deque[Job], job: Job) -> None:
        if self._behind < self._waiting_limit // 2:
            self._behind += 1
            queue.append(job)
        else:
            job.out_of_turn = True
            self._ready(job)

    def take(self, limit: int) -> list[Job]:
        """Return up to `limit` jobs to be claimed now. Each ends with `finished`, or comes back with `put_back`."""
        return [self._take_one() for _ in range(min(limit, len(self._high) + len(self._normal)))]

    def _take_one(self) -> Job:
        self._taken += 1
        normal_first = self._taken % NORMAL_SHARE == 0
        first, second = (self._normal, self._high) if normal_first else (self._high, self._normal)
        return (first or second).popleft()

    @property
    def has_ready(self) -> bool:
        """Say whether a job may be claimed now."""
        return bool(self._high or self._normal)

    def finished(self, job: Job) -> None:
        """Return a job's slot and let its key go on."""
        self.give_up_slot(job)
        self._next_of_key(job)

    def give_up_slot(self, job: Job) -> None:
        """Return a job's slot; its key waits for it."""
        if job.holds_slot and job.destination is not None:
            job.holds_slot = False
            self._note_change(job.destination, Destination.leave)
            self._promote(job.destination)
            self._feed_starved()

    def put_back(self, job: Job) -> None:
        """Let a job that was taken and has not ended be taken again, before all others: nothing of its key went on."""
        destination = job.destination
        if destination is None or job.refused or job.holds_slot:
            self._ready(job, first=True)
        elif self._has_room(destination):
            self._start(destination, job, first=True)
        else:
            self._waiting.setdefault(destination, deque()).appendleft(job)
            self._waiting_jobs += 1

    def note(self, destination: Destination, *, worked: bool, answered: bool) -> None:
        """Learn from a call that ended; slots may grow or shrink by it."""
        now = self._clock()
        self._note_change(destination, lambda d: d.note(worked=worked, answered=answered, now=now))

    def free(self, destination: Destination) -> int | None:
        """Return how many attempts may begin at a destination beside those under way; None for any number."""
        return destination.free(self._clock())

    def waiting_for(self, destination: Destination) -> int:
        """Return how many jobs wait for a slot of a destination."""
        return len(self._waiting.get(destination, ()))

    def take_out_leaving(self) -> list[Job]:
        """Remove and return the jobs of partitions that leave and are still waiting for something.

        All jobs of a key are in one partition, so a key leaves as a whole.
        """
        behind = [job for key in list(self._keys) for job in split_leaving(self._keys[key])]
        waiting = [job for destination in list(self._waiting) for job in split_leaving(self._waiting[destination])]
        ready = split_leaving(self._high) + split_leaving(self._normal)
        self._waiting_jobs -= len(waiting)
        self._behind -= len(behind)
        for destination in [destination for destination, queue in self._waiting.items() if not queue]:
            del self._waiting[destination]
        for job in waiting:
            self._next_of_key(job)
        for job in ready:
            self.finished(job)
        return ready + waiting + behind

    def _next_of_key(self, job: Job) -> None:
        if (key := job.key) is None or job.out_of_turn:
            return
        if queue := self._keys.get(key):
            self._behind -= 1
            self._admit(queue.popleft())
        else:
            self._keys.pop(key, None)

    def _admit(self, job: Job) -> None:
        destination = job.destination
        if destination is None or job.refused:
            self._ready(job)
            return
        queue = self._waiting.get(destination)
        if not queue and self._has_room(destination):
            self._start(destination, job)
        elif self._is_full(destination, queue):
            job.refused = "destination_busy"
            self._ready(job)
        else:
            self._waiting.setdefault(destination, deque()).append(job)
            self._waiting_jobs += 1

    def _is_full(self, destination: Destination, queue: deque[Job] | None) -> bool:
        limit = destination.limits.waiting
        if limit is None or not (destination.hangs or destination.silent(self._clock())):
            return False
        return len(queue or ()) >= limit or self._waiting_jobs >= self._waiting_limit

    def _has_room(self, destination: Destination) -> bool:
        now = self._clock()
        if destination.breaker.blocks(now):
            return True  # to be ended at once
        if not destination.has_room(now):
            return False
        if destination.proven or self._unproven_in_use < self._unproven_slots:
            return True
        self._starved[destination] = None
        return False

    def _start(self, destination: Destination, job: Job, *, first: bool = False) -> None:
        job.holds_slot = True
        self._note_change(destination, Destination.enter)
        self._ready(job, first=first)

    def _note_change(self, destination: Destination, change: Callable[[Destination], None]) -> None:
        before = 0 if destination.proven else destination.in_use
        change(destination)
        self._unproven_in_use += (0 if destination.proven else destination.in_use) - before

    def _promote(self, destination: Destination) -> None:
        queue = self._waiting.get(destination)
        while queue and self._has_room(destination):
            self._waiting_jobs -= 1
            self._start(destination, queue.popleft())
        if queue is not None and not queue:
            del self._waiting[destination]

    def _feed_starved(self) -> None:
        while self._starved and self._unproven_in_use < self._unproven_slots:
            destination = next(iter(self._starved))
            del self._starved[destination]
            self._promote(destination)

    def _ready(self, job: Job, *, first: bool = False) -> None:
        lane = self._high if job.source.high else self._normal
        (lane.appendleft if first else lane.append)(job)


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


def split_leaving(queue: deque[Job]) -> list[Job]:
    """Remove from a queue the jobs of partitions that leave, and return them."""
    leaving = [job for job in queue if job.source.leaving]
    if leaving:
        staying = [job for job in queue if not job.source.leaving]
        queue.clear()
        queue.extend(staying)
    return leaving
