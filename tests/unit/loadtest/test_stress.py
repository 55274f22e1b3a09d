"""How the capacity is found, without a pipeline: from what would become of each rate."""

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import pytest

from loadtest import profiles
from loadtest.measuring import Look, Measured
from loadtest.profiles import Search, Stage
from loadtest.running import Found
from loadtest.stress import Capacity, Stretch, find_capacity
from tests.unit.loadtest.fakes import a_look

SEARCH = Search(start_per_s=500, step_s=10, hold_s=60, growth=1.6, precision=0.08, latency_s=1)


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


def stretch(
    outstanding: Sequence[int], *, rate: float = 1000, asked: int = 1000, refused_in: int = -1, batch_items: int = 100
) -> Stretch:
    """A look a second, each with so much that is asked for and not received."""
    made = [a_look(at_s + 1.0, asked=asked, refused=at_s == refused_in) for at_s in range(len(outstanding))]
    for look, waiting in zip(made, outstanding, strict=True):
        look.outstanding = waiting
    return Stretch(rate, 0.0, float(len(outstanding) or 1), batch_items, made)


def test_a_rate_is_held_when_nothing_piles_up() -> None:
    """What is always on its way is the pipeline's own length; a batch more or less is chance."""
    assert stretch([300] * 20).fault(1.0) == ""
    assert stretch([0, 500] * 10, batch_items=500).fault(1.0) == ""


@pytest.mark.parametrize(
    ("seen", "fault"),
    [
        (stretch([100 * at_s for at_s in range(20)]), "the backlog grew"),
        (stretch([0] * 20, refused_in=19), "something was refused"),
        (stretch([0] * 20, refused_in=0), "something was refused"),
        (stretch([20_000] * 60), "20,000 were waiting, more than arrive in 1 s"),
        (stretch([0] * 20, asked=600), "the generator came to 600/s only"),
        (stretch([]), "the generator came to 0/s only"),
    ],
    ids=["a backlog", "a refusal", "a refusal at first", "20 s behind for ever", "a late generator", "nothing seen"],
)
def test_a_rate_is_not_held_when_something_falls_behind(seen: Stretch, fault: str) -> None:
    """Or is refused, or always waits, or was never asked for."""
    assert fault in seen.fault(1.0)


def test_what_a_late_generator_has_not_asked_for_is_a_backlog() -> None:
    """It catches up in the last second, so that all was asked for; and what it had asked for was never outstanding."""
    late = stretch([0] * 20)
    for look in late.looks[:-1]:
        look.counts["asked"] = 600
    late.looks[-1].counts["asked"] = 20_000 - 19 * 600

    assert "backlog grew" in late.fault(1.0)


def test_what_arrived_without_an_answer_hides_no_backlog() -> None:
    """It was received, and nobody counts it as accepted: what is outstanding begins below nothing."""
    seen = stretch([-5_000 + 1_100] * 20)

    assert replace(seen, left_over=-5_000).fault(1.0) == "1,100 were waiting, more than arrive in 1 s"


def test_what_the_beginning_leaves_behind_is_not_judged() -> None:
    """Queues fill in the first seconds of any rate."""
    assert stretch([0, 200, 400, 600, 800, *[900] * 15]).fault(1.0) == ""


class Pipeline:
    """A run whose pipeline receives so much a second and no more; its clock goes as fast as it is told to wait."""

    def __init__(self, truth: float, *, limit_s: float = 900, drains: bool = True) -> None:
        self.profile = replace(profiles.load("stress"), limit_s=limit_s)
        self.found, self.measured, self.events = Found(), Measured(), list[str]()
        self._truth, self._drains, self._now_s = truth, drains, 0.0

    def clock(self) -> float:
        return self._now_s

    @property
    def left_s(self) -> float:
        return self.profile.limit_s - self._now_s

    def event(self, text: str) -> None:
        self.events.append(text)

    def play(self, stage: Stage) -> list[Look]:
        self.found.load_from_s, looks, asked = self._now_s, list[Look](), 0
        for _ in range(int(stage.for_s)):
            self._now_s += 1
            due = int(stage.rate_per_s * (self._now_s - self.found.load_from_s)) // 500 * 500
            look = a_look(self._now_s, asked=due - asked)
            asked = due
            look.outstanding = int(max(0.0, stage.rate_per_s - self._truth) * (self._now_s - self.found.load_from_s))
            looks.append(look)
        return looks

    def drain(self, for_s: float) -> bool:
        self._now_s += 3 if self._drains else for_s
        return self._drains


def test_the_capacity_is_what_was_asked_for_while_it_was_held() -> None:
    """Within the precision of the search; the note tells what it was."""
    running: Any = Pipeline(3_000)

    capacity = find_capacity(running)

    assert capacity is not None
    assert 2_600 < capacity < 3_100
    assert running.found.counts["capacity_per_s"] == int(capacity)
    assert "/s asked" in running.found.notes[-1]


def test_a_rate_whose_rest_never_arrives_is_not_held() -> None:
    """However calm it looked while it lasted."""
    assert find_capacity(Pipeline(3_000, drains=False)) is None  # type: ignore[arg-type]


@pytest.mark.parametrize("limit_s", [100, 200, 300, 500])
def test_the_search_ends_within_its_time(limit_s: float) -> None:
    """With the best so far, or with none: never as a run that broke."""
    running: Any = Pipeline(20_000, limit_s=limit_s)

    capacity = find_capacity(running)

    assert running.clock() < limit_s
    assert (capacity or 0) <= 21_000
    assert (capacity is not None) == (limit_s >= 200)
