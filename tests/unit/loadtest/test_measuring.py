"""What looks add up to, and how limits are judged by it."""

from collections.abc import Mapping
from typing import Any

import pytest

from loadtest.histograms import Histogram
from loadtest.limits import growth, judge, mean
from loadtest.measuring import Lines, Measured, draw
from loadtest.reconcile import Verdict
from loadtest.results import Latency
from loadtest.sampling import exposed


def recorded(*ms: float) -> str:
    histogram = Histogram()
    for one in ms:
        histogram.record(round(one * 1000))
    return histogram.take()


def asked(**counts: Any) -> dict[str, Any]:
    nothing = {"requests": 0, "asked": 0, "accepted": 0, "late": 0, "under_way": 0, "measured": "", "beside": ""}
    return {**nothing, "refused": {}, "unanswered": {}, "doubtful": [], **counts}


def received(**counts: Any) -> dict[str, Any]:
    histograms = {name: {"email": "", "webhook": ""} for name in ("measured", "beside")}
    return {"received": {}, "again": 0, "refused": {}, "retries": 0, "foreign": 0, **histograms, **counts}


def test_histograms_keep_three_digits_and_add_up_without_loss() -> None:
    """Seconds recorded in two processes are one figure in the report."""
    both = Histogram()
    both.add(recorded(*(float(ms) for ms in range(1, 1001, 2))))
    both.add(recorded(*(float(ms) for ms in range(2, 1001, 2))))
    both.add("")

    latency = both.latency("accept")
    assert latency is not None
    assert latency.count == 1000
    figures = (latency.p50, latency.p90, latency.p99, latency.p999, latency.max)
    assert figures == pytest.approx((500, 900, 990, 999, 1000), rel=0.002)
    assert Histogram().latency("accept") is None
    assert Histogram().ms(99) is None


def test_looks_add_up_over_processes_and_seconds() -> None:
    """Latencies of the measured time make the figures, all of them the plots."""
    measured = Measured()
    first = asked(asked=10, accepted=8, requests=10, refused={"503": 2}, measured=recorded(5), beside=recorded(50))
    sink = received(received={"webhook": 6}, measured={"webhook": recorded(9, 9, 9), "email": ""})
    look = measured.add([first, asked(asked=5, accepted=5)], sink, at_s=1.0, took_s=0.5)
    measured.add(
        [asked(unanswered={"timeout": 3}, doubtful=[[7, 3]])], received(received={"email": 7}), at_s=2, took_s=1
    )

    assert look.per_s("asked") == 30
    assert (look.accept.count, look.receiver.count) == (2, 3)
    assert (measured.counts["accepted"], measured.counts["received"], measured.backlog) == (13, 13, 0)
    assert (measured.counts["refused"], measured.counts["unanswered"]) == (2, 3)
    assert measured.doubtful == [(7, 3)]
    assert {one.name: one.count for one in measured.latencies()} == {
        "accept": 1,
        "accept_to_receiver": 3,
        "accept_to_receiver_webhook": 3,
    }


def test_a_look_is_drawn_with_gaps_where_nothing_was_measured() -> None:
    """A second without answers has no latency, not one of nothing."""
    measured, lines = Measured(), Lines()
    draw(lines, measured.add([asked(asked=4)], received(), at_s=1.0, took_s=2.0), backlog=4)

    by_name = {line.name: line for line in lines.all()}
    assert by_name["asked"].values == [2.0]
    assert by_name["accept p99"].values == [None]
    assert by_name["accepted, not received"].values == [4]
    assert lines.points("latency", "accept p99") == []


def judged(limits: Mapping[str, float], **given: Any) -> dict[str, tuple[str, bool]]:
    nothing: dict[str, Any] = {"counts": {}, "latencies": [], "lines": Lines(), "idle": {}, "ledger": None}
    found = judge(limits, **{**nothing, **given}, load_from_s=0, load_to_s=60)
    return {limit.name: (limit.measured, limit.held) for limit in found}


def test_counts_and_latencies_are_judged_by_their_limits() -> None:
    """What was not measured did not hold."""
    latencies = [Latency("accept_to_receiver", 100, 10.0, 20.0, 60.0, 70.0, 80.0)]
    limits = {"lost": 0, "doubled": 0, "refused": 0, "receiver_p50_ms": 12, "receiver_p99_ms": 50, "accept_p99_ms": 9}

    assert judged(limits, counts={"lost": 0, "doubled": 1}, latencies=latencies) == {
        "lost": ("0", True),
        "doubled": ("1", False),
        "refused": ("not measured", False),
        "receiver_p50_ms": ("10 ms", True),
        "receiver_p99_ms": ("60 ms", False),
        "accept_p99_ms": ("not measured", False),
    }


def test_capacity_and_idleness_are_judged() -> None:
    """From below, and from above."""
    found = judged(
        {"capacity_per_s": 5000, "idle_cpu_percent": 3, "idle_process_mib": 120},
        counts={"capacity_per_s": 5200},
        idle={"idle_cpu_percent": 3.2},
    )

    assert [held for _, held in found.values()] == [True, False, False]


@pytest.mark.parametrize(
    ("verdict", "held"), [(Verdict(True, "7"), True), (Verdict(False, "1"), False), (Verdict(None, "?"), False)]
)
def test_the_ledger_has_to_be_clean_whatever_the_profile_says(verdict: Verdict, held: bool) -> None:
    """Where it could be asked at all."""
    assert judged({}, ledger=verdict)["ledger"][1] is held


def test_growth_compares_the_last_sixth_with_the_second() -> None:
    """Of an hour: the last ten minutes with those after the first ten."""
    points = [(float(at_s), 100.0 if at_s < 50 else 110.0) for at_s in range(60)]

    assert growth(points, 0, 60, fold=mean) == pytest.approx(1.1)
    assert growth(points, 0, 60, fold=max) == pytest.approx(1.1)
    assert growth(points[:30], 0, 60, fold=mean) is None
    assert growth([(at_s, 0.0) for at_s, _ in points], 0, 60, fold=max) is None


def test_memory_and_dead_rows_are_judged_by_the_part_that_grew_most() -> None:
    """Of ours: the servers' memory is theirs."""
    lines = Lines()
    for at_s in range(60):
        lines.add("memory", "outbox_relay", "MiB", at_s, 50)
        lines.add("memory", "api_service", "MiB", at_s, 100 + at_s)
        lines.add("memory", "kafka", "MiB", at_s, 100 + 10 * at_s)
        lines.add("database", "dead rows", "rows", at_s, 5 if at_s % 2 else 10)

    found = judged({"memory_growth": 1.05, "dead_rows_growth": 1.5}, lines=lines)
    assert found["memory_growth"] == (f"{154.5 / 114.5:.4g} x", False)
    assert found["dead_rows_growth"] == ("1 x", True)


def test_series_are_read_from_an_exposition() -> None:
    """Whatever labels they have; comments and longer names are others."""
    text = (
        "# HELP kafka_consumer_lag Records\n# TYPE kafka_consumer_lag gauge\n"
        'kafka_consumer_lag{partition="0",topic="a"} 3.0\nkafka_consumer_lag{partition="1",topic="a"} 1e+03\n'
        "kafka_consumer_lag_more 9.0\noutbox_depth_rows 12.0\n"
    )

    assert exposed(text, "kafka_consumer_lag") == [3.0, 1000.0]
    assert exposed(text, "outbox_depth_rows") == [12.0]
    assert exposed(text, "nothing") == []
