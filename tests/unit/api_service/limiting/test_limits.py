"""Who is limited by what, and what its answers say."""

import re
from collections import Counter
from dataclasses import replace

import pytest

from api_service.callers import ANYBODY, Caller, CallerKind, Scope
from api_service.limiting import policies
from api_service.limiting.limits import Limits
from api_service.limiting.memory import Memory
from api_service.limiting.policies import Texts
from api_service.metrics import RATE_LIMITED
from api_service.problems import Problem

KEY = Caller("acme", CallerKind.KEY, "k1", "key", frozenset({Scope.SEND}))
USER = Caller("acme", CallerKind.USER, "u1", "ada", frozenset({Scope.SEND, Scope.READ}))
ADMIN = replace(USER, id="u2", scopes=frozenset(Scope))
WIDE = Texts(tenants="1000000/second")


class Clock:
    """An instant that is set."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


def made(clock: Clock, texts: Texts = WIDE) -> Limits:
    """Limits on a memory of their own."""
    return Limits(texts, Memory(), clock=clock)


def admitted(limits: Limits, caller: Caller, times: int, *, is_action: bool = False) -> int:
    """How many of so many requests are admitted."""
    count = 0
    for _ in range(times):
        try:
            limits.admit(caller, is_action=is_action)
        except Problem:
            continue
        count += 1
    return count


def refusal(limits: Limits, caller: Caller, *, is_action: bool = False) -> Problem:
    """Why the next one is not."""
    with pytest.raises(Problem) as caught:
        limits.admit(caller, is_action=is_action)
    return caught.value


def test_people_have_three_tiers(clock: Clock) -> None:
    """3 in a second, 20 in ten, 100 in a minute: each holds where the shorter ones let more through."""
    limits = made(clock)

    counts: Counter[int] = Counter()
    for _ in range(60_000):
        counts[int(clock.now)] += admitted(limits, USER, 1)
        clock.now += 0.01

    for seconds, amount in ((1, 3), (10, 20), (60, 100)):
        windows: Counter[int] = Counter()
        for second, count in counts.items():
            windows[second // seconds] += count
        assert max(windows.values()) == amount
    assert 950 <= counts.total() <= 1100  # in ten minutes


def test_admins_keys_and_tenants_are_counted_by_their_own(clock: Clock) -> None:
    """Each to the figure of the settings."""
    limits = made(clock, Texts(keys="7/second", tenants="9/second", admins="5/second"))

    assert admitted(limits, ADMIN, 50) == 5
    assert admitted(limits, KEY, 50) == 4  # the tenant's five are gone
    assert refusal(limits, KEY).extra["violated-policies"] == ["tenant-1s"]
    assert admitted(limits, replace(KEY, tenant_id="other", id="k2"), 50) == 7


def test_a_key_may_have_limits_of_its_own(clock: Clock) -> None:
    """Faulty ones are those of the settings."""
    limits = made(clock, replace(WIDE, keys="4/second"))

    assert admitted(limits, replace(KEY, id="a", limits="2/second;1000000/day"), 50) == 2
    assert admitted(limits, replace(KEY, id="b", limits="500/second"), 600) == 500
    assert admitted(limits, replace(KEY, id="c", limits="nonsense"), 50) == 4


def test_an_answer_says_what_is_left(clock: Clock) -> None:
    """Of the window that has least; RateLimit-Policy lists all of them."""
    limits = made(clock, replace(WIDE, keys="3/second;5/minute"))

    answers = [dict(limits.admit(KEY)) for _ in range(2)]

    assert answers[0] == {
        "RateLimit-Policy": '"key-1s";q=3;w=1, "key-60s";q=5;w=60, "tenant-1s";q=1000000;w=1',
        "RateLimit": '"key-1s";r=2;t=1',
        "X-RateLimit-Limit": "3",
        "X-RateLimit-Remaining": "2",
        "X-RateLimit-Reset": "1700000001",
    }
    assert answers[1]["RateLimit"] == '"key-1s";r=1;t=1'


def test_a_refusal_says_when_to_come_back(clock: Clock) -> None:
    """And who waits as long is served."""
    limits = made(clock, replace(WIDE, keys="3/second;5/minute"))
    admitted(limits, KEY, 3)
    clock.now += 2
    admitted(limits, KEY, 2)

    problem = refusal(limits, KEY)

    assert (problem.code, problem.status) == ("rate_limited", 429)
    wait = int(problem.headers["Retry-After"])
    assert problem.extra == {"violated-policies": ["key-60s"], "retry_after_s": wait}
    assert problem.headers["RateLimit"] == f'"key-60s";r=0;t={wait}'
    assert re.fullmatch(r'("[a-z]+-\d+s";q=\d+;w=\d+(, )?)+', problem.headers["RateLimit-Policy"])
    clock.now += wait
    assert admitted(limits, KEY, 1) == 1


def test_refusals_are_counted_by_what_refused(clock: Clock) -> None:
    """The labels are a closed set."""
    before = RATE_LIMITED.labels("key")._value.get()
    limits = made(clock, replace(WIDE, keys="1/second"))

    admitted(limits, KEY, 5)

    assert RATE_LIMITED.labels("key")._value.get() == before + 4


def test_an_open_api_counts_nobody(clock: Clock) -> None:
    """It tells nobody apart."""
    assert made(clock, Texts(tenants="1/second")).admit(ANYBODY, is_action=True) == []


def test_limits_can_be_turned_off_but_those_of_logins_and_quotas(clock: Clock) -> None:
    """Nobody measures how fast passwords can be tried."""
    limits = made(clock, Texts(enabled=False, keys="1/second", addresses="1/second"))

    assert admitted(limits, KEY, 10) == 10
    for _ in range(10):
        limits.admit_stranger("192.0.2.1")
    with pytest.raises(Problem):
        for _ in range(11):
            limits.admit_login("192.0.2.1", "ada@example.com")


def test_row_66_floods_of_what_is_no_sending_are_limited_by_themselves(clock: Clock) -> None:
    """Cancels, replays, retries of dead letters: a second's worth, and sending goes on."""
    limits = made(clock)

    assert admitted(limits, KEY, 500, is_action=True) == 50
    assert refusal(limits, KEY, is_action=True).extra["violated-policies"] == ["action-1s"]
    assert admitted(limits, KEY, 100) == 100
    for _ in range(40):
        clock.now += 1
        admitted(limits, KEY, 500, is_action=True)
    assert refusal(limits, KEY, is_action=True).extra["violated-policies"] == ["action-60s"]


