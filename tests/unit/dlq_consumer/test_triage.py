"""Retry or rest, and how long to wait: pure decisions."""

import math
import random
from collections import Counter

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dlq_consumer.backoff import RETRY_AFTER_CAP_S, EvenDraws, delay_s
from dlq_consumer.triage import DeadLetter, Rest, RetryAt, triage
from shared.model import FailureClass, OnUnknown

LADDER = (60.0, 300.0)


def letter(
    failure_class: FailureClass = FailureClass.TRANSIENT,
    on_unknown: OnUnknown = OnUnknown.RETRY,
    retry_count: int = 0,
    retry_after_s: float | None = None,
) -> DeadLetter:
    """A failure to decide on."""
    return DeadLetter(failure_class, on_unknown, retry_count, retry_after_s)


@pytest.mark.parametrize(
    ("failure", "reason"),
    [
        (letter(FailureClass.POISON), "poison"),
        (letter(FailureClass.PERMANENT), "permanent"),
        (letter(FailureClass.UNKNOWN, OnUnknown.HOLD), "on_unknown_hold"),
        (letter(retry_count=2), "retries_used_up"),
        (letter(FailureClass.UNKNOWN, retry_count=9), "retries_used_up"),
    ],
)
def test_what_cannot_go_better_rests_for_a_stated_reason(failure: DeadLetter, reason: str) -> None:
    """I16: retries end; nothing hopeless is tried for ever."""
    assert triage(failure, ladder_s=LADDER, rng=random.Random(1)) == Rest(reason)


@pytest.mark.parametrize("failure", [letter(), letter(FailureClass.UNKNOWN), letter(retry_count=1)])
def test_everything_else_is_tried_again(failure: DeadLetter) -> None:
    """A transient failure, and an unknown one unless its sender holds those, climbs the ladder."""
    verdict = triage(failure, ladder_s=LADDER, rng=random.Random(1))

    assert isinstance(verdict, RetryAt)
    assert 0.5 <= verdict.in_s / LADDER[failure.retry_count] <= 1.5


@given(seed=st.integers(), retry_after_s=st.none() | st.floats(0.001, 1e9), retry_count=st.integers(0, 1))
def test_delay_is_never_before_retry_after_nor_without_bound(
    seed: int, retry_after_s: float | None, retry_count: int
) -> None:
    """I17: Retry-After is a lower bound up to its cap, and the delay has an upper one."""
    delay = delay_s(LADDER, retry_count, retry_after_s=retry_after_s, rng=random.Random(seed))

    assert delay is not None
    assert delay >= min(retry_after_s or 0, RETRY_AFTER_CAP_S)
    assert delay <= RETRY_AFTER_CAP_S + 1.5 * LADDER[retry_count]


@pytest.mark.parametrize("retry_after_s", [None, 600.0])
def test_many_failures_of_one_moment_come_back_spread_out(retry_after_s: float | None) -> None:
    """I17: 5,000 failures of one second return evenly over the rung: no tenth of it gets twice its share."""
    rng = random.Random(7)
    delays = [delay_s((60.0,), 0, retry_after_s=retry_after_s, rng=rng) or 0 for _ in range(5000)]

    tenths = Counter(int((delay - min(delays)) / 6.01) for delay in delays)

    assert max(tenths.values()) <= 2 * 5000 / 10


@pytest.mark.parametrize("retry_after_s", [None, 20.0, 45.0, 600.0])
@pytest.mark.parametrize("ladder_s", [(60.0, 300.0, 1800.0, 7200.0), (10.0, 20.0, 40.0)])
def test_from_the_second_retry_on_no_second_gets_twice_its_share(
    ladder_s: tuple[float, ...], retry_after_s: float | None
) -> None:
    """I17: of 5,000 failures of one moment, looked for each 0.3 s, the fullest second of a rung against its mean.

    Of a rung so long that a second has but a few, a hundredth of it: there a handful more is no herd.
    """
    draws = EvenDraws(random.Random(3).random())
    failed_at = [0.0] * 5000
    for retry_count in range(len(ladder_s)):
        due_at = sorted(
            at + (delay_s(ladder_s, retry_count, retry_after_s=retry_after_s, rng=draws) or 0) for at in failed_at
        )
        failed_at = [math.ceil(at / 0.3) * 0.3 for at in due_at]
        if retry_count > 0:
            middle = failed_at[50:-50]
            width_s = max(1.0, ladder_s[retry_count] / 100)
            busiest = max(Counter(int(at / width_s) for at in failed_at).values())
            assert busiest / width_s <= 2 * len(middle) / (middle[-1] - middle[0])


@given(
    classes=st.lists(st.sampled_from([FailureClass.TRANSIENT, FailureClass.UNKNOWN]), min_size=1, max_size=30),
    rungs=st.integers(1, 6),
)
def test_the_machine_retries_no_more_often_than_the_ladder_has_rungs(classes: list[FailureClass], rungs: int) -> None:
    """I16: whatever happens, and whatever a person adds, retry_count only rises and the ladder ends."""
    retry_count = 0
    for failure_class in classes:
        verdict = triage(letter(failure_class, retry_count=retry_count), ladder_s=(1.0,) * rungs, rng=EvenDraws(0.5))
        retry_count += isinstance(verdict, RetryAt)

    assert retry_count <= rungs
