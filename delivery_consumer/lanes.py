"""Where jobs wait before they are claimed: for key and rate, for a slot of their destination, for their tenant's turn.

A job is claimed only when it could begin at once. Until then it is still pending: a cancel wins, a crash of this
process leaves it to others, and a destination that hangs holds no more claims than it has slots.
"""

from collections import OrderedDict, deque
from collections.abc import Callable
from typing import Final

from delivery_consumer.destinations import Destination
from delivery_consumer.rates import Turnstile
from delivery_consumer.tenants import Room, Tenant, Tenants, Turns, split_leaving
from delivery_consumer.work import Job

NORMAL_SHARE: Final = 5
"""Of each five jobs of a tenant that are taken to be claimed, one is its normal lane's first; the others are the high
lane's."""


class Lanes:
    """Unclaimed jobs. A job waits for its key, then for its turn at an endpoint with a rate, then for a slot of its
    destination; then it may be claimed. One whose turn is far away goes to `put_off`, and ends with `finished`.

    Destinations that have not proved themselves share `unproven_slots` among all of them, which leaves the other
    workers to those that answer. Once `waiting` jobs wait, nothing more waits for a destination that is silent: its
    jobs end as busy, since only so many records are read ahead, and the others' would no longer be among them. For the
    same reason only half as many wait for their keys; what comes beyond that is claimed out of turn, which answers
    `early`: the database keeps it and publishes it again when its turn has come.

    Where there are several tenants, each of these is divided among them, and they take turns: tenants.py. What has a
    slot of a destination that all share is nobody's there, and has a part and turns of its own: a tenant that may claim
    nothing at the moment would else keep that slot from the others.
    """

    put_off: Callable[[Job, float], None]
    """The engine's: for jobs whose turn is so many seconds away."""
    held: Callable[[], None]
    """The engine's: a job waits for its turn, see `opens_in_s`."""

    def __init__(
        self, *, clock: Callable[[], float], tenants: Tenants, unproven_slots: int, waiting: int = 1_000
    ) -> None:
        self._clock, self._tenants = clock, tenants
        self._unproven_slots, self._waiting_limit = unproven_slots, waiting
        self._ready: deque[Tenant] = deque()  # those of whom something may be claimed, in turn
        self._busy = 0  # jobs that were taken and have not been given back
        self._busy_tenants = 0  # whose they are
        self._room = Room()
        self._keys: dict[tuple[str, str], deque[Job]] = {}  # a key is present while one of its jobs is on its way
        self._waiting: dict[Destination, Turns] = {}
        self._waiting_jobs = 0
        self._behind = 0  # jobs in the queues of keys
        self._turnstile = Turnstile()
        self._starved = OrderedDict[Tenant, dict[Destination, None]]()  # kept back by the shared share, in turn
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
        free = self._waiting_limit // 2 - self._behind
        if free > 0 and self._tenants.may_have(job.tenant.behind, free):
            self._behind += 1
            job.tenant.behind += 1
            queue.append(job)
        else:
            job.out_of_turn = True
            self._make_ready(job)

    def take(self, limit: int, *, slots: int) -> list[Job]:
        """Return up to `limit` jobs to be claimed now. Each ends with `finished`, or comes back with `put_back`.

        `slots` is how many may be claimed or under way in all; tenants divide it.
        """
        ready, jobs, blocked = self._ready, list[Job](), list[Tenant]()
        self._room.look(self._clock(), free=slots - self._busy, slots=slots)
        while ready and len(jobs) < limit:
            if not self._tenants.may_have(0, slots - self._busy):
                break  # nothing is free for anybody: each end asks again, and there may be thousands of tenants
            tenant = ready[0]
            if not self._may_claim(tenant, slots):
                blocked.append(ready.popleft())  # until something ends: what is free only shrinks meanwhile
                continue
            count = 1 if len(ready) > 1 or self._tenants.several else limit - len(jobs)
            taken = _next_of(tenant, count)
            for job in taken:
                job.busy_for = tenant
            self._busy_tenants += not tenant.busy
            tenant.busy += len(taken)
            self._busy += len(taken)
            jobs += taken
            if not (tenant.high or tenant.normal):
                ready.popleft()
            elif len(ready) > 1:
                ready.rotate(-1)
        ready.extendleft(reversed(blocked))
        return jobs

    def _may_claim(self, tenant: Tenant, slots: int) -> bool:
        """Say whether one more of a tenant may be claimed, where something is free.

        It may up to what each would have if those that have something, and one more, had all of it evenly. Beyond that
        by what was free of late, not by what is free now: see Room.
        """
        if tenant.busy * (self._busy_tenants + 1) < slots:
            return True
        return self._tenants.may_have(tenant.busy, min(self._room.left, slots - self._busy))

    @property
    def has_ready(self) -> bool:
        """Say whether a job may be claimed now, its tenant's share permitting."""
        return bool(self._ready)

    def finished(self, job: Job) -> None:
        """Return a job's slot and let its key go on."""
        self.give_up_slot(job)
        self._next_of_key(job)

    def give_up_slot(self, job: Job) -> None:
        """Return a job's slot; its key waits for it."""
        self._no_longer_busy(job)
        if job.holds_slot and job.destination is not None:
            job.holds_slot = False
            self._note_change(job.destination, Destination.leave)
            self._promote(job.destination)
            self._feed_starved()

    def put_back(self, job: Job) -> None:
        """Let a job that was taken and has not ended be taken again, before all others: nothing of its key went on."""
        self._no_longer_busy(job)
        destination = job.destination
        if destination is None or job.refused or job.holds_slot:
            self._make_ready(job, first=True)
        elif self._has_room(destination):
            self._start(destination, job, first=True)
        else:
            self._wait_for_slot(destination, job, first=True)

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
        waiting = [job for queue in self._waiting.values() for job in queue.take_out_leaving()]
        held = self._turnstile.take_out(lambda job: job.source.leaving)
        ready = [job for one in self._ready for lane in (one.high, one.normal) for job in split_leaving(lane)]
        self._ready = deque(one for one in self._ready if one.high or one.normal)
        self._waiting_jobs -= len(waiting)
        self._behind -= len(behind)
        for job in behind:
            job.tenant.behind -= 1
        for destination in [destination for destination, queue in self._waiting.items() if not queue]:
            del self._waiting[destination]
        for job in waiting:
            job.tenant.waiting -= 1
        for job in waiting + held:
            self._next_of_key(job)
        for job in ready:
            self.finished(job)
        return ready + waiting + held + behind

    def _next_of_key(self, job: Job) -> None:
        if (key := job.key) is None or job.out_of_turn:
            return
        if queue := self._keys.get(key):
            following = queue.popleft()
            self._behind -= 1
            following.tenant.behind -= 1
            self._admit(following)
        else:
            self._keys.pop(key, None)

    def let_go(self) -> None:
        """Go on with the jobs whose turn has come."""
        for job in self._turnstile.let_go(self._clock()):
            self._admit(job)

    def opens_in_s(self) -> float | None:
        """Return how long to wait before the next `let_go`; None where nothing waits for its turn."""
        return self._turnstile.opens_in_s(self._clock()) if self._turnstile else None

    def _must_wait(self, job: Job) -> bool:
        """Take a job's turn at its endpoint, and say whether that is later than now."""
        rate, job.rate = job.rate, None
        if rate is None:
            return False
        now = self._clock()
        if (at := rate.turn(now)) is None:
            self.put_off(job, rate.put_off_s(now))
        elif at > now:
            self._turnstile.hold(job, at)
            self.held()
        else:
            return False
        return True

    def _admit(self, job: Job) -> None:
        destination = job.destination
        if destination is None or job.refused:
            self._make_ready(job)
            return
        if job.rate is not None and self._must_wait(job):
            return
        queue = self._waiting.get(destination)
        if not queue and self._has_room(destination):
            self._start(destination, job)
        elif self._is_full(destination, queue, job.tenant):
            job.refused = "destination_busy"
            self._make_ready(job)
        else:
            self._wait_for_slot(destination, job)

    def _wait_for_slot(self, destination: Destination, job: Job, *, first: bool = False) -> None:
        queue = self._waiting.get(destination)
        if queue is None:
            queue = self._waiting[destination] = Turns()
        (queue.appendleft if first else queue.append)(job)
        self._waiting_jobs += 1
        job.tenant.waiting += 1

    def _is_full(self, destination: Destination, queue: Turns | None, tenant: Tenant) -> bool:
        limit = destination.limits.waiting
        if limit is None or not (destination.hangs or destination.silent(self._clock())):
            return False
        free = self._waiting_limit - self._waiting_jobs
        return len(queue or ()) >= limit or free <= 0 or not self._tenants.may_have(tenant.waiting, free)

    def _has_room(self, destination: Destination) -> bool:
        now = self._clock()
        if destination.breaker.blocks(now):
            return True  # to be ended at once
        if not destination.has_room(now):
            return False
        if destination.proven or self._may_try(destination.tenant):
            return True
        self._starved.setdefault(destination.tenant, {})[destination] = None
        return False

    def _may_try(self, tenant: Tenant) -> bool:
        """Say whether a tenant may have one more slot for what has not proved itself."""
        free = self._unproven_slots - self._unproven_in_use
        return free > 0 and self._tenants.may_have(tenant.unproven, free)

    def _start(self, destination: Destination, job: Job, *, first: bool = False) -> None:
        job.holds_slot = True
        self._note_change(destination, Destination.enter)
        self._make_ready(job, first=first)

    def _note_change(self, destination: Destination, change: Callable[[Destination], None]) -> None:
        before = 0 if destination.proven else destination.in_use
        change(destination)
        if changed := (0 if destination.proven else destination.in_use) - before:
            self._unproven_in_use += changed
            destination.tenant.unproven += changed

    def _promote(self, destination: Destination) -> None:
        queue = self._waiting.get(destination)
        while queue and self._has_room(destination):
            job = queue.popleft()
            self._waiting_jobs -= 1
            job.tenant.waiting -= 1
            self._start(destination, job)
        if queue is not None and not queue:
            del self._waiting[destination]

    def _feed_starved(self) -> None:
        for tenant in list(self._starved) if self._starved else ():
            if self._unproven_in_use >= self._unproven_slots:
                return
            starved = self._starved[tenant]
            while starved and self._may_try(tenant):
                destination = next(iter(starved))
                del starved[destination]
                self._starved.move_to_end(tenant)  # whoever had something is behind those who had not
                self._promote(destination)
            if not starved:
                del self._starved[tenant]

    def _make_ready(self, job: Job, *, first: bool = False) -> None:
        tenant = job.tenant
        if job.holds_slot and job.destination and self._tenants.several:
            tenant = job.destination.tenant
        if not (tenant.high or tenant.normal):
            (self._ready.appendleft if first else self._ready.append)(tenant)
        lane = tenant.high if job.source.high else tenant.normal
        (lane.appendleft if first else lane.append)(job)

    def _no_longer_busy(self, job: Job) -> None:
        if (tenant := job.busy_for) is None:
            return
        job.busy_for = None
        self._busy -= 1
        tenant.busy -= 1
        self._busy_tenants -= not tenant.busy
        job.tenant.served += 1


def _next_of(tenant: Tenant, count: int) -> list[Job]:
    """Take a tenant's next jobs out of its lanes."""
    high, normal, jobs = tenant.high, tenant.normal, list[Job]()
    for _ in range(min(count, len(high) + len(normal))):
        tenant.taken += 1
        first, second = (normal, high) if tenant.taken % NORMAL_SHARE == 0 else (high, normal)
        jobs.append((first or second).popleft())
    return jobs
