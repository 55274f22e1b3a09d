"""The engine on fakes, a step at a time."""

import asyncio
from typing import Literal

import pytest

from delivery_consumer import engine, in_flight
from delivery_consumer.destinations import Limits
from delivery_consumer.work import Received
from shared.db.notifications import Ticket
from shared.model import Outcome, uuid7
from shared.records import Record
from tests.unit.delivery_consumer.fakes import HIGH, LEASE_S, NORMAL, Bench, running, until_blocked


async def test_a_record_is_claimed_sent_written_back_and_then_committed() -> None:
    """The offset moves only once the outcome is stored."""
    bench = Bench()
    (id_,) = bench.records()

    await bench.engine.claim_once()
    await bench.work()
    assert (bench.sent, bench.safe()) == ([id_], 0)
    await bench.engine.write_back_once()

    assert bench.safe() == 1
    (ended,) = bench.store.ended
    assert (str(ended.id), ended.outcome, ended.receipt, ended.tries) == (id_, Outcome.ACCEPTED, "http_200", 1)
    assert (ended.topic, ended.partition, ended.offset, ended.destination) == (NORMAL, 0, 0, "a.example")


async def test_what_cannot_be_claimed_is_done() -> None:
    """Duplicates, cancelled and expired notifications are passed over and their offsets committed."""
    bench = Bench()
    duplicate, cancelled, expired = str(uuid7()), str(uuid7()), str(uuid7())
    bench.store.refuse, bench.store.expired = {cancelled}, {expired}
    bench.engine.receive([bench.received(id_) for id_ in (duplicate, cancelled, expired, duplicate)])

    await bench.all()

    assert bench.sent == [duplicate]
    assert bench.safe() == 4


async def test_a_key_is_sent_in_order_one_at_a_time() -> None:
    """While a record of a key is under way the next one is not even claimed; other keys go on."""
    bench, gate, under_way = Bench(), asyncio.Event(), []

    async def wait(record: Record) -> None:
        under_way.append(record.id)
        if record.ordering_key == "a":
            await gate.wait()

    bench.provider.behave = wait
    first, second, third = bench.records(3, ordering_key="a")
    (other,) = bench.records(ordering_key="b")
    async with running(bench, workers=4):
        await until_blocked()
        assert (under_way, bench.store.claims) == ([first, other], [[first, other]])

        gate.set()
        await until_blocked()

    assert under_way == [first, other, second, third]


async def test_a_key_goes_on_when_the_outcome_is_stored() -> None:
    """I12: claimed before that, the next one of the key would come early; the slot is free at once."""
    bench = Bench()
    bench.provider.limits = Limits(slots=1, first_slots=1, waiting=100)
    first, second = bench.records(2, ordering_key="a")
    (other,) = bench.records()

    await bench.engine.claim_once()
    await bench.work()
    await bench.engine.claim_once()
    assert bench.store.claims == [[first], [other]]
    await bench.engine.write_back_once()
    await bench.all()

    assert bench.store.claims[2:] == [[second]]


async def test_a_key_with_a_long_queue_does_not_stop_its_topic() -> None:
    """I18: what exceeds its share is asked about out of turn, told that it is early, and left to PostgreSQL."""
    bench = Bench(in_flight=400, waiting=200)
    ids = bench.records(1000, ordering_key="a")
    (other,) = bench.records(host="b.example")
    bench.store.dropped = dict.fromkeys(ids[101:], "early")
    calls_before = list(bench.intake.calls)

    while await bench.engine.claim_once():
        pass
    assert (calls_before, bench.intake.calls[1:]) == ([("pause", NORMAL)], [("resume", NORMAL)])
    assert [id_ for claimed in bench.store.claims for id_ in claimed if id_ not in ids[101:]] == [ids[0], other]

    await bench.all()
    assert [id_ for id_ in bench.sent if id_ != other] == ids[:101]


@pytest.mark.parametrize("told", ["early", "suppressed"])
async def test_what_is_not_to_be_sent_now_is_passed_over(told: Literal["early", "suppressed"]) -> None:
    """Its offset goes on: PostgreSQL knows what becomes of it. So does its key, whose next one is asked about."""
    bench = Bench()
    first, second = bench.records(2, ordering_key="a")
    bench.store.dropped = {first: told}

    await bench.all()

    assert (bench.sent, bench.safe()) == ([second], 2)


