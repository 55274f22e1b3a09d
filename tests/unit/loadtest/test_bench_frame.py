"""The frame: rounds interleave, the order turns, and what was measured is kept whatever happens."""

import pytest

from loadtest.bench.figures import Sample
from loadtest.bench.frame import BenchError, ContenderUnavailableError, Plan, Told, run_rounds, turned

PLAN = Plan(rounds=3, quick=False, seed=7)


class Recording:
    """A contender that notes in a shared diary what it is asked to do."""

    def __init__(self, name: str, diary: list[str], *, fails_at: int = 0, unavailable: bool = False) -> None:
        self.name, self.what = name, name
        self._diary, self._fails_at, self._unavailable, self._rounds = diary, fails_at, unavailable, 0

    def setup(self) -> None:
        if self._unavailable:
            raise ContenderUnavailableError("not installed")
        self._diary.append(f"setup {self.name}")

    def round(self) -> Sample:
        self._rounds += 1
        if self._rounds == self._fails_at:
            raise BenchError("it broke")
        self._diary.append(self.name)
        return Sample(self._rounds, 1.0)

    def teardown(self) -> None:
        self._diary.append(f"teardown {self.name}")


def silent() -> Told:
    """Nobody listens."""
    return Told(lambda *_: None, lambda *_: None, lambda *_: None)


def test_each_contender_has_one_turn_in_each_round() -> None:
    """So that whatever disturbs the machine for a while disturbs all alike."""
    diary: list[str] = []
    samples: dict[str, list[Sample]] = {}

    run_rounds([Recording(name, diary) for name in "abc"], PLAN, silent(), samples)

    turns = diary[3:12]
    assert [sorted(turns[start : start + 3]) for start in (0, 3, 6)] == [["a", "b", "c"]] * 3
    assert len({tuple(turns[start : start + 3]) for start in (0, 3, 6)}) == 3
    assert {name: [one.work for one in found] for name, found in samples.items()} == {key: [1, 2, 3] for key in "abc"}


def test_the_seed_says_who_begins() -> None:
    """The same command measures in the same order."""
    first: list[str] = []
    for seed in (6, 6, 8):
        diary: list[str] = []
        run_rounds([Recording(name, diary) for name in "abcde"], Plan(1, False, seed), silent(), {})
        first.append(diary[5])

    assert first == ["b", "b", "d"]


def test_the_order_is_turned_each_round_and_reversed_every_other() -> None:
    """Neighbours stay neighbours, and nobody always follows the same one."""
    contenders = [Recording(name, []) for name in "abcd"]

    orders = ["".join(one.name for one in turned(contenders, number)) for number in range(5)]

    assert orders == ["abcd", "adcb", "cdab", "cbad", "abcd"]
    assert turned([], 1) == []


def test_what_was_measured_before_a_failure_is_kept() -> None:
    """And everybody is taken down."""
    diary: list[str] = []
    samples: dict[str, list[Sample]] = {}
    contenders = [Recording("a", diary), Recording("b", diary, fails_at=2)]

    with pytest.raises(BenchError):
        run_rounds(contenders, PLAN, silent(), samples)

    assert len(samples["b"]) == 1
    assert {"teardown a", "teardown b"} <= set(diary)


def test_a_contender_that_cannot_run_here_is_left_out() -> None:
    """The others go on, and it is said who is missing."""
    diary: list[str] = []
    samples: dict[str, list[Sample]] = {}
    missing: list[tuple[str, str]] = []
    told = Told(lambda *_: None, lambda *_: None, lambda name, reason: missing.append((name, reason)))

    run_rounds([Recording("a", diary), Recording("b", diary, unavailable=True)], PLAN, told, samples)

    assert set(samples) == {"a"}
    assert missing == [("b", "not installed")]


def test_quick_picks_the_tiny_size() -> None:
    """And full the full one."""
    assert (PLAN.pick(1_000, 1), Plan(1, True, 1).pick(1_000, 1)) == (1_000, 1)
