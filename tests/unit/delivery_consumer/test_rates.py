"""Endpoints with a rate: evenly spaced, no slot while they wait, none lost; and look-ups of those that are new."""

import asyncio
from collections.abc import Sequence
from itertools import pairwise

import pytest

from delivery_consumer.errors import TransientDeliveryError
from delivery_consumer.providers import FRESH_S, USABLE_S
from delivery_consumer.rates import Rate
from delivery_consumer.tenants import SOONEST_S
from shared.model import Outcome
from shared.records import Record
from tests.unit.delivery_consumer.fakes import NORMAL, Bench, running, until_blocked

SLOW = "https://slow.example/h"


def test_turns_are_evenly_spaced_and_none_is_far_away() -> None:
    """Four a second: now, then each quarter of a second, up to two seconds from now."""
    rate = Rate(4)

    turns = [rate.turn(10.0) for _ in range(11)]

    assert turns[:9] == [10 + number / 4 for number in range(9)]
    assert turns[9:] == [None, None]
    assert rate.turn(100.0) == 100.0


def test_a_rate_that_is_raised_holds_at_once() -> None:
    """Not after the turn that the slower one had planned."""
    rate = Rate(0.1)
    assert (rate.turn(10.0), rate.turn(10.5)) == (10.0, None)

    rate.per_s = 10

    assert [rate.turn(10.6) for _ in range(2)] == pytest.approx([10.6, 10.7])


def test_those_far_away_are_put_off_one_after_another() -> None:
    """At the same rate, behind what waits here."""
    rate = Rate(4)

    waits = [rate.put_off_s(10.0) for _ in range(8)]

    assert waits[0] > SOONEST_S
    assert {round(later - earlier, 6) for earlier, later in pairwise(waits)} == {0.25}


async def test_a_rate_holds_back_and_holds_no_slot_meanwhile() -> None:
    """Two a second: the first at once, the next half a second later; what is beyond two seconds is put off."""
    bench = Bench()
    bench.provider.rate = Rate(2)
    ids = bench.records(10, host="slow.example")
    bench.provider.rate = None
    (other,) = bench.records(host="fast.example")

    sent_at: dict[str, float] = {}

    async def note(record: Record) -> None:
        sent_at[record.id] = bench.clock.now

    bench.provider.behave = note
    (slow,) = [one for one in bench.deliverer.destinations.known.values() if one.name == "slow.example"]
    slots = []
    for _ in range(50):
        bench.lanes.let_go()
        await bench.all()
        slots.append(slow.in_use)
        bench.clock.now += 0.1

    assert [round(sent_at[id_] - 1000, 1) for id_ in ids[:5]] == [0, 0.5, 1.0, 1.5, 2.0]
    assert sent_at[other] == 1000
    assert list(bench.store.put_off_s) == ids[5:]
    assert set(slots) == {0}


@pytest.mark.parametrize(("per_s", "tries"), [(2.0, 1), (None, 3)])
async def test_a_turn_is_one_call(per_s: float | None, tries: int) -> None:
    """Quick repeats would be calls beyond the rate, of all times at a receiver that says it has enough."""
    bench = Bench()
    bench.provider.rate = Rate(per_s) if per_s else None

    async def refuse(_: Record) -> None:
        raise TransientDeliveryError("http_503", answered=True)

    bench.provider.behave = refuse
    bench.records(host="slow.example")

    await bench.all()

    assert [(ended.reason, ended.tries) for ended in bench.store.ended] == [("http_503", tries)]


async def test_what_is_put_off_for_its_rate_lets_its_key_go_on() -> None:
    """Which is then early for the claim, or put off itself: the order is PostgreSQL's to keep."""
    bench = Bench()
    bench.provider.rate = Rate(0.1)
    ids = bench.records(4, host="slow.example", ordering_key="k")

    await bench.all()
    await bench.all()

    assert bench.sent == ids[:1]
    assert list(bench.store.put_off_s) == ids[1:]
    assert bench.safe() == 4


async def test_the_engine_lets_go_by_itself() -> None:
    """A job whose turn has come goes on without a record or an end to wake it."""
    bench = Bench()
    bench.provider.rate = Rate(20)
    bench.records(4, host="slow.example")
    began_at = asyncio.get_running_loop().time()
    async with running(bench, workers=4):
        while len(bench.sent) < 4:
            bench.clock.now = 1000 + asyncio.get_running_loop().time() - began_at
            await asyncio.sleep(0.005)

    assert asyncio.get_running_loop().time() - began_at >= 0.145


async def test_what_waits_for_its_turn_leaves_with_its_partition() -> None:
    """Neither sent nor done: its next reader gets it, and its key is free."""
    bench = Bench()
    bench.provider.rate = Rate(1)
    bench.records(3, host="slow.example", ordering_key=None)
    await bench.engine.claim_once()
    await bench.work()
    await bench.engine.write_back_once()

    assert await bench.engine.give_back([(NORMAL, 0)], timeout_s=1) == {(NORMAL, 0): 1}
    assert bench.lanes.opens_in_s() is None


async def test_endpoints_are_looked_up_together_before_they_are_lined_up() -> None:
    """One question for all that were read; others are not held up by it."""
    bench = Bench()
    bench.provider.unknown = {"https://new.example/h", "https://newer.example/h"}
    first, second, third = (bench.records(host=host)[0] for host in ("new.example", "newer.example", "known.example"))

    await bench.engine.claim_once()
    assert bench.store.claims == [[third]]
    await bench.all()

    assert bench.provider.lookups == [[first, second]]
    assert sorted(bench.sent) == sorted([first, second, third])
    assert bench.safe() == 3


