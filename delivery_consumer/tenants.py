"""What each tenant holds of this process, and how much of it it may: one that floods slows itself alone. No I/O.

A tenant may hold at most GREED times what nobody holds: of the attempts under way, of the records read, of the slots
for destinations that have not proved themselves, of the places to wait. So what is there is divided max-min: whoever
wants little gets it, whoever wants more gets as much as any other, and something is always left for the next to come.
One alone may have two thirds, two together four fifths. Nobody counts who is there, and nothing is taken from anybody:
who holds more than its share gets nothing more until it has given back. Of attempts an even share may be had in any
case, and what is free is what has been free of late: Room says why.

Source: Choudhury and Hahne, "Dynamic Queue Length Thresholds for Shared-Memory Packet Switches" (1998).
"""

from collections import OrderedDict, deque
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from delivery_consumer.work import Job

GREED: Final = 2
RISES_IN_S: Final = 10.0
"""About as long as an attempt takes at a receiver that hangs."""
SOONEST_S: Final = 2.0
LATEST_S: Final = 600.0
EAGER: Final = 1.25
"""So much faster than they lately ended do those that are put off come again: to find room where others have gone."""
_EVENLY: Final = (5**0.5 - 1) / 2
"""Steps of the golden ratio, modulo 1, are spread evenly however many there are."""
_FIRST_GUESS_PER_S: Final = 500.0
_LEAST_PER_S: Final = 1.0
_LOOK_EVERY_S: Final = 1.0


class Line:
    """Those that are put off, one after another, as fast as they will presumably be served.

    It is LATEST_S long. Whoever does not fit in comes back to ask again, in the second half of that time and never with
    all others: a hundred thousand at once would be in everybody's way, from PostgreSQL to here.
    """

    __slots__ = ("_ends_at", "_place")

    def __init__(self) -> None:
        self._ends_at = 0.0
        self._place = 0.0  # of the last that did not fit, from 0 to 1

    def join(self, now: float, *, per_s: float, after_s: float = SOONEST_S) -> float:
        """Return for how many seconds the next one is put off: behind all others, and for `after_s` at the least."""
        ends_at, latest = max(self._ends_at, now + after_s) + 1 / per_s, now + LATEST_S
        self._ends_at = min(ends_at, latest)
        if ends_at <= latest:
            return ends_at - now
        self._place = (self._place + _EVENLY) % 1.0
        return LATEST_S * (1 - self._place / 2)


class Tenant:
    """One tenant's part of everything, in numbers, and what of it may be claimed."""

    __slots__ = (
        *("id", "in_hand", "bytes_in_hand", "busy", "waiting", "behind", "unproven", "destinations", "high", "normal"),
        *("taken", "served", "_line", "_looked_at", "_per_s"),
    )

    def __init__(self, id_: str) -> None:
        self.id = id_
        self.in_hand = self.bytes_in_hand = 0  # records read that have not ended
        self.busy = 0  # being claimed, claimed, or under way: its own, but for those at what all share
        self.waiting = 0  # for a slot of their destination
        self.behind = 0  # another one of their key
        self.unproven = 0  # slots held at destinations that have not proved themselves
        self.destinations = 0  # that are known
        self.high: deque[Job] = deque()
        self.normal: deque[Job] = deque()
        self.taken = self.served = 0  # jobs: taken to be claimed; ended since, or claimed no more
        self._line, self._per_s = Line(), _FIRST_GUESS_PER_S
        self._looked_at = float("-inf")

    def put_off_s(self, now: float) -> float:
        """Return for how long a record is put off: until there will be room for it, as fast as others end."""
        passed_s = now - self._looked_at
        if passed_s >= _LOOK_EVERY_S:
            if passed_s < 10 * _LOOK_EVERY_S:
                self._per_s = max(self.served / passed_s, self._per_s / 2, _LEAST_PER_S)
            self.served, self._looked_at = 0, now
        half_of_it_s = self.in_hand / (2 * self._per_s)
        return self._line.join(now, per_s=EAGER * self._per_s, after_s=max(half_of_it_s, SOONEST_S))


class Tenants:
    """The tenants in sight; one that has nothing here is forgotten in time. `several`: is there more than one at all?

    As long as there is one alone nothing is divided: it may have everything.
    """

    def __init__(self, *, keep: int = 10_000) -> None:
        self._keep, self._known = keep, OrderedDict[str, Tenant]()
        self.several = False

    def get(self, tenant_id: str) -> Tenant:
        """Return the tenant of this id."""
        known = self._known.get(tenant_id)
        if known is None:
            known = self._known[tenant_id] = Tenant(tenant_id)
            self._forget_idle()
        return known

    def may_have(self, held: int, free: float) -> bool:
        """Say whether a tenant that holds so many may have one more of those that are free."""
        return not self.several or held < GREED * free

    def _forget_idle(self) -> None:
        for _ in range(min(len(self._known) - self._keep, 8)):
            id_, oldest = next(iter(self._known.items()))
            if oldest.in_hand or oldest.destinations:
                self._known.move_to_end(id_)
            else:
                del self._known[id_]


class Room:
    """What has been free of late: it falls at once, and rises to all there is within RISES_IN_S.

    Attempts that began together end together. Whoever holds its slots for long would take a part of each such moment
    and not give it back, until the others have nothing left but the moments: with receivers that hang, beside others
    that take half a second, one of three tenants came to 12 slots of 20.
    """

    __slots__ = ("_looked_at", "left")

    def __init__(self) -> None:
        self.left, self._looked_at = float("inf"), 0.0

    def look(self, now: float, *, free: int, slots: int) -> None:
        """Learn what is free."""
        self.left = min(max(free, 0), self.left + (now - self._looked_at) * slots / RISES_IN_S)
        self._looked_at = now


class Turns:
    """A queue in which tenants take turns; each one's jobs keep their order."""

    __slots__ = ("_count", "_queues")

    def __init__(self) -> None:
        self._queues: OrderedDict[Tenant, deque[Job]] = OrderedDict()
        self._count = 0

    def __len__(self) -> int:
        return self._count

    def append(self, job: "Job") -> None:
        """Let a job wait behind those of its tenant."""
        queue = self._queues.get(job.tenant)
        if queue is None:
            queue = self._queues[job.tenant] = deque()
        queue.append(job)
        self._count += 1

    def appendleft(self, job: "Job") -> None:
        """Let a job be the next one."""
        queue = self._queues.get(job.tenant)
        if queue is None:
            queue = self._queues[job.tenant] = deque()
        self._queues.move_to_end(job.tenant, last=False)
        queue.appendleft(job)
        self._count += 1

    def popleft(self) -> "Job":
        """Take the next one out. Raises StopIteration where there is none."""
        tenant, queue = next(iter(self._queues.items()))
        job = queue.popleft()
        self._count -= 1
        if not queue:
            del self._queues[tenant]
        elif len(self._queues) > 1:
            self._queues.move_to_end(tenant)
        return job

    def take_out_leaving(self) -> list["Job"]:
        """Remove and return the jobs of partitions that leave."""
        leaving = [job for queue in list(self._queues.values()) for job in split_leaving(queue)]
        for tenant in [tenant for tenant, queue in self._queues.items() if not queue]:
            del self._queues[tenant]
        self._count -= len(leaving)
        return leaving


def split_leaving(queue: "deque[Job]") -> list["Job"]:
    """Remove from a queue the jobs of partitions that leave, and return them."""
    leaving = [job for job in queue if job.source.leaving]
    if leaving:
        staying = [job for job in queue if not job.source.leaving]
        queue.clear()
        queue.extend(staying)
    return leaving
