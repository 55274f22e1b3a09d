"""How the capacity is found, without a pipeline: from what would become of each rate."""

from collections.abc import Sequence

import pytest

from loadtest.measuring import Look
from loadtest.profiles import Search
from loadtest.stress import Capacity, was_held
from tests.unit.loadtest.fakes import a_look

SEARCH = Search(start_per_s=500, step_s=10, hold_s=60, growth=1.6, precision=0.08)


@pytest.mark.parametrize("truth", [20.0, 400.0, 500.0, 3_000.0, 50_000.0])
def test_the_search_ends_close_below_the_truth(truth: float) -> None:
    """Whether it lies above or below where the search begins, in few steps."""
    capacity, steps = Capacity(SEARCH), 0
    while (rate := capacity.next_per_s) is not None:
        capacity.note(rate, held=rate <= truth)
        steps += 1

    assert steps < 20
    assert capacity.highest_held is not None
    assert truth * 0.9 <= capacity.highest_held <= truth


def test_a_rate_that_is_not_held_a_second_time_is_believed_the_second_time() -> None:
    """Machines have bad seconds: what was once held at a higher rate counts no more."""
    capacity = Capacity(SEARCH)
    capacity.note(500, held=True)
    capacity.note(800, held=True)
    capacity.note(700, held=False)

    assert capacity.highest_held is None
    assert capacity.next_per_s is not None
    assert capacity.next_per_s < 700


def looks(outstanding: Sequence[int], *, refused: int = 0) -> list[Look]:
    made = [a_look(float(at_s), asked=1000, refused=refused) for at_s in range(len(outstanding))]
    for look, waiting in zip(made, outstanding, strict=True):
        look.outstanding = waiting
    return made


def test_a_rate_is_held_when_nothing_piles_up() -> None:
    """What is always on its way is the pipeline's own length; a batch more or less is chance."""
    assert was_held(looks([300] * 20), 1000, batch_items=100)
    assert was_held(looks([0, 500] * 10), 1000, batch_items=500)


@pytest.mark.parametrize(
    "seen",
    [looks([100 * at_s for at_s in range(20)]), looks([0] * 20, refused=1), looks([])],
    ids=["a backlog", "a refusal", "nothing seen"],
)
def test_a_rate_is_not_held_when_something_falls_behind(seen: list[Look]) -> None:
    """Or is refused, or was never looked at."""
    assert not was_held(seen, 1000, batch_items=100)


def test_what_the_beginning_leaves_behind_is_not_judged() -> None:
    """Queues fill in the first seconds of any rate."""
    assert was_held(looks([0, 200, 400, 600, 800, *[900] * 15]), 1000, batch_items=100)
