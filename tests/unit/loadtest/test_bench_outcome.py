"""What a run leaves behind: a result that can be read again, and a table."""

from rich.console import Console

from loadtest import results
from loadtest.bench.figures import Promise, Sample
from loadtest.bench.frame import Plan, Stage
from loadtest.bench.outcome import StageOutcome, result, table

STAGE = Stage(
    "relay",
    "Relay",
    lambda _rig, _plan: [],
    (Promise("relay beside the peer", "ours", at_least=4, beside=("peer",)), Promise("rate", "ours", at_least=1_000)),
)


def an_outcome() -> StageOutcome:
    """Two rounds of two contenders, and a third that was left out."""
    return StageOutcome(
        STAGE,
        {"ours": "the relay", "peer": "another", "gone": "a third"},
        {
            "ours": [Sample(1_000, 1.0, {"relay": 0.5}), Sample(1_200, 1.0, {"relay": 0.5})],
            "peer": [Sample(100, 1.0), Sample(400, 1.0)],
        },
        {"ours": [0.5, 3.0], "peer": [1.0, 2.0]},
        {"gone": "not installed"},
    )


def a_result(*, quick: bool = False, fault: str | None = None) -> results.RunResult:
    """The result of one stage."""
    found = an_outcome()
    found.fault = fault
    return result(
        [found],
        Plan(rounds=2, quick=quick, seed=3),
        command="python -m loadtest bench",
        started_at="2030-01-31T09:00:00+00:00",
        took_s=4.0,
        versions={"python": "3.11"},
        machine={"cores": 2},
        settings={"postgres/fsync": "on"},
        broken_off=None,
    )


def test_a_result_holds_each_round_and_each_promise() -> None:
    """Ratios by round are 10 and 3, their median 6.5; the rate is 1,100."""
    made = results.from_json(results.to_json(a_result()))

    assert [(one.promised, one.held) for one in made.limits] == [("≥ 4 × peer", True), ("≥ 1,000", True)]
    assert made.limits[0].measured == "6.5 (3–10) ×"
    rates = {one.name: one.values for one in made.series if one.group == "throughput"}
    assert rates == {"relay/ours": [1_000.0, 1_200.0], "relay/peer": [100.0, 400.0]}
    assert made.held


def test_other_figures_are_drawn_where_they_belong() -> None:
    """By the unit at the end of their names."""
    found = an_outcome()
    figures = {"p99_ms": 4.0, "all_mib": 90.0, "wal_bytes": 2_000.0, "core_percent": 2.0}
    found.samples = {"ours": [Sample(0, 1.0, {}, figures)]}

    made = result([found], Plan(rounds=1, quick=False, seed=3), command="", started_at="2030-01-31T09:00:00+00:00",
                  took_s=1.0, versions={}, machine={}, settings={}, broken_off=None)  # fmt: skip

    drawn = {series.name.rpartition(" ")[2]: (series.group, series.unit) for series in made.series[1:]}
    assert drawn == {
        "p99_ms": ("latency", "ms"),
        "all_mib": ("memory", "MiB"),
        "wal_bytes": ("database", "bytes"),
        "core_percent": ("cpu", "percent"),
    }


def test_a_quick_run_judges_nothing() -> None:
    """Its sizes are too small."""
    made = a_result(quick=True)

    assert made.limits == []
    assert made.notes[0].startswith("quick sizes")


def test_a_stage_that_broke_breaks_the_result() -> None:
    """What was measured until then is in it all the same."""
    made = a_result(fault="the API closed a connection")

    assert made.broken_off == "relay: the API closed a connection"
    assert not made.held
    assert made.series


def test_who_was_left_out_is_said() -> None:
    """Nobody should take its absence for a victory."""
    assert "relay/gone was left out: not installed" in a_result().notes


def test_a_table_names_everybody() -> None:
    """Contenders with their figures, promises with their verdicts."""
    console = Console(width=200, record=True, file=None, quiet=False)
    with console.capture() as captured:
        console.print(table(an_outcome(), quick=False))

    text = captured.get()
    assert "1,100 (1,000–1,200)" in text
    assert "left out" in text
    assert text.count("held") == 2
