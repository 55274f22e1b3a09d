"""The engine on fakes: attempts that fail, and destinations that must not harm each other."""

import asyncio

import pytest

from delivery_consumer.destinations import COOL_DOWN_S, MIN_CALLS, Limits
from delivery_consumer.errors import PermanentDeliveryError, TransientDeliveryError, UnknownOutcomeError
from shared.model import OnUnknown, Outcome
from shared.records import Record
from tests.unit.delivery_consumer.fakes import LEASE_S, Bench, running, until_blocked


def failing(*errors: Exception):  # type: ignore[no-untyped-def]  # noqa: ANN201
    """A provider's behaviour: these errors one after another, then success."""
    left = list(errors)

    async def behave(_: Record) -> None:
        if left:
            raise left.pop(0)

    return behave


async def test_quick_repeats_follow_a_transient_failure() -> None:
    """Three calls within two seconds are one attempt."""
    bench = Bench()
    bench.provider.behave = failing(TransientDeliveryError("http_503"), TransientDeliveryError("http_503"))
    bench.records()

    await bench.all()

    (ended,) = bench.store.ended
    assert (ended.outcome, ended.tries) == (Outcome.ACCEPTED, 3)
    assert bench.clock.now - 1000 <= 2


async def test_three_calls_are_enough() -> None:
    """Then the attempt is transient, with the last reason."""
    bench = Bench()
    bench.provider.behave = failing(*(TransientDeliveryError(f"http_50{n}") for n in range(5)))
    bench.records()

    await bench.all()

    (ended,) = bench.store.ended
    assert (ended.outcome, ended.reason, ended.tries) == (Outcome.TRANSIENT, "http_502", 3)


async def test_nothing_is_repeated_once_the_lease_ran_out_in_the_pause() -> None:
    """A process that was stopped in it, as by SIGSTOP, wakes when somebody else may have sent again."""
    bench = Bench()
    bench.provider.behave = failing(TransientDeliveryError("http_503"), TransientDeliveryError("http_504"))

    async def stopped(seconds: float) -> None:
        bench.clock.now += seconds + LEASE_S

    bench.deliverer._sleep = stopped
    bench.records()

    await bench.all()

    (ended,) = bench.store.ended
    assert (ended.outcome, ended.reason, ended.tries) == (Outcome.TRANSIENT, "http_503", 1)


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (TransientDeliveryError("http_503", retry_after_s=60), Outcome.TRANSIENT),
        (PermanentDeliveryError("http_410"), Outcome.PERMANENT),
        (UnknownOutcomeError("no_answer"), Outcome.UNKNOWN),
        (RuntimeError("a bug"), Outcome.UNKNOWN),
    ],
)
async def test_other_failures_are_not_repeated(error: Exception, outcome: Outcome) -> None:
    """A long Retry-After, a permanent no, doubt and a bug of ours end the attempt at once."""
    bench = Bench()
    bench.provider.behave = failing(error)
    bench.records()

    await bench.all()

    (ended,) = bench.store.ended
    assert (ended.outcome, ended.tries) == (outcome, 1)
    assert ended.retry_after_s == getattr(error, "retry_after_s", None)


async def test_nothing_is_repeated_while_stopping() -> None:
    """A consumer that is to end makes no second call."""
    bench = Bench()
    bench.deliverer.stopping = True
    bench.provider.behave = failing(TransientDeliveryError("http_503"))
    bench.records()

    await bench.all()

    assert bench.store.ended[0].tries == 1


async def test_an_open_breaker_ends_attempts_at_once() -> None:
    """After enough failures no call is made, and the dead letter waits until the breaker may close."""
    bench = Bench()
    bench.provider.behave = failing(*(UnknownOutcomeError("answer_timeout") for _ in range(MIN_CALLS)))
    bench.records(MIN_CALLS + 5)
    (other,) = bench.records(host="b.example")

    await bench.all()

    assert len(bench.sent) == MIN_CALLS + 1
    assert other in bench.sent
    refused = [ended for ended in bench.store.ended if ended.reason == "breaker_open"]
    assert [(ended.outcome, ended.retry_after_s, ended.tries) for ended in refused] == [
        (Outcome.TRANSIENT, COOL_DOWN_S, 0)
    ] * 5


async def test_a_destination_that_hangs_holds_its_own_slots_only() -> None:
    """Records of a full destination wait aside; workers stay free for the others."""
    bench, never = Bench(), asyncio.Event()
    bench.provider.limits = Limits(slots=2, first_slots=2, waiting=5)

    async def hang(record: Record) -> None:
        if "slow" in record.recipient:
            await never.wait()

    bench.provider.behave = hang
    bench.records(6, host="slow.example")
    quick = bench.records(6, host="quick.example")
    async with running(bench, workers=3):
        await until_blocked()
        await until_blocked()

    assert len(bench.sent) == 2 + 6
    assert set(quick) < set(bench.sent)


