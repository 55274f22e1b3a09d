"""What becomes of a dead letter: DeadLetter in, RetryAt or Rest out. Pure."""

from collections.abc import Sequence
from dataclasses import dataclass

from dlq_consumer.backoff import Draws, delay_s
from shared.model import FailureClass, OnUnknown


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What triage needs to know of a failure."""

    failure_class: FailureClass
    on_unknown: OnUnknown
    retry_count: int  # retries made so far
    retry_after_s: float | None


@dataclass(frozen=True, slots=True)
class RetryAt:
    """Try again after so many seconds, by PostgreSQL's clock."""

    in_s: float


@dataclass(frozen=True, slots=True)
class Rest:
    """Wait for a person; `reason` is a constant, listed in init.sql at dlq_messages.rest_reason."""

    reason: str


def triage(letter: DeadLetter, *, ladder_s: Sequence[float], rng: Draws) -> RetryAt | Rest:
    """Decide on a retry.

    What cannot go better the next time rests, and so does an attempt that may have arrived where the sender asked to
    hold those. Everything else climbs the ladder until it ends.
    """
    if letter.failure_class is FailureClass.POISON:
        return Rest("poison")
    if letter.failure_class is FailureClass.PERMANENT:
        return Rest("permanent")
    if letter.failure_class is FailureClass.UNKNOWN and letter.on_unknown is OnUnknown.HOLD:
        return Rest("on_unknown_hold")
    in_s = delay_s(ladder_s, letter.retry_count, retry_after_s=letter.retry_after_s, rng=rng)
    return Rest("retries_used_up") if in_s is None else RetryAt(in_s)
