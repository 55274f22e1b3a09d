"""What the proofs make of instants and durations."""

import pytest

from tests.proofs.figures import accepted_at, busiest, longest_gap, percentile, spread


@pytest.mark.parametrize(
    ("values", "share", "expected"),
    [
        ([5.0], 0.99, 5.0),
        ([float(n) for n in range(1, 101)], 0.99, 99.0),
        ([float(n) for n in range(100, 0, -1)], 0.5, 50.0),
        ([3.0, 1.0, 2.0], 1.0, 3.0),
        ([3.0, 1.0, 2.0], 0.0, 1.0),
    ],
)
def test_percentile_is_a_value_that_was_measured(values: list[float], share: float, expected: float) -> None:
    """Nearest rank: nothing between two values is made up."""
    assert percentile(values, share) == expected


def test_nothing_measured_has_no_figure() -> None:
    """An empty run must not pass."""
    with pytest.raises(ValueError, match="no values"):
        percentile([], 0.5)
    with pytest.raises(ValueError, match="no events"):
        spread([])


def test_even_events_have_a_ratio_of_about_one() -> None:
    """Eight a second for twenty-five seconds."""
    found = spread([n / 8 for n in range(200)])

    assert found.peak_per_s == 8
    assert found.mean_per_s == pytest.approx(8, rel=0.02)
    assert found.ratio == pytest.approx(1, rel=0.02)


def test_a_herd_shows_wherever_the_second_begins() -> None:
    """100 events across a full second's border count as one peak."""
    even = [float(n) for n in range(100)]
    herd = [49.95 + n / 1000 for n in range(100)]

    assert spread(even + herd).peak_per_s >= 100
    assert spread(even + herd).ratio > 10


def test_a_straggler_does_not_stretch_the_window() -> None:
    """One event an hour later is outside the 98 %."""
    found = spread([n / 10 for n in range(200)] + [3600.0])

    assert found.window_s < 20
    assert found.count == 201


def test_all_at_once_is_measured_over_one_second() -> None:
    """No division by nothing."""
    assert spread([7.0] * 50).ratio == pytest.approx(1, rel=0.03)


def test_busiest_leaves_the_end_out() -> None:
    """Events exactly one second apart are never in one second."""
    assert busiest([1.0, 2.0, 3.0], 1.0) == 1
    assert busiest([1.0, 1.5, 1.99, 2.0], 1.0) == 3


def test_longest_gap_counts_the_edges() -> None:
    """A stretch that only begins or ends with an event is a gap too."""
    assert longest_gap([1.0, 2.0], begin=0.0, end=7.0) == 5.0
    assert longest_gap([9.0], begin=0.0, end=7.0) == 7.0


def test_accepted_at_is_the_instant_in_the_id() -> None:
    """A UUIDv7 begins with milliseconds."""
    milliseconds = 1_700_000_000_123

    assert accepted_at(f"{milliseconds:012x}70008000000000000000") == milliseconds / 1000
