"""How buckets are shared."""

import pytest

from outbox_relay.buckets import share
from outbox_relay.relay import Pause


@pytest.mark.parametrize("members", [1, 2, 3, 7, 40, 64, 100])
def test_every_bucket_falls_to_exactly_one_member(members: int) -> None:
    """However many relays there are, their shares are disjoint, complete, and differ by one at most."""
    shares = [share(rank=rank, members=members) for rank in range(members)]

    assert sorted(bucket for one in shares for bucket in one) == list(range(64))
    assert max(map(len, shares)) - min(map(len, shares)) <= 1


def test_idle_relay_polls_ever_less_often() -> None:
    """A short idleness costs little latency, a long one little CPU; work ends it."""
    now = 0.0
    pause = Pause(lambda: now)

    first, was_long, now = pause.next_s(), pause.is_long, 2.0
    later, is_long, now = pause.next_s(), pause.is_long, 11.0
    late = pause.next_s()
    pause.end()

    assert (was_long, is_long, pause.is_long) == (False, True, False)
    assert (first, later, late, pause.next_s()) == (0.005, 0.025, 0.05, 0.005)