async def test_the_high_lane_goes_first_and_the_normal_lane_has_a_reserved_share() -> None:
    """Of each five claimed one is the normal lane's, however many urgent records wait."""
    bench = Bench(claim_ahead=10)
    normal = bench.records(20)
    urgent = bench.records(20, topic=HIGH)

    await bench.engine.claim_once()

    assert bench.store.claims == [[*urgent[:4], normal[0], *urgent[4:8], normal[1]]]


async def test_no_more_is_claimed_than_workers_can_soon_begin() -> None:
    """I13: the rest is still pending, so a cancel wins, and a crash leaves it to others at once."""
    bench = Bench(claim_ahead=3)
    ids = bench.records(10)

    while await bench.engine.claim_once():
        pass
    await bench.engine.work_once()
    await bench.engine.claim_once()

    assert bench.store.claims == [ids[:3], ids[3:4]]


async def test_a_destination_that_hangs_has_no_more_claimed_than_its_slots() -> None:
    """What waits for a slot is not claimed: it can be cancelled, and expires in time."""
    bench, never = Bench(), asyncio.Event()
    bench.provider.limits = Limits(slots=2, first_slots=2, waiting=100)
    bench.provider.behave = lambda _: never.wait()  # type: ignore[assignment, return-value]
    ids = bench.records(10)

    async with running(bench, workers=5):
        await until_blocked()

    assert bench.store.claims == [ids[:2]]


@pytest.mark.parametrize(("passed_s", "why"), [(LEASE_S - 0.5, "lease"), (10.5, "expiry")])
async def test_nothing_begins_after_its_lease_or_its_expiry(passed_s: float, why: str) -> None:
    """A claimed attempt that waited too long is given back and claimed anew, which tells what has expired."""
    bench = Bench()
    bench.store.expires_in_s = 10 if why == "expiry" else None
    (id_,) = bench.records()
    await bench.engine.claim_once()

    bench.clock.now += passed_s
    await bench.work()
    await bench.engine.write_back_once()
    assert (bench.sent, bench.safe(), bench.store.released) == ([], 0, [(id_, False)])
    bench.store.refuse = {id_} if why == "expiry" else set()
    await bench.all()

    assert bench.sent == ([] if why == "expiry" else [id_])
    assert bench.safe() == 1


async def test_a_job_that_is_given_back_keeps_its_place_in_its_key() -> None:
    """I12: nothing of a key goes on before a job whose lease was over is claimed again and has ended."""
    bench = Bench()
    ids = bench.records(3, ordering_key="a")
    await bench.engine.claim_once()

    bench.clock.now += LEASE_S
    await bench.work()
    assert await bench.engine.claim_once() == 0
    await bench.engine.write_back_once()
    await bench.all()

    assert bench.store.released == [(ids[0], False)]
    assert bench.sent == ids
    assert bench.safe() == 3


async def test_what_is_given_back_is_claimed_before_what_came_later() -> None:
    """Without a key too: it waited longest."""
    bench = Bench(claim_ahead=1)
    bench.provider.limits = Limits(slots=1, first_slots=1, waiting=100)
    ids = bench.records(3)
    await bench.engine.claim_once()

    bench.clock.now += LEASE_S
    await bench.work()
    await bench.engine.write_back_once()
    await bench.all()

    assert bench.sent == ids


async def test_a_job_given_back_leaves_with_its_partition() -> None:
    """It is pending, its offset is not committed, and whoever reads it next gets it."""
    bench = Bench()
    bench.records(2, ordering_key="a")
    await bench.engine.claim_once()
    bench.clock.now += LEASE_S
    await bench.work()
    going = asyncio.create_task(bench.engine.give_back([(NORMAL, 0)], timeout_s=5))
    await until_blocked()

    await bench.engine.write_back_once()

    assert await going == {(NORMAL, 0): 0}
    assert await bench.engine.claim_once() == 0


