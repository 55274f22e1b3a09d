"""What each tenant may hold: who wants little gets it, others as much as each other, and something stays free."""

import asyncio
import random
from collections import Counter, deque
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_consumer.destinations import Destinations, Limits
from delivery_consumer.errors import UnknownOutcomeError
from delivery_consumer.tenants import GREED, LATEST_S, SOONEST_S, Line, Tenant, Tenants
from shared.model import uuid7
from shared.records import Record
from tests.unit.delivery_consumer.fakes import NORMAL, Bench, running, until_blocked


def among_several(**options: int) -> Bench:
    """A bench where there is more than one tenant."""
    bench = Bench(**options)
    bench.tenants.several = True
    return bench


@given(
    wants=st.lists(st.integers(0, 300), min_size=1, max_size=12),
    pool=st.integers(40, 400),
    seed=st.integers(0, 2**32),
)
def test_shares_are_max_min(wants: list[int], pool: int, seed: int) -> None:
    """After a while, in whatever order they ask: all of what is wanted, or as much as anybody has."""
    tenants, rng = Tenants(), random.Random(seed)
    tenants.several = True
    held = [0] * len(wants)
    for _ in range(400):
        for one in rng.sample(range(len(wants)), len(wants)):
            held[one] -= held[one] > 0  # something ends
            while held[one] < wants[one] and tenants.may_have(held[one], pool - sum(held)):
                held[one] += 1

    free = pool - sum(held)
    greedy = [have for have, want in zip(held, wants, strict=True) if have < want]
    assert free >= 0
    if greedy:
        assert max(greedy) - min(greedy) <= 2 * GREED
        assert max(held) <= max(greedy) + 2 * GREED
        assert abs(GREED * free - max(greedy)) <= 3 * GREED
    else:
        assert held == wants


@pytest.mark.parametrize(("greedy", "each"), [(1, 200), (2, 120), (3, 86), (4, 67)])
def test_something_is_left_for_whoever_comes_next(greedy: int, each: int) -> None:
    """One alone in sight has two thirds, two have two fifths each."""
    tenants = Tenants()
    tenants.several = True
    held = [0] * greedy

    for _ in range(300):
        for one in range(greedy):
            held[one] += tenants.may_have(held[one], 300 - sum(held))

    assert all(abs(have - each) <= 2 for have in held)
    assert tenants.may_have(0, 300 - sum(held))


def test_one_tenant_alone_may_have_everything() -> None:
    """Nothing is divided where there is nobody to divide it with."""
    tenants = Tenants()

    assert tenants.may_have(10_000, 0)


async def test_claims_are_divided_and_tenants_take_turns() -> None:
    """What was read first does not go first: each tenant's first, then each one's second."""
    bench = among_several(claim_ahead=30)
    flood = {tenant: bench.records(200, tenant=tenant, host=f"{tenant}.example") for tenant in "ab"}
    few = bench.records(3, tenant="c", host="c.example")

    await bench.engine.claim_once()

    (claimed,) = bench.store.claims
    assert set(few) <= set(claimed[:9])
    assert Counter("a" if id_ in flood["a"] else "b" if id_ in flood["b"] else "c" for id_ in claimed) == {
        "a": 11,
        "b": 11,
        "c": 3,
    }
    assert [id_ for id_ in claimed if id_ in flood["a"]] == flood["a"][:11]


async def test_who_holds_its_slots_for_long_does_not_gather_what_ends_together() -> None:
    """Row 67: another's attempts end at once, again and again; those that hang have no part in each moment."""
    bench = among_several(claim_ahead=20, in_flight=10_000)
    hanging, quick = asyncio.Event(), asyncio.Condition()

    async def behave(record: Record) -> None:
        if record.tenant_id == "hangs":
            await hanging.wait()
        else:
            async with quick:
                await quick.wait()

    bench.provider.behave = behave
    async with running(bench, workers=20):
        for number in range(100):
            bench.records(1, tenant="quick", host=f"{number % 40}.q.example")
            bench.records(1, tenant="hangs", host=f"{number}.h.example")
        await until_blocked()
        for _ in range(6):
            bench.clock.now += 0.5
            async with quick:
                quick.notify_all()
            await until_blocked()
        held = Counter(tenant.id for tenant in map(bench.tenants.get, ("quick", "hangs")) for _ in range(tenant.busy))
        (late,) = bench.records(tenant="calm", host="c.example")
        await until_blocked()
        hanging.set()

    assert held["hangs"] <= 10
    assert late in bench.sent


