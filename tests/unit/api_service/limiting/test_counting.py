"""What is counted by hand is counted as the library counts, and what a client is told holds."""

from types import SimpleNamespace

import pytest
from hypothesis import given
from hypothesis import strategies as st
from limits import storage, strategies

from api_service.limiting import policies
from api_service.limiting.memory import Memory
from api_service.limiting.policies import Policy, Subject, policy
from api_service.limiting.windows import retry_after

SECONDS = (1, 4, 16, 64)
"""Powers of two, and instants in parts of 1,024: both sides divide without rounding."""


class Clock:
    """The time of both sides."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def time(self) -> float:
        return self.now


windows = st.tuples(st.integers(1, 12), st.sampled_from(SECONDS))
texts = st.lists(windows, min_size=1, max_size=3, unique_by=lambda one: one[1]).map(
    lambda found: ";".join(f"{amount}/{seconds} seconds" for amount, seconds in found)
)
gaps = st.lists(
    st.sampled_from([0, 0, 0, 1, 40, 300, 511, 1023, 1024, 2048, 5000, 70_000]).map(lambda n: n / 1024),
    min_size=1,
    max_size=60,
)


def of_user(text: str) -> Policy:
    """A policy of one person."""
    return policy(Subject.USER, text)


@given(text=texts, gaps=gaps)
def test_a_request_is_admitted_when_the_library_would(text: str, gaps: list[float]) -> None:
    """It fits into every window by itself; then it counts in each. The library is asked window by window."""
    with pytest.MonkeyPatch.context() as patch:
        clock = Clock()
        for module in (storage.memory, strategies):
            patch.setattr(module, "time", SimpleNamespace(time=clock.time))
        theirs = strategies.SlidingWindowCounterRateLimiter(storage.MemoryStorage())
        ours, asked = Memory(), of_user(text)
        for gap in gaps:
            clock.now += gap
            fits = all(theirs.test(window.item, "k") for window in asked.windows)
            if fits:
                assert all(theirs.hit(window.item, "k") for window in asked.windows)

            taken = ours.take([("k", asked)], 1, clock.now)

            left = {one.name: theirs.get_window_stats(one.item, "k").remaining for one in asked.windows}
            assert taken.admitted is fits
            assert taken.remaining == left[taken.window.name]
            if fits:
                assert taken.remaining == min(left.values())


@given(text=texts, gaps=gaps)
def test_a_refused_request_is_admitted_when_it_was_told(text: str, gaps: list[float]) -> None:
    """After Retry-After it fits into the window that refused it, and well before it does not."""
    ours, asked, now = Memory(), of_user(text), 1_700_000_000.0
    for gap in gaps:
        now += gap
        taken = ours.take([("k", asked)], 1, now)
        if taken.admitted:
            continue
        alone = Policy(Subject.USER, (taken.window,))
        index = asked.windows.index(taken.window)
        for later, admitted in ((retry_after(taken.reset_s), True), (taken.reset_s - 0.01, False)):
            if later > 0:
                copy = Memory()
                kept = ours._kept["k", asked][index]
                mirror = copy._begin(("k", alone), now)[0]
                mirror.number, mirror.previous, mirror.current = kept.number, kept.previous, kept.current
                assert copy.take([("k", alone)], 1, now + later).admitted is admitted


def test_what_a_window_refuses_counts_in_no_other() -> None:
    """Who runs into the shortest does not use up the longest meanwhile."""
    ours, asked, now = Memory(), of_user(policies.INTERACTIVE), 1_700_000_000.5

    admitted = [ours.take([("k", asked)], 1, now + number / 1000).admitted for number in range(400)]

    assert admitted == [True] * 3 + [False] * 397
    assert sum(ours.take([("k", asked)], 1, now + 600 + second).admitted for second in range(20)) == 20


def test_keys_and_policies_are_counted_apart() -> None:
    """Two callers, and one caller as two things."""
    ours, one, other = Memory(), of_user("1/second"), policy(Subject.TENANT, "1/second")

    assert [ours.take([asked], 1, 0.5).admitted for asked in (("a", one), ("b", one), ("a", other), ("a", one))] == [
        True, True, True, False]  # fmt: skip


def test_a_tenant_is_charged_by_those_of_its_callers_who_were_admitted() -> None:
    """A key at its own limit does not take from the others."""
    ours, key, tenant = Memory(), policy(Subject.KEY, "2/second"), policy(Subject.TENANT, "4/second")

    flood = [ours.take([("a", key), ("t", tenant)], 1, 0.5).admitted for _ in range(50)]
    other = [ours.take([("b", key), ("t", tenant)], 1, 0.5) for _ in range(3)]

    assert sum(flood) == 2
    assert [one.admitted for one in other] == [True, True, False]


def test_memory_is_bounded_and_forgets_what_counts_nothing_first() -> None:
    """Whoever calls under ever new names takes no more than so much."""
    ours, asked = Memory(max_keys=100), of_user("1/second;5/minute")
    for number in range(90):
        ours.take([(f"old {number}", asked)], 1, 0.5)
    ours.take([("recent", asked)], 1, 120.5)
    for number in range(5000):
        ours.take([(f"{number}", asked)], 1, 121.5)
        assert len(ours._kept) <= 100

    for number in range(40):  # what counts is kept while there is room
        ours.take([("recent", asked)], 1, 200.5 + number)
        assert not ours.take([("recent", asked)], 1, 200.5 + number).admitted


def test_a_quota_is_taken_whole_or_not_at_all() -> None:
    """Until its day is over; what was not used after all is given back."""
    ours = Memory()

    assert [ours.spend("q", 100, cost, now=0, until=10) for cost in (60, 41, 40, 1)] == [True, False, True, False]
    ours.give_back("q", 30)
    assert [ours.spend("q", 100, cost, now=9, until=10) for cost in (31, 30)] == [False, True]
    assert ours.spend("q", 100, 100, now=10, until=20)
    ours.give_back("unknown", 5)


@pytest.mark.parametrize(
    ("text", "windows"),
    [
        ("interactive", [("user-1s", 3, 1), ("user-10s", 20, 10), ("user-60s", 100, 60)]),
        ("Steady", [("user-60s", 100, 60), ("user-300s", 500, 300), ("user-3600s", 10_000, 3600)]),
        ("500/second;1000000/day", [("user-1s", 500, 1), ("user-86400s", 1_000_000, 86_400)]),
        ("10 per 2 minutes, 1/second", [("user-1s", 1, 1), ("user-120s", 10, 120)]),
    ],
)
def test_limits_are_read_as_the_library_writes_them(text: str, windows: list[tuple[str, int, int]]) -> None:
    """The seeds' two sets have names."""
    assert [(one.name, one.amount, one.seconds) for one in of_user(text).windows] == windows


@pytest.mark.parametrize(
    "text",
    ["", "fast", "0/second", "3", "3/fortnight", "-1/second", "1/second;" * 6 + "1/day", "1/2 months", "x" * 300],
)
def test_what_cannot_be_limits_is_refused(text: str) -> None:
    """At the start, and when a key is made."""
    with pytest.raises(ValueError, match=r"."):
        policies.checked(text)