def test_strangers_are_counted_by_address(clock: Clock) -> None:
    """All of an IPv6 network's 64 bits are one."""
    limits = made(clock, Texts(addresses="2/minute"))
    for number in range(2):
        limits.admit_stranger(f"2001:db8::{number}")

    with pytest.raises(Problem):
        limits.admit_stranger("2001:db8::77")
    limits.admit_stranger("192.0.2.1")


def test_an_address_that_has_used_up_its_requests_is_held(clock: Clock) -> None:
    """Looking counts nothing, and another address is none of it; it ends with the window."""
    limits = made(clock, Texts(addresses="2/minute"))
    for _ in range(10):
        limits.hold_stranger("192.0.2.1")
    limits.admit_stranger("192.0.2.1")
    limits.hold_stranger("192.0.2.1")
    limits.admit_stranger("192.0.2.1")

    with pytest.raises(Problem) as caught:
        limits.hold_stranger("192.0.2.1")
    assert (caught.value.code, caught.value.extra["violated-policies"]) == ("rate_limited", ["address-60s"])
    limits.hold_stranger("192.0.2.2")
    clock.now += int(caught.value.headers["Retry-After"])
    limits.hold_stranger("192.0.2.1")


@pytest.mark.parametrize("spread", ["one address", "one account"])
def test_row_27_a_thousand_bad_logins_are_stopped(clock: Clock, spread: str) -> None:
    """From one address at all accounts, and from everywhere at one; however the name is written."""
    limits, tried = made(clock), 0

    for number in range(1000):
        address = "192.0.2.1" if spread == "one address" else f"198.51.{number // 250}.{number % 250}"
        account = f"user{number}@example.com" if spread == "one address" else "Ada@Example.com "[: 16 - number % 2]
        try:
            limits.admit_login(address, account)
        except Problem as problem:
            assert problem.code == "rate_limited"
            continue
        tried += 1

    assert tried == (10 if spread == "one address" else 30)


def test_nobody_is_kept_out_of_an_account_from_one_address(clock: Clock) -> None:
    """An address runs out before it has used up what the account has."""
    limits = made(clock)
    for _ in range(1000):
        try:
            limits.admit_login("192.0.2.1", "ada@example.com")
        except Problem:
            continue

    limits.admit_login("198.51.100.7", "ada@example.com")


def test_a_quota_counts_notifications_until_midnight(clock: Clock) -> None:
    """In UTC; the answer says how long that is."""
    limits, caller = made(clock), replace(KEY, daily_quota=1000)

    limits.spend(caller, 990)
    with pytest.raises(Problem) as caught:
        limits.spend(caller, 11)
    limits.give_back(caller, 500)
    limits.spend(replace(caller, id="k9"), 510)

    assert (caught.value.code, caught.value.status) == ("quota_used_up", 429)
    wait = int(caught.value.headers["Retry-After"])
    assert wait == 86_400 - 1_700_000_000 % 86_400 + 1
    clock.now += wait
    limits.spend(caller, 1000)


def test_without_a_quota_nothing_is_counted(clock: Clock) -> None:
    """Nor kept."""
    limits = made(clock)

    limits.spend(KEY, 10**9)
    limits.give_back(KEY, 5)

    assert isinstance(limits._counts, Memory)
    assert limits._counts._spent == {}


def test_the_texts_of_the_settings_are_their_own_defaults() -> None:
    """What is checked is what was written."""
    texts = Texts()

    for text in (texts.users, texts.admins, texts.keys, texts.tenants, texts.actions, texts.addresses):
        assert policies.checked(text) == text