async def test_up_to_an_even_share_whatever_is_free_may_be_claimed() -> None:
    """However much others hold already: who keeps to its share does not wait for theirs to end."""
    bench = among_several(claim_ahead=20)
    never = asyncio.Event()
    bench.provider.behave = lambda _: never.wait()  # type: ignore[assignment, return-value]
    async with running(bench, workers=20):
        for number in range(20):
            bench.records(1, tenant="a", host=f"{number}.a.example")
        await until_blocked()
        ids = [bench.records(tenant="b", host=f"{number}.b.example")[0] for number in range(8)]
        await until_blocked()

    assert sum(id_ in bench.sent for id_ in ids) == 6


async def test_a_lone_tenant_is_claimed_for_as_before() -> None:
    """The order read, and all that workers can soon begin."""
    bench = Bench(claim_ahead=30)
    ids = bench.records(40)

    await bench.engine.claim_once()

    assert bench.store.claims == [ids[:30]]


async def test_the_high_lane_of_one_tenant_does_not_pass_another_tenant() -> None:
    """Who floods with urgent ones is in its own way alone."""
    bench = among_several(claim_ahead=12)
    bench.records(100, tenant="a", topic="notifications.webhook.high")
    other = bench.records(4, tenant="b")

    await bench.engine.claim_once()

    assert set(other) <= set(bench.store.claims[0])


async def test_slots_for_the_unproven_are_divided() -> None:
    """Row 67: who names a thousand endpoints that never answer leaves room to try the new one of another."""
    bench = among_several(unproven_slots=9, in_flight=10_000)
    bench.provider.limits = Limits(slots=5, first_slots=1, waiting=200)
    bench.provider.behave = lambda _: asyncio.Event().wait()  # type: ignore[assignment, return-value]
    async with running(bench, workers=50):
        for number in range(1000):
            bench.records(1, tenant="a", host=f"{number}.a.example")
        await until_blocked()
        first = sum(map(len, bench.store.claims))
        (late,) = bench.records(tenant="b", host="b.example")
        await until_blocked()

    assert first == 6
    assert late in bench.sent


async def test_the_waiting_room_is_divided() -> None:
    """Jobs for what is silent end as busy at a tenant's share, not at that of all."""
    bench = among_several(waiting=30)
    bench.provider.limits = Limits(slots=1, first_slots=1, waiting=1000)
    bench.provider.behave = lambda _: asyncio.Event().wait()  # type: ignore[assignment, return-value]
    async with running(bench, workers=50):
        for tenant in "ab":
            bench.records(1, tenant=tenant, host=f"{tenant}.example")
        await until_blocked()
        bench.clock.now += 2
        for tenant in "ab":
            bench.records(100, tenant=tenant, host=f"{tenant}.example")
        waiting = {one.tenant.id: bench.lanes.waiting_for(one) for one in bench.deliverer.destinations.known.values()}

    assert waiting == {"a": 20, "b": 7}


async def test_places_behind_a_key_are_divided() -> None:
    """What exceeds a tenant's share is asked about out of turn; another tenant's key still has a queue."""
    bench = among_several(waiting=60, in_flight=10_000)
    bench.records(100, tenant="a", ordering_key="k")
    bench.records(3, tenant="b", ordering_key="k")

    assert [bench.tenants.get(tenant).behind for tenant in "ab"] == [20, 2]