async def test_the_queue_of_a_silent_destination_is_bounded() -> None:
    """What does not fit ends as transient, to be tried later, instead of filling the consumer."""
    bench, never = Bench(), asyncio.Event()
    bench.provider.limits = Limits(slots=1, first_slots=1, waiting=3)

    async def hang(_: Record) -> None:
        await never.wait()

    bench.provider.behave = hang
    bench.records()
    await bench.engine.claim_once()
    worker = asyncio.create_task(bench.engine.work_once())
    await until_blocked()
    bench.clock.now += 2
    bench.records(5)
    await bench.engine.claim_once()
    await bench.work()
    await bench.engine.write_back_once()

    assert [(ended.reason, ended.outcome) for ended in bench.store.ended] == [
        ("destination_busy", Outcome.TRANSIENT)
    ] * 2
    worker.cancel()
    await asyncio.wait([worker])


async def test_silent_destinations_share_one_bounded_queue() -> None:
    """However many they are: the records read ahead are not all theirs, and the others go on."""
    bench, never = Bench(waiting=4), asyncio.Event()
    bench.provider.limits = Limits(slots=1, first_slots=1, waiting=100)

    async def hang(record: Record) -> None:
        if "slow" in record.recipient:
            await never.wait()

    bench.provider.behave = hang
    for number in range(5):
        bench.records(host=f"slow{number}.example")
    async with running(bench, workers=20):
        await until_blocked()
        bench.clock.now += 2
        for number in range(5):
            bench.records(3, host=f"slow{number}.example")
        quick = bench.records(3, host="quick.example")
        for _ in range(5):
            await until_blocked()

    assert set(quick) < set(bench.sent)
    busy = [ended for ended in bench.store.ended if ended.reason == "destination_busy"]
    assert len(busy) == 15 - 4


async def test_what_waits_for_one_that_hangs_does_not_begin_at_once() -> None:
    """When its call is given up, one other call may try; the workers are not all spent on it."""
    bench, never = Bench(), asyncio.Event()
    bench.provider.limits = Limits(slots=8, first_slots=1, waiting=100)
    for _ in range(4):  # proves itself
        bench.records(host="slow.example")
        await bench.all()
    bench.provider.sent.clear()
    gone = asyncio.Event()

    async def hang(_: Record) -> None:
        await (never if gone.is_set() else gone).wait()
        raise UnknownOutcomeError("answer_timeout")

    bench.provider.behave = hang
    bench.records(host="slow.example")
    async with running(bench, workers=20):
        await until_blocked()
        bench.clock.now += 2
        bench.records(10, host="slow.example")
        await until_blocked()
        bench.clock.now += 13
        gone.set()
        for _ in range(5):
            await until_blocked()

        assert len(bench.sent) == 2


async def test_unproven_destinations_share_half_of_the_workers() -> None:
    """New destinations begin with a slot each, and together leave workers to those that answered before."""
    bench, never = Bench(unproven_slots=3), asyncio.Event()
    bench.provider.limits = Limits(slots=8, first_slots=1, waiting=100)
    for _ in range(2):  # proves itself
        bench.records(host="good.example")
        await bench.all()
    bench.provider.sent.clear()

    async def hang(record: Record) -> None:
        if "good" not in record.recipient:
            await never.wait()

    bench.provider.behave = hang
    for number in range(10):
        bench.records(host=f"new{number}.example")
    good = bench.records(5, host="good.example")
    async with running(bench, workers=5):
        for _ in range(5):
            await until_blocked()

        assert len(bench.sent) == 3 + 5
        assert set(good) < set(bench.sent)
        never.set()
        for _ in range(10):
            await until_blocked()

    assert len(bench.sent) == 15


@pytest.mark.parametrize("transient_first", [False, True])
@pytest.mark.parametrize("hold", [False, True])
async def test_a_doubtful_outcome_is_never_repeated_within_the_attempt(hold: bool, transient_first: bool) -> None:
    """Not even after a quick repeat: with `on_unknown: hold` a repeat would be the very duplicate it forbids."""
    bench = Bench()
    before = [TransientDeliveryError("http_503")] if transient_first else []
    bench.provider.behave = failing(*before, UnknownOutcomeError("no_answer"))
    bench.records(on_unknown=OnUnknown.HOLD if hold else OnUnknown.RETRY)

    await bench.all()

    (ended,) = bench.store.ended
    assert (ended.outcome, ended.tries, len(bench.sent)) == (Outcome.UNKNOWN, 1 + transient_first, 1 + transient_first)


async def test_a_recipient_that_is_gone_is_named_in_the_outcome() -> None:
    """The write-back suppresses it; other failures say nothing of the kind."""
    bench = Bench()
    bench.provider.behave = failing(
        PermanentDeliveryError("http_410", suppress="gone"), PermanentDeliveryError("http_404")
    )
    bench.records(2)

    await bench.all()

    assert [(ended.reason, ended.suppress) for ended in bench.store.ended] == [("http_410", "gone"), ("http_404", None)]
