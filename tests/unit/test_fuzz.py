"""`make fuzz` proves something: it finds what was planted, repeats itself, and its targets hold for a moment."""

import pytest
from hypothesis import strategies as st

from tests.fuzz.parsers import TARGETS, Target
from tests.fuzz.running import fuzz, fuzz_all


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.name)
def test_a_target_holds_for_a_hundred_inputs(target: Target) -> None:
    """The same hundred each time; `make fuzz` tries many more."""
    done = fuzz(target, seed=7, seconds=0, chunk=100)

    assert done.finding is None
    assert done.inputs >= 50


def test_a_planted_crash_is_found_and_shown_small() -> None:
    """With the error, and the smallest input that leads to it."""

    def crash(number: int) -> None:
        if number >= 1000:
            raise ZeroDivisionError("planted")

    done = fuzz(Target("planted", st.integers(), crash), seed=1, seconds=0)

    assert done.finding == "ZeroDivisionError: planted for 1000"


def test_a_seed_tries_the_same_inputs_again() -> None:
    """Whatever else has run before; another seed tries others."""

    def tried(seed: int) -> list[bytes]:
        seen: list[bytes] = []
        fuzz(Target("kept", st.binary(), seen.append), seed=seed, seconds=0, chunk=50)
        return seen

    assert tried(3) == tried(3) != tried(4)


def test_the_time_is_shared_among_all() -> None:
    """None is left out where there is little of it."""
    targets = [Target(name, st.integers(), lambda _: None) for name in "abc"]

    assert [one.name for one in fuzz_all(targets, seed=1, seconds=0)] == ["a", "b", "c"]