async def test_what_fails_for_one_tenant_is_open_to_another() -> None:
    """One origin, two tenants: breaker and slots are those of each."""
    bench = Bench()

    async def fail(record: Record) -> None:
        if record.tenant_id == "a":
            raise UnknownOutcomeError("answer_timeout")

    bench.provider.behave = fail
    bench.records(20, tenant="a")
    await bench.all()
    (other,) = bench.records(tenant="b")
    await bench.all()

    breakers = {one.tenant.id: one.breaker.closed for one in bench.deliverer.destinations.known.values()}
    assert breakers == {"a": False, "b": True}
    assert bench.sent[-1] == other


async def test_a_shared_destination_is_one_and_tenants_take_turns_at_it() -> None:
    """Our own mail host: who sends ten thousand mails does not stand in front of who sends one."""
    bench = among_several()
    bench.provider.limits = Limits(slots=2, first_slots=2, waiting=None, shared=True)
    flood = bench.records(50, tenant="a")
    few = bench.records(2, tenant="b")

    await bench.all()

    assert [one.tenant.id for one in bench.deliverer.destinations.known.values()] == [""]
    assert bench.sent[:6] == [*flood[:2], flood[2], few[0], flood[3], few[1]]


async def test_slots_that_all_share_are_not_held_by_a_tenant_that_may_claim_nothing() -> None:
    """All that one may have is under way at what hangs: its mails do not keep the mail host from another's."""
    bench = among_several(claim_ahead=12)

    async def hang(record: Record) -> None:
        if "hangs" in record.recipient:
            await asyncio.Event().wait()

    bench.provider.behave = hang
    async with running(bench, workers=50):
        bench.records(100, tenant="a", host="hangs.example")
        await until_blocked()
        bench.provider.limits = Limits(slots=2, first_slots=2, waiting=None, shared=True)
        mails = bench.records(4, tenant="a", host="mail.example")
        (other,) = bench.records(tenant="b", host="mail.example")
        for _ in range(10):
            await until_blocked()

    assert {*mails, other} <= set(bench.sent)


async def test_those_who_wait_to_try_a_new_destination_take_turns() -> None:
    """More tenants than slots: whoever has had one does not have the next before all others."""
    bench = among_several(unproven_slots=4, in_flight=10_000)
    bench.provider.limits = Limits(slots=5, first_slots=1, waiting=200)
    calls: deque[asyncio.Future[None]] = deque()
    tried = Counter[str]()

    async def hang(record: Record) -> None:
        tried[record.tenant_id] += 1
        calls.append(asyncio.get_running_loop().create_future())
        await calls[-1]
        raise UnknownOutcomeError("answer_timeout")

    bench.provider.behave = hang
    async with running(bench, workers=50):
        for tenant in "abcdefghij":
            for number in range(30):
                bench.records(tenant=tenant, host=f"{number}.{tenant}.example")
        for _ in range(60):
            for _ in range(3):
                await until_blocked()
            calls.popleft().set_result(None)

    assert (len(tried), min(tried.values()) >= 5) == (10, True), tried


async def test_what_exceeds_a_tenant_s_share_of_what_is_read_is_put_off() -> None:
    """Its notification stays pending and comes back; its offset goes on; the topic is read on for others."""
    bench = among_several(in_flight=300, waiting=1000)
    bench.provider.limits = Limits(slots=1, first_slots=1, waiting=1000)
    flood = bench.records(1000, tenant="a")
    assert bench.tenants.get("a").in_hand == 1000  # until PostgreSQL has them

    while await bench.engine.put_off.once():
        pass
    (late,) = bench.records(tenant="b", host="b.example")
    await bench.engine.claim_once()

    assert bench.tenants.get("a").in_hand == 199
    assert list(bench.store.put_off_s) == flood[199:]
    assert late in bench.store.claims[0]
    assert bench.intake.calls == [("pause", NORMAL), ("resume", NORMAL)]


