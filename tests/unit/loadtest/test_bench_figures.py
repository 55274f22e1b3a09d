"""The arithmetic of rounds: medians, ratios within a round, promises."""

import math

import pytest

from loadtest.bench.figures import Promise, Sample, Spread, judge, percentile, ratio, spread_of


def sample(work: int, wall_s: float = 1.0, **cpu_s: float) -> Sample:
    """A round of so much work."""
    return Sample(work, wall_s, cpu_s)


def test_figures_are_rates_and_costs() -> None:
    """Per second, per CPU-second, and microseconds of CPU each; `all` is the sum over processes."""
    one = Sample(1_000, 2.0, {"relay": 0.5, "postgres": 1.5}, {"p99_ms": 12.0})

    found = [one.figure(name) for name in ("per_s", "per_cpu_s:relay", "cpu_us:postgres", "cpu_us:all", "p99_ms")]

    assert found == [500.0, 2_000.0, 1_500.0, 2_000.0, 12.0]


def test_nothing_measured_is_no_error() -> None:
    """A process whose CPU is below the clock's resolution, and a round without work."""
    assert sample(10, relay=0.0).figure("per_cpu_s:relay") == math.inf
    assert Sample(0, 0.0).figure("per_s") == 0.0


def test_a_spread_is_the_median_with_the_extremes() -> None:
    """The mean would let one disturbed round speak for all."""
    assert spread_of([sample(1), sample(100), sample(3)], "per_s") == Spread(3.0, 1.0, 100.0)


def test_a_ratio_is_taken_within_each_round() -> None:
    """The second round ran on a busy machine: both took twice as long, and their ratio says nothing of it."""
    ours, theirs = [sample(100), sample(50), sample(110)], [sample(50), sample(25), sample(50)]

    assert ratio(ours, theirs, "per_s") == Spread(2.0, 2.0, 2.2)


def test_a_round_that_only_one_had_is_left_out() -> None:
    """As when a run is broken off between two contenders."""
    assert ratio([sample(100), sample(1)], [sample(50)], "per_s") == Spread(2.0, 2.0, 2.0)


@pytest.mark.parametrize(("at_least", "held"), [(99.0, True), (100.0, True), (100.1, False)])
def test_a_promise_is_judged_by_the_median(at_least: float, held: bool) -> None:
    """A single low round breaks none, a single high one saves none."""
    rounds = {"ours": [sample(1), sample(100), sample(1_000)]}

    judged = judge(Promise("rate", "ours", at_least=at_least), rounds)

    assert judged is not None
    assert judged.held is held


def test_at_least_is_compared_with_the_fastest_of_several() -> None:
    """Five times the better of two peers."""
    rounds = {"ours": [sample(100)], "slow": [sample(10)], "fast": [sample(40)]}

    judged = judge(Promise("rate", "ours", at_least=5, beside=("slow", "fast")), rounds)

    assert judged is not None
    assert (judged.beside, judged.measured.median, judged.held) == ("fast", 2.5, False)


def test_at_most_is_compared_with_the_lowest_of_several() -> None:
    """A latency no worse than either peer's."""
    rounds = {name: [Sample(1, 1.0, {}, {"p99_ms": p99})] for name, p99 in (("ours", 9.0), ("a", 10.0), ("b", 8.0))}

    judged = judge(Promise("p99", "ours", "p99_ms", at_most=1.0, beside=("a", "b")), rounds)

    assert judged is not None
    assert (judged.beside, judged.held) == ("b", False)


def test_a_promise_beside_somebody_absent_is_not_judged() -> None:
    """A peer that is not installed makes no promise hold, and none fail."""
    assert judge(Promise("rate", "ours", at_least=5, beside=("peer",)), {"ours": [sample(1)]}) is None
    assert judge(Promise("rate", "ours", at_least=5), {}) is None


@pytest.mark.parametrize(("share", "value"), [(0.0, 1), (0.5, 5), (0.9, 9), (0.99, 10), (1.0, 10)])
def test_a_percentile_is_a_value_that_was_measured(share: float, value: int) -> None:
    """The nearest rank: nothing between two values is made up."""
    assert percentile([10, 9, 8, 7, 6, 5, 4, 3, 2, 1], share) == value
