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

    Whatever the receiver asked for, what failed in one second comes back evenly over a time as long as the rung: from
    half of it or, where that is later, from the receiver's Retry-After. One draw, on purpose: the later of two would
    favour the end of that time, and a herd would form there again.
    """
    if retry_count >= len(ladder_s):
        return None
    rung_s = ladder_s[retry_count]
    asked_s = min(retry_after_s or 0.0, RETRY_AFTER_CAP_S)
    return max(rung_s / 2, asked_s) + rung_s * rng.random()