async def test_where_all_have_a_backlog_nothing_is_put_off() -> None:
    """It would only be moved about: they come as they come."""
    bench = among_several(in_flight=320, waiting=10_000)
    for number in range(40):
        bench.records(10, tenant=str(number))

    assert (await bench.engine.put_off.once(), bench.intake.calls) == (0, [("pause", NORMAL)])


async def test_large_records_count_for_what_they_weigh(monkeypatch: pytest.MonkeyPatch) -> None:
    """A few of them take a tenant's share as well as many small ones."""
    monkeypatch.setattr("delivery_consumer.in_flight.MAX_BYTES", 900_000)
    bench = among_several(in_flight=1000)

    bench.records(30, tenant="a", payload={"x": "y" * 30_000})
    await bench.engine.put_off.once()

    assert len(bench.store.put_off_s) == 11


async def test_what_is_put_off_leaves_with_its_partition() -> None:
    """Not stored yet, it is not done: its next reader gets it."""
    bench = among_several(in_flight=30)
    bench.records(100, tenant="a")

    going = asyncio.create_task(bench.engine.give_back([(NORMAL, 0)], timeout_s=1))

    assert await going == {(NORMAL, 0): 0}
    assert await bench.engine.put_off.once() == 0
    assert bench.tenants.get("a").in_hand == 0


def test_those_put_off_come_back_as_fast_as_others_end() -> None:
    """One after another, never sooner than PostgreSQL is worth asking, never later than ten minutes."""
    line = Line()

    waits = [line.join(1000.0, per_s=10) for _ in range(100)]

    assert waits[0] == pytest.approx(SOONEST_S + 0.1)
    assert waits[-1] == pytest.approx(SOONEST_S + 10)


def test_those_for_whom_the_line_is_too_long_do_not_come_back_together() -> None:
    """A hundred thousand for one that takes ten a second: the first come in turn, the others spread, none too late."""
    line = Line()

    waits = [line.join(1000.0, per_s=10) for _ in range(100_000)]

    in_turn, spread = waits[:5_980], waits[5_980:]
    assert in_turn[-1] == pytest.approx(LATEST_S)
    assert max(Counter(int(wait_s) for wait_s in in_turn).values()) <= 11
    assert (min(spread) >= LATEST_S / 2, max(spread) <= LATEST_S) == (True, True)
    fair = len(spread) / (LATEST_S / 2)
    assert max(Counter(int(wait_s) for wait_s in spread).values()) <= 1.1 * fair


def test_the_line_goes_by_what_ended_of_late() -> None:
    """A tenant whose calls take long comes back later than one whose calls do not."""
    fast, slow = Tenant("fast"), Tenant("slow")
    for second in range(10):
        for tenant, ends in ((fast, 100), (slow, 2)):
            tenant.put_off_s(float(second))
            tenant.served += ends

    steps = {tenant.id: -tenant.put_off_s(10.0) + tenant.put_off_s(10.0) for tenant in (fast, slow)}
    assert steps["fast"] == pytest.approx(1 / 125, rel=0.01)
    assert steps["slow"] == pytest.approx(1 / 2.5, rel=0.3)


def test_who_names_many_destinations_forgets_its_own() -> None:
    """What another tenant's destination has proved is not forgotten for it."""
    tenants = Tenants()
    tenants.several = True
    destinations, one, other = Destinations(tenants, keep=30), Tenant("one"), Tenant("other")
    limits = Limits(slots=1, first_slots=1, waiting=1)
    kept = destinations.get(other, "kept", limits)

    for number in range(1000):
        destinations.get(one, str(number), limits)

    assert destinations.get(other, "kept", limits) is kept
    assert (one.destinations, other.destinations) == (20, 1)


def test_idle_tenants_are_forgotten_in_time() -> None:
    """What is kept is bounded; one with something in hand stays."""
    tenants = Tenants(keep=3)
    used = tenants.get("used")
    used.in_hand += 1

    for number in range(20):
        tenants.get(str(number))

    assert tenants.get("used") is used
    assert len(tenants._known) <= 4


