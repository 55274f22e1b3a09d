"""Received records to ended attempts: claim, hand to workers, write back, renew, give back. No Kafka in it."""

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from delivery_consumer import metrics
from delivery_consumer.aside import Aside, PoisonStore
from delivery_consumer.claimed import Claimed
from delivery_consumer.delivery import Deliverer
from delivery_consumer.destinations import Pace
from delivery_consumer.hand import Hand
from delivery_consumer.in_flight import Intake
from delivery_consumer.lanes import Lanes
from delivery_consumer.lookups import Lookups
from delivery_consumer.providers import FRESH_S, USABLE_S
from delivery_consumer.put_off import PutOff
from delivery_consumer.store import STATEMENT_ROWS, Answer, Store
from delivery_consumer.tenants import Tenants
from delivery_consumer.work import Job, PartitionId, Received, job_of
from shared.db.notifications import Claimed as ClaimedRow
from shared.db.notifications import Ended, Ticket
from shared.model import Channel
from shared.records import UndecodableRecordError

log = logging.getLogger(__name__)
BUSY_PAUSE_S: Final = 0.25


class Engine:
    """The consumer without Kafka. Everything it does is a method that a test can call by itself."""

    def __init__(
        self,
        *,
        store: Store,
        deliverer: Deliverer,
        lanes: Lanes,
        tenants: Tenants,
        intake: Intake,
        poison: PoisonStore,
        channels: frozenset[Channel],
        high_topics: frozenset[str],
        lease_s: float,
        in_flight: int,
        claim_ahead: int,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._store, self._deliverer, self._lanes, self._tenants = store, deliverer, lanes, tenants
        self._channels = channels
        self._lease_s, self._claim_ahead, self._clock = lease_s, claim_ahead, clock
        self._hand = Hand(intake, in_flight, high_topics, tenants)
        self.aside = Aside(poison, lambda source, one: self._hand.leave(source, one.offset, one.size_bytes, done=True))
        self.lookups = Lookups(deliverer, self._looked_up)
        self.put_off = PutOff(store, lambda job: self._leave(job, done=True))
        lanes.put_off = lambda job, delay_s: self.put_off.add(job, delay_s, "rate")
        self._claimed = Claimed(lanes.free)
        self._pace = Pace()
        self._held: dict[Ticket, Job] = {}  # claimed by us, not yet written back
        self._outcomes: deque[tuple[Job, Ended]] = deque()
        self._releases: deque[Job] = deque()
        self._resting: set[Job] = set()  # pending, their rows held by somebody else
        self._to_claim, self._to_write, self._to_let_go = asyncio.Event(), asyncio.Event(), asyncio.Event()
        lanes.held = self._to_let_go.set

    # Intake

    def receive(self, batch: Iterable[Received]) -> None:
        """Take records in: decode, set the undecodable aside, line the others up until they may be claimed."""
        for received in batch:
            source = self._hand.source(received.topic, received.partition)
            if source.leaving:
                continue
            self._hand.take(source, received)
            try:
                job = job_of(received, source, self._channels, self._tenants)
            except UndecodableRecordError as error:
                self.aside.add(source, received, error.reason)
            else:
                job.tenant.in_hand += 1
                job.tenant.bytes_in_hand += job.size_bytes
                self._line_up(job)
        self._look_for_work()
        self._hand.pause_full()

    def _line_up(self, job: Job) -> None:
        if self._tenants.several and self._hand.is_over_share(job.source.topic, job.tenant):
            job.out_of_turn = True  # it is in no key's queue
            self.put_off.add(job, job.tenant.put_off_s(self._clock()), "share")
        elif self._deliverer.address(job):
            self._lanes.put(job)
        else:
            self.lookups.add(job)

    def _looked_up(self, job: Job) -> None:
        if job.source.leaving:
            self._leave_hand(job, done=False)
        else:
            self._deliverer.address(job, looked_up=True)
            self._lanes.put(job)
            self._look_for_work()

    def safe_offsets(self) -> dict[PartitionId, int]:
        """Return the offset of each partition that a restart may begin at."""
        return self._hand.safe_offsets()

    # Claim

    async def claim_once(self) -> int:
        """Claim what could begin now and hand it to the workers; return how many records were asked about."""
        slots = self._claim_ahead + self._pace.ahead
        jobs = self._lanes.take(min(STATEMENT_ROWS, slots - len(self._claimed)), slots=slots)
        if not jobs:
            return 0
        if outdated := self._deliverer.outdated(jobs):
            await self._deliverer.look_up(outdated)
        known_until = self._clock() + USABLE_S - FRESH_S
        answer = await self._ask(jobs)
        claimed = {Ticket(row.id, row.attempt): row for row in answer.claimed}
        unheard: list[Job] = []
        for job in jobs:
            row = claimed.pop(job.ticket, None)
            job.unheard = job.unheard or answer.repeated
            if row is None and job.unheard and job.ticket not in self._held:
                unheard.append(job)
            elif row is None:
                self._drop(job, "not_pending")
            elif row.state == "claimed":
                job.known_until = known_until
                self._hold(job, row, answer.asked_at)
            elif row.state == "busy":
                self._rest(job)
            else:
                self._drop(job, row.state)
        if unheard:
            await self._ask_again(unheard)
        return len(jobs)

    async def _ask(self, jobs: list[Job]) -> Answer:
        """Claim, and see how many jobs end in that time, of each destination and of all.

        So many slots and workers come free while a claim is under way, and so many jobs are claimed ahead of them next
        time: they wait about as long as a claim takes. Where calls take long that is none.
        """
        began_at = self._clock()
        answer = await self._store.claim([job.ticket for job in jobs])
        now = self._clock()
        metrics.CLAIM_SECONDS.observe(now - began_at)
        for pace in {self._pace, *(job.destination.pace for job in jobs if job.destination)}:
            pace.look(now, took_s=now - began_at, ran_dry=not self._claimed)
        return answer

    def _hold(self, job: Job, row: ClaimedRow, asked_at: float) -> None:
        job.unheard = False
        job.lease_until = asked_at + self._lease_s
        job.expires_at = None if row.expires_in_s is None else asked_at + row.expires_in_s
        self._held[job.ticket] = job
        self._claimed.put(job)

    @property
    def waiting_for_workers(self) -> int:
        """Return how many claimed jobs no worker has taken yet."""
        return len(self._claimed)

    def _look_for_work(self) -> None:
        if self._lanes.has_ready:
            self._to_claim.set()

    def _drop(self, job: Job, reason: str) -> None:
        metrics.RECORDS_DROPPED.labels(reason).inc()
        self._leave(job, done=True)

    def _leave(self, job: Job, *, done: bool) -> None:
        self._lanes.finished(job)
        self._look_for_work()
        self._leave_hand(job, done=done)

    def _rest(self, job: Job) -> None:
        """Ask about a job again in a moment, as another transaction holds its row; others have its slot till then."""
        self._resting.add(job)
        self._lanes.give_up_slot(job)
        self._look_for_work()
        asyncio.get_running_loop().call_later(BUSY_PAUSE_S, self._end_rest, job)

    def _end_rest(self, job: Job) -> None:
        if job in self._resting:
            self._resting.remove(job)
            self._put_back(job)

    async def _ask_again(self, jobs: list[Job]) -> None:
        """Give back what a claim began whose answer was lost with its connection, and claim it anew."""
        await self._give_up(jobs)
        for job in jobs:
            job.unheard = False
            self._put_back(job)

    async def _give_up(self, jobs: list[Job]) -> None:
        # A record that is ours, or is handed over with its partition, is still uncommitted; only a lost one needs
        # another, since its next reader may have passed it already.
        for lost in (False, True):
            if tickets := [job.ticket for job in jobs if job.source.lost is lost]:
                await self._store.release(tickets, republish=lost)

    def _put_back(self, job: Job) -> None:
        """Have a job that is pending again claimed once more, in its old place: nothing of its key went on."""
        if job.source.leaving:
            self._leave(job, done=job.source.lost)
        else:
            self._lanes.put_back(job)
            self._look_for_work()

    # Work

    async def work_once(self) -> None:
        """Wait for a claimed job; end it, or give it back if it must not begin any more."""
        job = await self._claimed.take()
        self._look_for_work()
        if self._clock() >= job.known_until and (outdated := self._deliverer.outdated((job,), within_s=USABLE_S)):
            await self._deliverer.look_up(outdated)
        if self._turn_away(job):
            self._claimed.unpark(job.destination)  # those that wait for its end would wait for ever
        elif not self._claimed.park(job):
            await self._end(job)

    def _turn_away(self, job: Job) -> bool:
        if job.taken_over:
            self._drop(job, "taken_over")
        elif reason := "partition_left" if job.source.leaving else self._deliverer.unsendable(job):
            self._release(job, reason)
        else:
            return False
        return True

    async def _end(self, job: Job) -> None:
        if destination := job.destination if job.holds_slot else None:
            destination.under_way += 1
        try:
            self._outcomes.append((job, await self._attempt(job)))
            self._to_write.set()
        finally:
            self._pace.note_end()
            if destination:
                destination.under_way -= 1
            self._claimed.unpark(destination)
            self._lanes.give_up_slot(job)  # its key goes on when the outcome is stored: until then the next is early
            self._look_for_work()

    async def _attempt(self, job: Job) -> Ended:
        job.worker = task = asyncio.current_task()
        try:
            return await self._deliverer.attempt(job)
        except asyncio.CancelledError:
            if not job.cut or task is None:
                raise
            task.uncancel()
            return self._deliverer.cut_off(job)
        finally:
            job.worker = None

    def _release(self, job: Job, reason: str) -> None:
        metrics.JOBS_RELEASED.labels(reason).inc()
        self._held.pop(job.ticket, None)
        self._releases.append(job)
        self._to_write.set()

    # Write-back

    async def write_back_once(self) -> int:
        """Write one batch of outcomes back and give back what was not sent; return how many."""
        ended = [self._outcomes.popleft() for _ in range(min(len(self._outcomes), STATEMENT_ROWS))]
        if ended:
            began_at = self._clock()
            ours = await self._store.write_back([outcome for _, outcome in ended])
            metrics.WRITE_BACK_SECONDS.observe(self._clock() - began_at)
            metrics.LEASES_TAKEN_OVER.inc(len(ended) - ours)
        for job, _ in ended:
            self._leave(job, done=True)
        return len(ended) + await self._release_once()

    async def _release_once(self) -> int:
        jobs = [self._releases.popleft() for _ in range(min(len(self._releases), STATEMENT_ROWS))]
        await self._give_up(jobs)
        for job in jobs:
            self._put_back(job)
        return len(jobs)

    def _leave_hand(self, job: Job, *, done: bool) -> None:
        if self._held.get(job.ticket) is job:
            del self._held[job.ticket]
        job.tenant.in_hand -= 1
        job.tenant.bytes_in_hand -= job.size_bytes
        self._hand.leave(job.source, job.offset, job.size_bytes, done=done)

    # Leases, poison, partitions that leave

    async def renew_once(self) -> int:
        """Extend the leases that are more than half over; let go of what was taken over."""
        soon = self._clock() + self._lease_s / 2
        due = [(ticket, job.lease_until) for ticket, job in self._held.items() if job.lease_until < soon]
        for start in range(0, len(due), STATEMENT_ROWS):
            asked = due[start : start + STATEMENT_ROWS]
            renewed, asked_at = await self._store.renew([ticket for ticket, _ in asked])
            for ticket, lease_until in asked:
                job = self._held.get(ticket)
                if job is None or job.lease_until != lease_until:  # given back meanwhile, and claimed again
                    continue
                if ticket in renewed:
                    job.lease_until = asked_at + self._lease_s
                elif not job.begun:
                    job.taken_over = True
        return len(due)

    async def give_back(
        self,
        partitions: Iterable[PartitionId],
        *,
        lost: bool = False,
        timeout_s: float,
        cut_after_s: float | None = None,
    ) -> dict[PartitionId, int]:
        """Let partitions go: begin nothing more of them, end what is under way, return the offsets to commit.

        What was claimed and not begun is pending again before this returns. A call under way is waited for; after
        `cut_after_s` it is cut off and ends `unknown`. After `timeout_s` this returns in any case: the claim keeps
        the next owner from sending what is still open here.
        """
        leaving = self._hand.let_go(partitions, lost=lost)
        for job in [job for job in self._resting if job.source.leaving]:
            self._end_rest(job)
        for job in self.put_off.take_out_leaving():
            self._leave(job, done=False)
        for job in self.lookups.take_out_leaving():
            self._leave_hand(job, done=False)  # no key knows of it yet
        for job in self._lanes.take_out_leaving():
            self._leave_hand(job, done=False)
        for job in self._claimed.take_out_leaving():
            self._release(job, "partition_left")
        waits = [asyncio.create_task(source.idle.wait()) for source in leaving if source.in_hand]
        if waits and cut_after_s is not None:
            await asyncio.wait(waits, timeout=cut_after_s)
            self._cut_off()
        if waits:
            _, late = await asyncio.wait(waits, timeout=timeout_s - (cut_after_s or 0))
            for wait in late:
                wait.cancel()
        return {(s.topic, s.partition): safe for s in leaving if (safe := s.offsets.safe) is not None}

    def _cut_off(self) -> None:
        for job in list(self._held.values()):
            if job.source.leaving and job.worker is not None:
                job.cut = True
                job.worker.cancel()

    # Loops

    async def run(self, workers: int) -> None:
        """Work until cancelled; a bug ends all of it."""
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(self._repeat(self.claim_once, self._to_claim))
            tasks.create_task(self._repeat(self.write_back_once, self._to_write))
            tasks.create_task(self._repeat(self.aside.once, self.aside.wake))
            tasks.create_task(self._repeat(self.put_off.once, self.put_off.wake))
            tasks.create_task(self._repeat(self.lookups.once, self.lookups.wake))
            tasks.create_task(self._let_go())
            tasks.create_task(self._keep_leases())
            for _ in range(workers):
                tasks.create_task(self._work())

    async def _work(self) -> None:
        while True:
            await self.work_once()

    async def _repeat(self, once: Callable[[], Awaitable[int]], wake: asyncio.Event) -> None:
        while True:
            await wake.wait()
            wake.clear()
            while await once():
                pass

    async def _let_go(self) -> None:
        while True:
            await self._to_let_go.wait()
            self._to_let_go.clear()
            while (wait_s := self._lanes.opens_in_s()) is not None:
                await asyncio.sleep(wait_s)
                self._lanes.let_go()
                self._look_for_work()

    async def _keep_leases(self) -> None:
        while True:
            await asyncio.sleep(self._lease_s / 6)
            await self.renew_once()
            self._hand.report()
            metrics.BREAKERS_OPEN.set(self._deliverer.destinations.open_breakers())