async def test_what_waits_to_be_looked_up_leaves_with_its_partition() -> None:
    """It is not done, and nothing of it is left behind."""
    bench = Bench()
    bench.provider.unknown = {"https://new.example/h"}
    bench.records(2, host="new.example", ordering_key="k")

    assert await bench.engine.give_back([(NORMAL, 0)], timeout_s=1) == {(NORMAL, 0): 0}
    assert await bench.engine.lookups.once() == 0


async def test_a_partition_that_leaves_during_a_look_up_takes_its_jobs_along() -> None:
    """The answer comes too late for them."""
    bench, answer = Bench(), asyncio.Event()
    bench.provider.unknown = {"https://new.example/h"}

    async def slow(_: object) -> None:
        await answer.wait()
        bench.provider.unknown = set()

    bench.provider.look_up = slow  # type: ignore[method-assign, assignment]
    bench.records(host="new.example")
    looking = asyncio.create_task(bench.engine.lookups.once())
    await until_blocked()
    going = asyncio.create_task(bench.engine.give_back([(NORMAL, 0)], timeout_s=5))
    await until_blocked()
    answer.set()

    assert await going == {(NORMAL, 0): 0}
    assert (await looking, await bench.engine.claim_once()) == (1, 0)


@pytest.mark.parametrize("known_for_s", [FRESH_S, FRESH_S - 0.1])
async def test_what_was_looked_up_long_ago_is_looked_up_again_at_the_claim(known_for_s: float) -> None:
    """In one question for all that is claimed together."""
    bench = Bench()
    bench.provider.known_for_s = known_for_s
    ids = bench.records(5)

    await bench.all()

    assert bench.provider.lookups == ([ids] if known_for_s == FRESH_S else [])
    assert bench.sent == ids


async def test_what_was_claimed_some_time_ago_is_looked_up_again_before_it_is_sent() -> None:
    """It had to wait for a worker, or the claim for PostgreSQL; the first one's answer is the others' too."""
    bench = Bench()
    ids = bench.records(3)
    await bench.engine.claim_once()
    bench.provider.known_for_s = USABLE_S
    bench.clock.now += USABLE_S - FRESH_S

    await bench.all()

    assert bench.provider.lookups == [ids[:1]]
    assert bench.sent == ids


async def test_what_was_forgotten_since_the_claim_is_looked_up_again() -> None:
    """Another tenant's endpoints may take its place: that costs a question, and no attempt."""
    bench = Bench()
    (id_,) = bench.records()
    await bench.engine.claim_once()
    bench.provider.forgotten = {"https://a.example/h"}

    await bench.all()

    assert bench.provider.lookups == [[id_]]
    assert [(ended.outcome, ended.tries) for ended in bench.store.ended] == [(Outcome.ACCEPTED, 1)]


async def test_nothing_is_sent_once_the_lease_is_over_that_a_look_up_outlasted() -> None:
    """Somebody else may have ended the attempt, and begun the next."""
    bench = Bench()
    bench.records()
    await bench.engine.claim_once()
    bench.provider.forgotten = {"https://a.example/h"}

    async def slow(_: Sequence[Record]) -> None:
        bench.clock.now += 100

    bench.provider.look_up = slow  # type: ignore[method-assign, assignment]
    await bench.all()

    assert bench.sent == []
    assert [ended.reason for ended in bench.store.ended] == ["lease_over"]


async def test_what_comes_during_a_look_up_stays_behind_what_came_before_it() -> None:
    """Read while another endpoint is asked for, it is lined up after those of its own that waited."""
    bench, answer = Bench(), asyncio.Event()
    bench.provider.unknown = {"https://new.example/h"}
    look_up = bench.provider.look_up

    async def slow(records: Sequence[Record]) -> None:
        await answer.wait()
        await look_up(records)

    bench.provider.look_up = slow  # type: ignore[method-assign]
    first = bench.records(host="new.example", ordering_key="k")
    looking = asyncio.create_task(bench.engine.lookups.once())
    await until_blocked()
    second = bench.records(host="new.example", ordering_key="k")
    answer.set()
    await looking
    bench.provider.unknown = {"https://newer.example/h"}
    answer.clear()
    bench.records(host="newer.example")
    looking = asyncio.create_task(bench.engine.lookups.once())
    await until_blocked()
    third = bench.records(host="new.example", ordering_key="k")
    answer.set()
    await looking
    await bench.all()

    assert [id_ for id_ in bench.sent if id_ in first + second + third] == first + second + third


async def test_what_does_not_open_is_not_the_destination_s_fault() -> None:
    """Nothing was asked of it, so its breaker stays closed and it has proved nothing."""
    bench = Bench()
    bench.provider.fault = TransientDeliveryError("secret_unreadable", retry_after_s=60)
    bench.records(30)

    await bench.all()

    assert {(ended.outcome, ended.reason, ended.tries) for ended in bench.store.ended} == {
        (Outcome.TRANSIENT, "secret_unreadable", 0)
    }
    assert bench.deliverer.destinations.open_breakers() == 0
    assert bench.sent == []
