"""What looks add up to, and how limits are judged by it."""

from collections.abc import Callable, Mapping
from typing import Any

import pytest

from loadtest.histograms import Histogram
from loadtest.limits import COUNTS, GROWTHS, NAMES, NEEDS, OF_KIND, SERVICES, judge
from loadtest.measuring import Lines, Measured, draw
from loadtest.reconcile import Verdict
from loadtest.results import Group, Latency


def recorded(*ms: float) -> str:
    histogram = Histogram()
    for one in ms:
        histogram.record(round(one * 1000))
    return histogram.take()


def asked(**counts: Any) -> dict[str, Any]:
    nothing = {"requests": 0, "asked": 0, "accepted": 0, "late": 0, "under_way": 0, "measured": "", "beside": ""}
    return {**nothing, "lag": "", "refused": {}, "unanswered": {}, "doubtful": [], **counts}


def received(**counts: Any) -> dict[str, Any]:
    histograms = {name: {"email": "", "webhook": ""} for name in ("measured", "beside")}
    return {"received": {}, "again": 0, "refused": {}, "retries": {}, "foreign": 0, "astray": 0, **histograms, **counts}


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
    first["lag"] = recorded(1)
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
        "generator_lag": 1,
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
    ("verdict", "held"),
    [(Verdict(True, "7"), True), (Verdict(False, "1"), False), (Verdict(None, "?"), False), (None, False)],
)
def test_the_ledger_has_to_be_clean(verdict: Verdict | None, held: bool) -> None:
    """One that nobody could ask is not; who cannot ask has to say so, by `limits.ledger=false`."""
    assert judged({"ledger": 0}, ledger=verdict)["ledger"][1] is held
    assert judged({}, ledger=verdict) == {}


def plotted(group: Group, name: str, values: Callable[[int], float], lines: Lines | None = None) -> Lines:
    """A line of a run of 60 seconds, a point a second."""
    made = lines or Lines()
    for at_s in range(60):
        made.add(group, name, "", at_s, values(at_s))
    return made


def test_growth_compares_the_last_sixth_with_the_second() -> None:
    """Of an hour: the last ten minutes with those after the first ten."""
    lines = plotted("backlog", "outbox rows", lambda at_s: 9e9 if at_s < 10 else 2_000 if at_s < 50 else 2_200)

    assert judged({"outbox_rows_growth": 1.05}, lines=lines) == {"outbox_rows_growth": ("1.1 x", False)}


def test_what_cannot_be_judged_did_not_hold() -> None:
    """No line at all, or one of a service that was never seen."""
    limits = dict.fromkeys((*GROWTHS, "dead_rows_share", "wal_mib"), 1.5)
    lines = plotted("memory", "api_service", lambda _: 1.0)

    assert set(judged(limits, lines=lines).values()) == {("not measured", False)}


def test_nothing_that_stays_nothing_has_not_grown() -> None:
    """A lag of none is the best there is; and a little is no growth of it."""
    assert judged({"consumer_lag_growth": 1}, lines=plotted("backlog", "consumer lag", lambda _: 0.0)) == {
        "consumer_lag_growth": ("0 x", True)
    }
    few = plotted("backlog", "consumer lag", lambda at_s: at_s * 10)
    assert judged({"consumer_lag_growth": 1.5}, lines=few)["consumer_lag_growth"][1]


def test_an_outbox_that_grows_by_one_row_a_second_is_noticed_within_an_hour() -> None:
    """However small it begins."""
    lines = plotted("backlog", "outbox rows", lambda minute: minute * 60)

    assert not judged({"outbox_rows_growth": 1.5}, lines=lines)["outbox_rows_growth"][1]


def test_the_service_that_grew_most_is_judged() -> None:
    """Of ours: the servers' memory is theirs."""
    lines = plotted("memory", "kafka", lambda at_s: 100 + 10 * at_s)
    for name in SERVICES:
        plotted("memory", name, lambda at_s, name=name: 100 + at_s * (name == "outbox_relay"), lines)  # type: ignore[misc]

    assert judged({"memory_growth": 1.05}, lines=lines) == {"memory_growth": (f"{154.5 / 114.5:.4g} x", False)}


def test_dead_rows_of_a_healthy_hour_hold_and_those_of_an_outbox_that_is_not_vacuumed_do_not() -> None:
    """Autovacuum of large tables waits for a share of their rows, so with the rows what is dead grows threefold.

    Per minute at 1,500/s: `delivery_attempts` may have 0.2 of its rows dead, the outbox 20,000 and what a minute adds.
    """
    honest = plotted("database", "dead rows", lambda minute: 18_000 * minute + 20_000)
    plotted("database", "dead share of large tables", lambda minute: 0.5 if minute < 5 else 0.17, honest)
    plotted("database", "dead rows of outbox", lambda minute: 30_000 + minute % 3, honest)
    limits = {"outbox_dead_rows_growth": 1.5, "dead_rows_share": 0.25}
    assert [held for _, held in judged(limits, lines=honest).values()] == [True, True]

    held_back = plotted("database", "dead rows of outbox", lambda minute: 20_000 + 5_000 * minute)
    plotted("database", "dead share of large tables", lambda minute: 0.3 if minute > 50 else 0.1, held_back)
    assert [held for _, held in judged(limits, lines=held_back).values()] == [False, False]


def test_each_limit_that_an_installation_elsewhere_may_not_be_judged_by_is_known() -> None:
    """What generator and sink count themselves needs nothing; all else says what it needs."""
    own = {name for name in NAMES if name.startswith(("accept_", "receiver_", "generator_lag_"))}

    assert {*NEEDS, *COUNTS, *OF_KIND, *own} == NAMES


def test_a_ledger_that_nobody_verified_says_why() -> None:
    """There was a database, or it would have been refused: the run did not get so far."""
    assert judged({"ledger": 0}) == {"ledger": ("not verified: the run ended before it could be", False)}
