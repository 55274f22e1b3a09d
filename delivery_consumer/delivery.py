"""One attempt: may it begin, the call, its quick repeats, its outcome. Knows providers, not Kafka or PostgreSQL."""

import asyncio
import logging
import random
import time
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Final

from tenacity import AsyncRetrying, RetryCallState, retry_if_exception_type

from delivery_consumer import metrics
from delivery_consumer.destinations import Destination, Destinations
from delivery_consumer.errors import (
    DeliveryError,
    PermanentDeliveryError,
    TransientDeliveryError,
    UnknownOutcomeError,
)
from delivery_consumer.lanes import Lanes
from delivery_consumer.providers import FRESH_S, Attempt, Provider, Receipt
from delivery_consumer.tenants import Tenants
from delivery_consumer.work import Job
from shared.db.notifications import Ended
from shared.model import Channel, Outcome

log = logging.getLogger(__name__)

MAX_TRIES: Final = 3
REPEAT_WITHIN_S: Final = 2.0
_BUSY_RETRY_S: Final = 30.0
_OUTCOMES: Final[dict[type[DeliveryError], Outcome]] = {
    TransientDeliveryError: Outcome.TRANSIENT,
    PermanentDeliveryError: Outcome.PERMANENT,
    UnknownOutcomeError: Outcome.UNKNOWN,
}
_DETAILS: Final = {
    "breaker_open": "not sent: most recent calls to this destination failed",
    "destination_busy": "not sent: this destination has fallen silent and its queue is full",
    "internal_error": "the provider failed in a way it should not; see the log",
    "stopped": "cut off: the process had to end while the call was under way",
}


