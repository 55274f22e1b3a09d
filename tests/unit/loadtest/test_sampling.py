"""What is looked at each second, and how it is shown."""

import os
import subprocess
import sys
from collections import Counter
from collections.abc import Callable
from types import SimpleNamespace
from typing import Any

import httpx
import psycopg
import pytest

from loadtest import sampling
from loadtest.measuring import Lines, Measured
from loadtest.progress import Lines as LineView
from loadtest.progress import figures, view
from loadtest.sampling import DatabaseFigures, Meter, Sampler
from tests.unit.loadtest.fakes import a_look

METRICS = (
    "# TYPE outbox_depth_rows gauge\noutbox_depth_rows 7.0\noutbox_oldest_age_seconds 0.5\n"
    'kafka_consumer_lag{partition="0"} 4.0\nkafka_consumer_lag{partition="1"} 2.0\n'
)


def a_sampler(answer: Callable[[httpx.Request], httpx.Response], **given: Any) -> tuple[Sampler, Lines]:
    lines = Lines()
    urls = {"outbox_relay": ["http://a", "http://b"], "delivery_consumer": ["http://c", "http://d"]}
    nothing: dict[str, Any] = {"clock": lambda: 1.0, "parts": {}, "metrics": urls, "database_url": None, "every_s": 1.0}
    sampler = Sampler(lines, **{**nothing, **given})
    sampler._http = httpx.Client(transport=httpx.MockTransport(answer))
    return sampler, lines


def test_a_process_is_measured_with_all_it_started() -> None:
    """CPU since the last reading, memory and handles now; the first reading has no CPU."""
    meter = Meter([os.getpid()])

    first = meter.read(10.0)
    sum(range(300_000))
    second = meter.read(10.5)

    assert first.cpu_percent is None
    assert second.cpu_percent is not None
    assert second.cpu_percent >= 0
    assert 0 < second.largest_mib <= second.mib * 1.01
    assert second.files > 0
    assert second.threads > 0


def test_the_work_of_a_child_that_has_ended_counts() -> None:
    """Such as a backend's, an autovacuum worker's, or that of an API worker which was replaced."""
    meter = Meter([os.getpid()])
    meter.read(10.0)

    subprocess.run([sys.executable, "-c", "sum(range(20_000_000))"], check=True)

    percent = meter.read(11.0).cpu_percent
    assert percent is not None
    assert percent > 10


def test_a_process_that_has_ended_is_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    """A run whose parts die is ended by whoever looks after them, not by the one who counts."""
    meter = Meter([os.getpid()])
    monkeypatch.setattr(meter, "_processes", list)

    assert meter.read(1.0) == (None, 0, 0, 0, 0)


def test_metrics_of_several_processes_are_folded() -> None:
    """Depth is seen by every relay, lag is shared among consumers; one that does not answer is left out."""

    def answer(request: httpx.Request) -> httpx.Response:
        if request.url.host == "b":
            raise httpx.ConnectError("gone")
        if request.url.host == "d":
            return httpx.Response(503, text="come back later")
        return httpx.Response(200, text=METRICS)

    sampler, lines = a_sampler(answer)
    sampler.look()

    assert lines.points("backlog", "outbox rows") == [(1.0, 7.0)]
    assert lines.points("backlog", "consumer lag") == [(1.0, 6.0)]
    assert lines.points("lag", "oldest outbox row") == [(1.0, 0.5)]


def test_services_are_left_alone_while_their_idleness_is_measured() -> None:
    """Answering /metrics is work."""
    asked: list[str] = []

    def answer(request: httpx.Request) -> httpx.Response:
        asked.append(request.url.host)
        return httpx.Response(200, text=METRICS)

    sampler, lines = a_sampler(answer, parts={"outbox_relay": [os.getpid()]})
    sampler.leaves_services_alone = True
    sampler.look()

    assert asked == []
    assert lines.names("memory") == ["outbox_relay"]
    assert sampler.largest_process_mib > 0


class Conn:
    """A connection that answers with rows, one per question."""

    def __init__(self, *rows: tuple[Any, ...]) -> None:
        self._rows = list(rows)
        self.closed = False

    def execute(self, _query: str, _given: Any) -> Any:
        if not self._rows:
            raise psycopg.OperationalError("gone")
        row = self._rows.pop(0)
        return SimpleNamespace(fetchone=lambda: row)

    def close(self) -> None:
        self.closed = True


def test_the_databases_counters_become_rates(monkeypatch: pytest.MonkeyPatch) -> None:
    """And a connection that was lost is made anew."""
    mib = sampling.MIB
    conns = [Conn((100, 0, 5, 9, 16, 3, 2, None), (300, 4 * mib, 5, 9, 16, 8, 2, 0.1)), Conn()]
    made = iter(conns)
    monkeypatch.setattr(psycopg, "connect", lambda *_, **__: next(made))
    lines, figures = Lines(), DatabaseFigures("postgresql://x")

    figures.read(lines, 1.0)
    figures.read(lines, 3.0)
    for _ in range(2):
        with pytest.raises(psycopg.OperationalError):
            figures.read(lines, 4.0)

    assert lines.points("database", "commits") == [(3.0, 100.0)]
    assert lines.points("database", "WAL written") == [(3.0, 2.0)]
    assert lines.points("database", "dead rows") == [(1.0, 3.0), (3.0, 8.0)]
    assert lines.points("database", "dead share of large tables") == [(3.0, 0.1)]
    assert [conn.closed for conn in conns] == [True, True]


def a_running() -> Any:
    sampler = SimpleNamespace(now={"cpu kafka": 31.0, "cpu sink": 2.0, "outbox rows": 12.0, "consumer lag": 3.0})
    measured = Measured()
    measured.counts = Counter(accepted=1_200, received=1_000)
    return SimpleNamespace(sampler=sampler, measured=measured)


def test_the_live_view_shows_rates_latencies_backlog_and_lag() -> None:
    """What was not measured in this second is a dash."""
    shown = dict(figures(a_look(3.0, asked=500, accepted=480, received=470), a_running()))

    assert shown["asked · accepted · received /s"] == "500 · 480 · 470"
    assert shown["accept p50 · p99"] == "- · -"
    assert shown["backlog"].startswith("200 not received")
    assert shown["outbox · consumer lag"] == "12 rows · 3 records"
    assert shown["CPU, % of a core"] == "kafka 31, sink 2"


def test_a_log_gets_a_line_every_few_seconds(capsys: pytest.CaptureFixture[str]) -> None:
    """And each phase; a terminal would get a table."""
    with view("load smoke") as shown:
        assert isinstance(shown, LineView)
        shown.phase("the load begins")
        for at_s in range(12):
            shown.show(a_look(float(at_s), asked=5), a_running())

    lines = capsys.readouterr().out.splitlines()
    assert lines[:2] == ["load smoke", "  the load begins"]
    assert len(lines) == 2 + 3
