"""Runs targets for so many seconds each, from a seed; a finding ends its target, with the smallest input for it."""

import time
import zlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import seed as seeded

from tests.fuzz.parsers import Target

CHUNK: Final = 200  # examples from one seed


@dataclass(frozen=True)
class Fuzzed:
    """What came of one target."""

    name: str
    inputs: int
    finding: str | None


def fuzz(
    target: Target, *, seed: int, seconds: float, chunk: int = CHUNK, clock: Callable[[], float] = time.monotonic
) -> Fuzzed:
    """Try inputs until the time is over, or one is a finding. The same seed tries the same inputs in the same order."""
    inputs, last, until, number = 0, None, clock() + seconds, 0

    def one(value: Any) -> None:
        nonlocal inputs, last
        inputs, last = inputs + 1, value
        target.check(value)

    while True:
        first = zlib.crc32(f"{seed} {target.name} {number}".encode())
        run = given(target.inputs)(one)
        run = settings(
            max_examples=chunk, database=None, deadline=None, print_blob=False, report_multiple_bugs=False,
            suppress_health_check=list(HealthCheck), phases=(Phase.generate, Phase.shrink),
        )(run)  # fmt: skip
        try:
            seeded(first)(run)()
        except Exception as error:  # noqa: BLE001 - any error is the finding
            return Fuzzed(target.name, inputs, f"{type(error).__name__}: {str(error)[:200]} for {last!r}"[:1000])
        number += 1
        if clock() >= until:
            return Fuzzed(target.name, inputs, None)


def fuzz_all(targets: Sequence[Target], *, seed: int, seconds: float) -> list[Fuzzed]:
    """Share the time among all targets."""
    return [fuzz(target, seed=seed, seconds=seconds / len(targets)) for target in targets]