async def test_a_renewal_that_comes_late_does_not_hurt_a_new_claim() -> None:
    """An answer about a lease that was given back meanwhile says nothing about the one after it."""
    bench, answer = Bench(), asyncio.Event()
    (id_,) = bench.records()
    await bench.engine.claim_once()
    bench.clock.now += LEASE_S

    async def late(_: object) -> tuple[set[Ticket], float]:
        await answer.wait()
        return set(), bench.clock.now

    bench.store.renew = late  # type: ignore[method-assign, assignment]
    renewal = asyncio.create_task(bench.engine.renew_once())
    await until_blocked()
    await bench.work()
    await bench.engine.write_back_once()
    await bench.engine.claim_once()
    answer.set()
    await renewal
    await bench.all()
    await bench.work()

    assert bench.sent == [id_]


async def test_leases_are_renewed_when_half_is_over() -> None:
    """A job that waits longer than its lease is still ours, and is sent."""
    bench = Bench()
    (id_,) = bench.records()
    await bench.engine.claim_once()
    assert await bench.engine.renew_once() == 0

    bench.clock.now += LEASE_S * 0.6
    assert await bench.engine.renew_once() == 1
    bench.clock.now += LEASE_S * 0.6
    await bench.work()

    assert bench.sent == [id_]


async def test_an_attempt_taken_over_is_not_sent() -> None:
    """Somebody else has ended it: it is dropped."""
    bench = Bench()
    bench.records()
    await bench.engine.claim_once()
    bench.store.taken_over = True

    bench.clock.now += LEASE_S * 0.6
    await bench.engine.renew_once()
    await bench.work()
    await bench.engine.write_back_once()

    assert bench.sent == []
    assert bench.safe() == 1


async def test_undecodable_records_do_no_harm() -> None:
    """They are set aside, their neighbours sent, and all offsets committed."""
    bench = Bench()
    one, two = str(uuid7()), str(uuid7())
    bench.engine.receive([bench.received(one), Received(NORMAL, 0, 1, None, b"{", None)])
    bench._offsets[NORMAL] = 1
    bench.engine.receive([bench.received(two)])

    await bench.all()
    assert bench.safe() == 1
    await bench.engine.aside.once()

    assert bench.sent == [one, two]
    assert [(received.value, reason) for received, reason in bench.poison.aside] == [(b"{", "not_json")]
    assert bench.safe() == 3


async def test_a_topic_is_paused_at_its_limit_and_resumed_at_half() -> None:
    """Only the topic that is full."""
    bench = Bench(in_flight=10)
    bench.records(4)
    bench.records(12, topic=HIGH)
    assert bench.intake.calls == [("pause", HIGH)]

    await bench.all()

    assert bench.intake.calls == [("pause", HIGH), ("resume", HIGH)]


