"""How the capacity is found, without a pipeline: from what would become of each rate."""

import pytest

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


def looks(*, accepted: int = 100, received: int = 100, refused: int = 0) -> list[object]:
    return [a_look(float(at_s), asked=100, accepted=accepted, received=received, refused=refused) for at_s in range(20)]


def test_a_rate_is_held_when_everything_arrives_and_nothing_piles_up() -> None:
    """A steady backlog is the pipeline's own length."""
    assert was_held(looks(), [30.0] * 20, 100)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("seen", "backlogs"),
    [
        (looks(accepted=95), [30.0] * 20),
        (looks(received=90), [30.0] * 20),
        (looks(refused=1), [30.0] * 20),
        (looks(), [10.0 * at_s for at_s in range(20)]),
        ([], []),
    ],
)
def test_a_rate_is_not_held_when_something_falls_behind(seen: list[object], backlogs: list[float]) -> None:
    """Accepting, receiving, or the backlog between them."""
    assert not was_held(seen, backlogs, 100)  # type: ignore[arg-type]


def test_what_the_beginning_leaves_behind_is_not_judged() -> None:
    """Queues fill in the first seconds of any rate."""
    early = [a_look(float(at_s), asked=100, accepted=20) for at_s in range(5)]

    assert was_held([*early, *looks()[5:]], [0.0] * 5 + [200.0] * 15, 100)  # type: ignore[list-item]
