"""Claiming ahead: as much as ends while a claim is under way, and never more calls than a destination allows."""

import asyncio
from collections.abc import Sequence

import pytest

from delivery_consumer.destinations import AHEAD_S, Destination, Limits, Pace
from delivery_consumer.store import Answer
from shared.db.notifications import Ticket
from shared.records import Record
from tests.unit.delivery_consumer.fakes import HIGH, NORMAL, Bench, until_blocked

CLAIM_S = AHEAD_S


def slow_claims(bench: Bench, during: list[int]) -> None:
    """Have each claim take a while, in which as many claimed jobs are ended as `during` says next."""
    claim = bench.store.claim

    async def slow(tickets: Sequence[Ticket]) -> Answer:
        answer = await claim(tickets)
        for _ in range(during.pop(0) if during else 0):
            await bench.engine.work_once()
        bench.clock.now += CLAIM_S
        return answer

    bench.store.claim = slow  # type: ignore[method-assign]


@pytest.mark.parametrize(
    ("ended", "took_s", "since_s", "ran_dry", "ahead"),
    [
        (500, 0.01, 0.05, False, 50),  # nothing ended in the 50 ms before
        (100, 0.01, 0.01, False, 17),  # a burst, as if over more than that
        (500, 0.01, 0.05, True, 100),
        (50, 0.01, 60.0, True, 0),  # one a second: the next claim is over before anything ends
        (0, 0.01, 0.01, True, 0),
        (1000, 5.0, 5.0, True, 20),  # held up by a lock: what is claimed ahead waits for 50 ms, not for seconds
    ],
)
def test_as_much_is_ahead_as_ends_in_the_time_of_a_claim(
    ended: int, took_s: float, since_s: float, ran_dry: bool, ahead: int
) -> None:
    """Twice as much where that was not enough."""
    pace = Pace()
    pace.look(100.0, took_s=AHEAD_S, ran_dry=True)
    for _ in range(ended):
        pace.note_end()

    pace.look(100.0 + since_s, took_s=took_s, ran_dry=ran_dry)

    assert pace.ahead == ahead


def test_a_steady_pace_is_known_after_two_windows() -> None:
    """A thousand a second, and claims of 5 ms."""
    pace, now = Pace(), 100.0
    ahead = []
    for _ in range(60):
        for _ in range(5):
            pace.note_end()
        now += 0.005
        pace.look(now, took_s=0.005, ran_dry=False)
        ahead.append(pace.ahead)

    assert ahead[0] <= 1
    assert set(ahead[20:]) == {5}


def test_what_ends_together_twice_a_second_is_no_pace() -> None:
    """What was claimed ahead by such a moment would wait for the next one."""
    pace, now = Pace(), 100.0
    for _ in range(10):
        for _ in range(5):
            pace.note_end()
        for after_s in (0.008, 0.5):
            now += after_s
            pace.look(now, took_s=0.008, ran_dry=False)

            assert pace.ahead <= 1


def test_a_destination_at_rest_or_hanging_begins_anew() -> None:
    """What it managed an hour ago, or before it hung, says nothing about now."""
    for ends in ("rest", "hang"):
        destination = Destination("x", Limits(slots=2, first_slots=2, waiting=None))
        for _ in range(3):
            destination.enter()
        destination.call_began(1.0)
        destination.leave()
        destination.pace.look(1.0, took_s=AHEAD_S, ran_dry=True)
        assert destination.pace.ahead == 2

        if ends == "rest":
            destination.leave()
            destination.leave()
        else:
            destination.call_ended(9.0, began_at=1.0, answered=False)
            destination.note(worked=False, answered=False, now=9.0)

        assert destination.pace.ahead == 0


async def test_what_ends_during_a_claim_is_claimed_beyond_the_workers() -> None:
    """Else workers would wait for each claim."""
    bench = Bench(claim_ahead=4)
    slow_claims(bench, [0, 2, 0])
    bench.records(40)

    await bench.engine.claim_once()
    for _ in range(2):
        await bench.engine.work_once()
    await bench.engine.claim_once()
    await bench.engine.claim_once()

    # Four have ended in the time of two claims, and none was left: four ahead, less two that wait.
    assert [len(claim) for claim in bench.store.claims] == [4, 2, 4 + 4 - 2]