class Story:
    """A bench with Kafka's topic and outbox_due around it, and receivers that take their time; a tick is 0.1 s."""

    def __init__(self) -> None:
        self.bench = among_several(in_flight=400, unproven_slots=20, claim_ahead=40, waiting=200)
        self.bench.provider.limits = Limits(slots=10, first_slots=1, waiting=50)
        self.bench.provider.behave = self._behave
        self.whose: dict[str, tuple[str, str]] = {}  # tenant and host
        self.published_at: dict[str, float] = {}
        self.sent_at: dict[str, float] = {}
        self.back_at: dict[str, float] = {}
        self._topic: deque[str] = deque()
        self._ends_at: dict[asyncio.Future[None], float] = {}

    async def _behave(self, record: Record) -> None:
        now = self.bench.clock.now
        self.sent_at.setdefault(record.id, now)
        answer: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._ends_at[answer] = now + {"hangs": 15.0, "floods": 0.5, "calm": 0.02}[record.tenant_id]
        await answer
        if record.tenant_id == "hangs":
            raise UnknownOutcomeError("answer_timeout")

    def publish(self, tenant: str, hosts: Sequence[str]) -> None:
        for host in hosts:
            id_ = str(uuid7())
            self.whose[id_], self.published_at[id_] = (tenant, host), self.bench.clock.now
            self._topic.append(id_)

    async def tick(self) -> None:
        self.bench.clock.now += 0.1
        now, store = self.bench.clock.now, self.bench.store
        for answer in [answer for answer, at in self._ends_at.items() if at <= now]:
            del self._ends_at[answer]
            answer.set_result(None)
        self.back_at |= {id_: now + delay_s for id_, delay_s in store.put_off_s.items()}
        store.put_off_s.clear()
        for id_ in [id_ for id_, at in self.back_at.items() if at <= now]:
            del self.back_at[id_]
            self._topic.append(id_)
        for _ in range(3):
            self._read()
            await until_blocked()

    def _read(self) -> None:
        """As the pump does: in order, and nothing while the topic is paused."""
        while self._topic and self.bench.intake.calls[-1:] != [("pause", NORMAL)]:
            ids = [self._topic.popleft() for _ in range(min(50, len(self._topic)))]
            whose = [(id_, *self.whose[id_]) for id_ in ids]
            self.bench.engine.receive([self.bench.received(id_, tenant=one, host=host) for id_, one, host in whose])

    def waits_s(self, tenant: str) -> list[float]:
        """From the outbox to the receiver, of all that was published."""
        of_it = [id_ for id_, (one, _) in self.whose.items() if one == tenant]
        return sorted(self.sent_at.get(id_, float("inf")) - self.published_at[id_] for id_ in of_it)


async def test_row_67_whoever_floods_or_points_at_what_hangs_slows_down_itself_alone() -> None:
    """A minute: one tenant points at 10,000 endpoints that hang, one floods, one sends a little of everything.

    The third is sent within two tenths of a second, all of it. The others' notifications are put off, and come back.
    """
    story, rng = Story(), random.Random(1)
    async with running(story.bench, workers=40):
        for tick in range(600):
            if tick < 400:
                story.publish("hangs", [f"{25 * tick + number}.hangs.example" for number in range(25)])
                story.publish("floods", [f"{number % 5}.floods.example" for number in range(30)])
            story.publish("calm", [f"{rng.randrange(20)}.calm.example" for _ in range(2)])
            await story.tick()

    waits = story.waits_s("calm")
    assert waits[int(0.99 * len(waits))] <= 0.2
    assert waits[-1] <= 1
    assert len({host for tenant, host in story.whose.values() if tenant == "hangs"}) == 10_000
    begun = Counter(story.whose[id_][0] for id_ in story.sent_at)
    assert begun["floods"] > 1_400
    assert begun["hangs"] > 30
    assert {story.whose[id_][0] for id_ in story.back_at} == {"hangs", "floods"}