class Deliverer:
    """Ends attempts.

    No call begins with less than `lease_margin_s` left of its lease. `stopping` keeps it from repeating calls once the
    process is to end.
    """

    def __init__(
        self,
        providers: Mapping[Channel, Provider],
        lanes: Lanes,
        tenants: Tenants,
        *,
        lease_margin_s: float = 1.0,
        clock: Callable[[], float] = time.monotonic,
        listening: Callable[[], float] | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        self._providers, self._lanes, self._clock, self._sleep = providers, lanes, clock, sleep
        self._listening = listening or clock  # what destinations are judged by
        self._lease_margin_s = lease_margin_s
        self._rng = rng or random.Random()  # noqa: S311 - jitter, no secret
        self.destinations = Destinations(tenants)
        self.stopping = False
        self._directories = {channel: one.directory for channel, one in providers.items() if one.directory}
        self._seconds = {channel: metrics.DELIVERY_SECONDS.labels(channel) for channel in providers}
        self._under_way = {channel: metrics.CALLS_UNDER_WAY.labels(channel) for channel in providers}

    def address(self, job: Job, *, looked_up: bool = False) -> bool:
        """Find a job's destination; False if something has to be looked up first, unless it just was.

        A recipient nothing can be sent to leaves it without one.
        """
        provider = self._providers[job.record.channel]
        try:
            place = provider.place(job.record, looked_up=looked_up)
        except PermanentDeliveryError as error:
            job.refused = error.reason
            return True
        if place is None:
            return False
        job.destination = self.destinations.get(job.tenant, place.destination, provider.limits)
        job.rate = place.rate
        job.paced = place.rate is not None
        return True

    def outdated(self, jobs: Iterable[Job], *, within_s: float = FRESH_S) -> list[Job]:
        """Return those of some jobs that need something which was looked up too long ago, or never."""
        found: list[Job] = []
        for channel, directory in self._directories.items():
            is_known = directory.is_known
            found += [
                job for job in jobs if job.record.channel is channel and not is_known(job.record, within_s=within_s)
            ]
        return found

    async def look_up(self, jobs: Sequence[Job]) -> None:
        """Look up what jobs need, in one question for each channel."""
        for channel, directory in self._directories.items():
            if records := [job.record for job in jobs if job.record.channel is channel]:
                await directory.look_up(records)

    def unsendable(self, job: Job) -> str | None:
        """Say why an attempt must not begin now although it was claimed; None if it may."""
        now = self._clock()
        if job.expires_at is not None and now >= job.expires_at:
            return "expired"
        return "lease_over" if now + self._lease_margin_s >= job.lease_until else None

    async def attempt(self, job: Job) -> Ended:
        """Make one attempt and return how it ended; never raises but for cancellation."""
        began_at = self._clock()
        self._under_way[job.record.channel].inc()
        try:
            ended = await self._outcome_of(job)
        finally:
            self._under_way[job.record.channel].dec()
        duration_s = self._clock() - began_at
        self._seconds[job.record.channel].observe(duration_s)
        self._report(job, ended, duration_s)
        return ended

    def cut_off(self, job: Job) -> Ended:
        """Return the outcome of an attempt that was stopped in the middle."""
        ended = self._ended(job, Outcome.UNKNOWN, "stopped")
        self._report(job, ended, None)
        return ended

    async def _outcome_of(self, job: Job) -> Ended:
        try:
            receipt = await self._send(job)
        except DeliveryError as error:
            ended = self._ended(job, _OUTCOMES[type(error)], error.reason, retry_after_s=error.retry_after_s)
            return replace(ended, suppress=error.suppress) if error.suppress else ended
        except Exception:
            # One record must not take the process down with it, again and again. Nobody knows how far the call came.
            log.exception("provider_failed", extra={"notification_id": job.record.id})
            return self._ended(job, Outcome.UNKNOWN, "internal_error")
        return self._ended(job, Outcome.ACCEPTED, "accepted", receipt=receipt.text)

    async def _send(self, job: Job) -> Receipt:
        if job.destination is None:
            raise PermanentDeliveryError(job.refused or "bad_recipient")
        if job.refused:
            raise TransientDeliveryError(job.refused, retry_after_s=_BUSY_RETRY_S)
        # Before the call, since nothing of this is the destination's fault.
        if (directory := self._directories.get(job.record.channel)) and not directory.check(job.record):
            await directory.look_up((job.record,))  # others' have taken its place since the claim
            if reason := self.unsendable(job):
                raise TransientDeliveryError(reason)
            directory.check(job.record)
        if (blocked_s := job.destination.breaker.blocked_for_s(self._listening())) is not None:
            raise TransientDeliveryError("breaker_open", retry_after_s=blocked_s)
        job.destination.budget.note_first_call()
        began_at = self._clock()
        try:
            return await self._call(job, job.destination)
        except TransientDeliveryError as first:
            return await self._repeat(job, job.destination, first, began_at)

    async def _call(self, job: Job, destination: Destination) -> Receipt:
        job.begun = True
        job.tries += 1
        began_at = self._listening()
        destination.call_began(began_at)
        worked, answered = False, False
        try:
            receipt = await self._providers[job.record.channel].send(
                job.record, Attempt(job.ticket.attempt, job.traceparent)
            )
            worked, answered = True, True
            return receipt
        except DeliveryError as error:
            destination.last_reason = error.reason
            # A permanent one answered, or was never asked: nothing is wrong with the destination.
            worked = isinstance(error, PermanentDeliveryError)
            answered = worked or error.answered
            raise
        finally:
            destination.call_ended(self._listening(), began_at=began_at, answered=answered)
            self._lanes.note(destination, worked=worked, answered=answered)

    async def _repeat(
        self, job: Job, destination: Destination, first: TransientDeliveryError, began_at: float
    ) -> Receipt:
        """Go on after a first transient failure; tenacity is entered only here, its calls cost 20 µs each."""
        failures = [first]

        async def call() -> Receipt:
            if failures:
                raise failures.pop()
            if self._clock() + self._lease_margin_s >= job.lease_until:  # stopped while it paused, as by SIGSTOP
                raise first
            return await self._call(job, destination)

        def enough(state: RetryCallState) -> bool:
            again_at = self._clock() + state.upcoming_sleep
            return (
                state.attempt_number >= MAX_TRIES
                or job.paced
                or again_at - began_at > REPEAT_WITHIN_S
                or self.stopping
                or not destination.breaker.closed
                or again_at + self._lease_margin_s >= job.lease_until
                or (job.expires_at is not None and again_at >= job.expires_at)
                or not destination.budget.take(self._clock())
            )

        retrying = AsyncRetrying(
            retry=retry_if_exception_type(TransientDeliveryError),
            wait=self._pause_s,
            stop=enough,
            sleep=self._sleep,
            reraise=True,
        )
        return await retrying(call)

    def _pause_s(self, state: RetryCallState) -> float:
        """Return full jitter over a doubling span, and never less than the other side asked for."""
        error = state.outcome.exception() if state.outcome else None
        asked_s = error.retry_after_s if isinstance(error, DeliveryError) else None
        return max(self._rng.uniform(0, 0.2 * 2**state.attempt_number), asked_s or 0.0)

    def _ended(
        self, job: Job, outcome: Outcome, reason: str, *, receipt: str | None = None, retry_after_s: float | None = None
    ) -> Ended:
        return Ended(
            id=job.ticket.id,
            attempt=job.ticket.attempt,
            outcome=outcome,
            reason=reason,
            detail=None if outcome is Outcome.ACCEPTED else _DETAILS.get(reason, reason.replace("_", " ")),
            receipt=receipt,
            provider=self._providers[job.record.channel].name,
            destination=job.destination.name if job.destination else None,
            tries=job.tries,
            retry_after_s=retry_after_s,
            topic=job.source.topic,
            partition=job.source.partition,
            offset=job.offset,
        )

    def _report(self, job: Job, ended: Ended, duration_s: float | None) -> None:
        metrics.deliveries(job.record.channel, ended.outcome, ended.reason).inc()
        level = logging.DEBUG if ended.outcome is Outcome.ACCEPTED else logging.INFO
        if not log.isEnabledFor(level):
            return
        log.log(
            level,
            "attempt_ended",
            extra={
                "notification_id": job.record.id,
                "tenant_id": job.record.tenant_id,
                "attempt": ended.attempt,
                "tries": ended.tries,
                "channel": job.record.channel,
                "outcome": ended.outcome,
                "reason": ended.reason,
                "destination": ended.destination,
                "duration_s": None if duration_s is None else round(duration_s, 4),
                "correlation_id": job.correlation_id,
                "traceparent": job.traceparent,
            },
        )
