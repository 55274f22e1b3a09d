"""From series to charts: what stands together, what is drawn, and what a comparison keeps of a long line."""

import math

import pytest

from loadtest.report.charts import HINTS, Summary, charts, for_browser, summary, thinned
from loadtest.results import Group, Series
from tests.unit.loadtest.runs import a_run


def a_line(
    *values: float | None, name: str = "a", unit: str = "ms", group: Group = "latency", every_s: float = 1
) -> Series:
    return Series(name, unit, group, [every_s * index for index in range(len(values))], list(values))


def test_lines_of_one_group_and_unit_share_a_chart() -> None:
    """Groups stand in one order whatever the order of series, and the hint stands once per group."""
    series = [
        a_line(1, name="dead rows", unit="rows", group="database"),
        a_line(1, name="asked", unit="1/s", group="throughput"),
        a_line(1, name="commits", unit="1/s", group="database"),
        a_line(1, name="received", unit="1/s", group="throughput"),
    ]

    found = charts(a_run(series=series))

    assert [chart.title for chart in found] == ["Throughput, 1/s", "Database, rows", "Database, 1/s"]
    assert [[line.name for line in chart.lines] for chart in found] == [
        ["asked", "received"],
        ["dead rows"],
        ["commits"],
    ]
    assert [bool(chart.hint) for chart in found] == [True, True, False]
    assert len({chart.id for chart in found}) == 3


def test_each_stage_of_a_bench_has_charts_of_its_own() -> None:
    """Contenders stand beside each other, and not beside those of another stage."""
    series = [
        a_line(1, name="relay/ours", unit="1/s", group="throughput"),
        a_line(1, name="relay/ours relay", unit="µs", group="cpu"),
        a_line(1, name="accept/ours", unit="1/s", group="throughput"),
        a_line(1, name="relay/peer", unit="1/s", group="throughput"),
    ]

    found = charts(a_run(kind="bench", series=series))

    assert [chart.title for chart in found] == ["relay: Throughput, 1/s", "relay: CPU, µs", "accept: Throughput, 1/s"]
    assert [line.name for line in found[0].lines] == ["relay/ours", "relay/peer"]
    assert [bool(chart.hint) for chart in found] == [True, False, False]


def test_every_group_has_a_hint() -> None:
    """Also one that is added later."""
    assert set(HINTS) == set(Group.__args__)  # type: ignore[attr-defined]


def test_what_was_never_read_has_no_chart() -> None:
    """An empty plot says nothing."""
    assert charts(a_run(series=[a_line(None, math.nan), a_line()])) == []


@pytest.mark.parametrize(
    ("values", "group", "log"),
    [((1, 40), "latency", False), ((1, 50), "latency", True), ((1, 1000), "cpu", False), ((0, 0), "latency", False)],
)
def test_latencies_that_span_much_are_drawn_logarithmically(values: tuple[float, ...], group: Group, log: bool) -> None:
    """Or the highest percentile would hide the median."""
    (chart,) = charts(a_run(series=[a_line(*values, group=group)]))

    assert chart.log is log


def test_lines_read_at_the_same_instants_share_a_table() -> None:
    """Labels go with the columns, table by table."""
    series = [a_line(1, 2, name="a"), a_line(3, 4, name="b", every_s=5), a_line(5, None, name="c")]

    (chart,) = charts(a_run(series=series))

    drawn = for_browser(chart)
    assert drawn["labels"] == ["a", "c", "b"]
    assert drawn["tables"] == [[[0, 1], [1, 2], [5, None]], [[0, 5], [3, 4]]]


def test_a_logarithmic_axis_leaves_out_what_it_cannot_show() -> None:
    """There is no logarithm of 0; and no place for what is no number on any axis."""
    (logarithmic,) = charts(a_run(series=[a_line(0, 1, 100.123456, math.inf)]))

    assert for_browser(logarithmic)["tables"] == [[[0, 1, 2, 3], [None, 1, 100.12, None]]]


def test_a_line_in_figures() -> None:
    """Gaps do not count."""
    assert summary(a_line(4, None, 1, 2)) == Summary("a", 1, 2, 4, 2)
    assert summary(a_line(None)) == Summary("a", None, None, None, None)


def test_a_long_line_is_thinned_to_means_and_latencies_to_their_highest() -> None:
    """So that a comparison of averages does not hide that a percentile was high for a second."""
    values = [1.0, 3.0, None, None, 5.0, 9.0]

    assert thinned(a_line(*values, group="cpu"), 3) == ([0.83333, 2.5, 4.1667], [2, None, 7])
    assert thinned(a_line(*values, group="latency"), 3) == ([0.83333, 2.5, 4.1667], [3, None, 9])
    assert thinned(a_line(*values), 6) == ([0, 1, 2, 3, 4, 5], values)