async def test_calls_are_never_more_than_a_destination_allows() -> None:
    """What was claimed ahead of its slot waits for it, holds no worker, and goes out as soon as one is free."""
    bench = Bench()
    bench.provider.limits = Limits(slots=2, first_slots=2, waiting=None)
    under_way, most, go_on = 0, 0, asyncio.Semaphore(0)

    async def call(_: Record) -> None:
        nonlocal under_way, most
        under_way += 1
        most = max(most, under_way)
        await go_on.acquire()
        under_way -= 1

    bench.provider.behave = call
    bench.records(8)
    bench.records(3, host="b.example")
    [destination] = [one for one in bench.deliverer.destinations.known.values() if one.name == "a.example"]
    destination.pace.ahead = 4
    loops = asyncio.create_task(bench.engine.run(6))
    await until_blocked()
    claimed_at_first = sum(len(claim) for claim in bench.store.claims)
    busy_at_first = destination.under_way
    for _ in range(11):
        go_on.release()
        await until_blocked()
    loops.cancel()
    await asyncio.wait([loops])

    assert (claimed_at_first, busy_at_first) == (2 + 2, 2)
    assert most == 4  # two for each of the two
    assert len(bench.sent) == 11


async def test_what_waits_for_its_slot_is_given_back_with_its_partition() -> None:
    """It was never begun, so it is pending again."""
    bench, never = Bench(), asyncio.Event()
    bench.provider.limits = Limits(slots=1, first_slots=1, waiting=None)

    async def hang(_: Record) -> None:
        await never.wait()

    bench.provider.behave = hang
    ids = bench.records(1)
    [destination] = bench.deliverer.destinations.known.values()
    await bench.engine.claim_once()
    destination.pace.ahead = 1
    ids += bench.records(1)
    worker = asyncio.create_task(bench.engine.work_once())
    await until_blocked()
    await bench.engine.claim_once()
    await bench.engine.work_once()
    leaving = asyncio.create_task(bench.engine.give_back([(NORMAL, 0)], timeout_s=0.2, cut_after_s=0.1))
    await until_blocked()
    await bench.engine.write_back_once()

    assert bench.store.released == [(ids[1], False)]
    never.set()
    await asyncio.wait([worker, leaving])


async def one_under_way_two_wait(bench: Bench, gate: asyncio.Event) -> tuple["asyncio.Task[None]", list[str]]:
    """A destination with one slot, a call under way until the gate opens, and two jobs claimed ahead, of two lanes."""
    bench.provider.limits = Limits(slots=1, first_slots=1, waiting=None)

    async def wait(_: Record) -> None:
        await gate.wait()

    bench.provider.behave = wait
    ids = bench.records(1)
    [destination] = bench.deliverer.destinations.known.values()
    await bench.engine.claim_once()
    worker = asyncio.create_task(bench.engine.work_once())
    await until_blocked()
    for topic, expires_in_s in ((HIGH, 5.0), (NORMAL, None)):
        destination.pace.ahead, bench.store.expires_in_s = 2, expires_in_s
        ids += bench.records(1, topic=topic)
        await bench.engine.claim_once()
        await bench.engine.work_once()
    assert (bench.sent, bench.engine.waiting_for_workers) == (ids[:1], 0)
    return worker, ids


async def test_one_that_expires_while_it_waits_for_its_slot_leaves_it_to_the_next() -> None:
    """No attempt of its own ends, which would let the next one out."""
    bench, gate = Bench(), asyncio.Event()
    worker, ids = await one_under_way_two_wait(bench, gate)

    bench.clock.now += 10
    gate.set()
    await worker
    await bench.work()

    assert bench.sent == [ids[0], ids[2]]


async def test_one_that_leaves_when_its_slot_has_come_free_leaves_it_to_the_next() -> None:
    """It had been let out, and no worker had taken it."""
    bench, gate = Bench(), asyncio.Event()
    worker, ids = await one_under_way_two_wait(bench, gate)

    gate.set()
    await worker
    await bench.engine.give_back([(HIGH, 0)], timeout_s=0)
    await bench.work()

    assert bench.sent == [ids[0], ids[2]]
