"""How long to wait before a retry. Pure: values and a random source in, seconds out."""

import random
from collections.abc import Sequence
from typing import Final

RETRY_AFTER_CAP_S: Final = 86_400.0
"""A receiver may ask for a day at most; more would be a way to park messages here for ever."""


def delay_s(
    ladder_s: Sequence[float], retry_count: int, *, retry_after_s: float | None, rng: random.Random
) -> float | None:
    """Return the seconds before retry number `retry_count` + 1, None where the ladder has ended.

    The rung is spread evenly over 0.5 to 1.5 of its length, so that what failed in one second comes back over a time
    as long as the rung. A receiver's Retry-After is a lower bound: the spread is added to it, or all who were told
    the same delay would return together.
    """
    if retry_count >= len(ladder_s):
        return None
    rung_s = ladder_s[retry_count]
    own_s = rung_s * (0.5 + rng.random())
    if retry_after_s is None or retry_after_s <= 0:
        return own_s
    return max(own_s, min(retry_after_s, RETRY_AFTER_CAP_S) + rung_s * rng.random())