async def test_a_topic_is_paused_for_its_bytes_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few large records fill it as well; undecodable ones count."""
    monkeypatch.setattr(in_flight, "MAX_BYTES", 100_000)
    bench = Bench(in_flight=1000)
    bench.records(4, payload={"x": "y" * 20_000})
    assert bench.intake.calls == []
    bench.engine.receive([Received(NORMAL, 0, 4, None, b"{" * 20_000, None)])
    assert bench.intake.calls == [("pause", NORMAL)]

    await bench.engine.aside.once()
    assert bench.intake.calls == [("pause", NORMAL)]
    await bench.all()

    assert bench.intake.calls == [("pause", NORMAL), ("resume", NORMAL)]


async def test_giving_partitions_back_ends_what_is_under_way_and_releases_the_rest() -> None:
    """Claimed and not begun is released without a new record; unclaimed is left; the offset stops before both."""
    bench, gate = Bench(claim_ahead=3), asyncio.Event()

    async def wait(_: Record) -> None:
        await gate.wait()

    bench.provider.behave = wait
    (begun,) = bench.records()
    claimed = bench.records(2)
    await bench.engine.claim_once()
    bench.records(3)
    loops = asyncio.create_task(bench.engine.run(1))
    await asyncio.sleep(0)
    await until_blocked()
    going = asyncio.create_task(bench.engine.give_back([(NORMAL, 0)], timeout_s=5))
    await until_blocked()
    assert not going.done()
    gate.set()

    assert await going == {(NORMAL, 0): 1}

    assert bench.sent == [begun]
    assert {id_ for id_, _ in bench.store.released} >= set(claimed)
    assert {republish for _, republish in bench.store.released} == {False}
    assert bench.engine.safe_offsets() == {}
    loops.cancel()
    await asyncio.wait([loops])


async def test_lost_partitions_have_their_records_published_again() -> None:
    """Another consumer may be beyond their offsets already."""
    bench = Bench()
    ids = bench.records(3)
    await bench.engine.claim_once()

    await bench.engine.give_back([(NORMAL, 0)], lost=True, timeout_s=0)
    await bench.engine.write_back_once()

    assert sorted(bench.store.released) == sorted((id_, True) for id_ in ids)
    assert bench.sent == []


async def test_a_call_that_outlasts_the_drain_is_cut_off_as_unknown() -> None:
    """The process ends in time; what was under way is written back for what it is."""
    bench = Bench()

    async def hang(_: Record) -> None:
        await asyncio.Event().wait()

    bench.provider.behave = hang
    bench.records()
    loops = asyncio.create_task(bench.engine.run(2))
    await until_blocked()

    offsets = await bench.engine.give_back([(NORMAL, 0)], timeout_s=5, cut_after_s=0.01)

    assert offsets == {(NORMAL, 0): 1}
    assert [(ended.outcome, ended.reason) for ended in bench.store.ended] == [(Outcome.UNKNOWN, "stopped")]
    assert not loops.done()
    loops.cancel()
    await asyncio.wait([loops])


@pytest.mark.parametrize("key", [None, "a"])
async def test_a_claim_whose_answer_was_lost_is_given_back_and_made_again(key: str | None) -> None:
    """What an earlier sending of the claim may have begun is sent in its turn; what we hold is not given back."""
    bench = Bench()
    first, second, third = bench.records(3, ordering_key=key)
    bench.store.unheard = {first}

    await bench.engine.claim_once()
    assert bench.store.released == [(first, False)]
    await bench.all()

    assert sorted(bench.sent) == sorted([first, second, third])
    assert key is None or bench.sent == [first, second, third]
    assert bench.safe() == 3


async def test_a_cancelled_one_is_passed_over_although_the_answer_was_lost() -> None:
    """Claimed again it is not pending, and this time for certain not by our own doing."""
    bench = Bench()
    cancelled, unheard = bench.records(2)
    bench.store.refuse, bench.store.unheard = {cancelled}, {unheard}

    await bench.all()

    assert bench.sent == [unheard]
    assert bench.safe() == 2


async def test_a_row_that_somebody_holds_is_asked_for_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its key waits, its slot does not, nobody else is held up, and its offset is not committed before it ends."""
    monkeypatch.setattr(engine, "BUSY_PAUSE_S", 0.0)
    bench = Bench()
    bench.provider.limits = Limits(slots=1, first_slots=1, waiting=100)
    held, behind = bench.records(2, ordering_key="a")
    (other,) = bench.records()
    bench.store.busy = {held}

    for _ in range(5):
        await bench.engine.claim_once()
        await bench.work()
        await bench.engine.write_back_once()
        await until_blocked()
    assert (bench.sent, bench.safe()) == ([other], 0)
    bench.store.busy = set()
    await bench.all()

    assert bench.sent == [other, held, behind]
    assert bench.safe() == 3


async def test_a_busy_row_of_a_claim_that_was_repeated_may_be_our_own() -> None:
    """The lost claim was still under way when it was repeated: what it began is given back and claimed anew."""
    bench = Bench()
    (id_,) = bench.records()
    bench.store.unheard, bench.store.busy = {id_}, {id_}
    await bench.engine.claim_once()
    await asyncio.sleep(engine.BUSY_PAUSE_S + 0.05)

    bench.store.busy = set()
    await bench.all()

    assert bench.store.released == [(id_, False)]
    assert bench.sent == [id_]


async def test_what_rests_leaves_with_its_partition() -> None:
    """Its record is read again by the next owner."""
    bench = Bench()
    (id_,) = bench.records()
    bench.store.busy = {id_}
    await bench.engine.claim_once()

    assert await bench.engine.give_back([(NORMAL, 0)], timeout_s=1) == {(NORMAL, 0): 0}

    assert await bench.engine.claim_once() == 0
    assert bench.store.released == []
