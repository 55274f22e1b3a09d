"""The bench's client: what is asked when, and from which instant an answer is counted."""

import asyncio
import time
from collections.abc import Callable
from typing import Any, cast

import pytest

from loadtest.bench.frame import BenchError
from loadtest.bench.http_client import Answers, _begin, _Connection, _Drive, _Pace, post


class Wire:
    """A connection that notes what it is asked."""

    def __init__(self) -> None:
        self.asked: list[bytes] = []
        self.number, self.asked_at = 0, 0.0

    def ask(self, request: bytes) -> None:
        self.asked.append(request)


def run(test: Callable[[], Any]) -> Any:
    """Run something inside an event loop."""

    async def inside() -> Any:
        return test()

    return asyncio.run(inside())


def wire() -> tuple[Wire, _Connection]:
    """One wire, as itself and as what it stands in for."""
    made = Wire()
    return made, cast(_Connection, made)


def test_a_request_is_whole() -> None:
    """Head, length, body."""
    assert post("/x", b"{}") == (
        b"POST /x HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{}"
    )


def test_an_answer_in_pieces_is_one_answer() -> None:
    """Split within the head, and within the body; the next one begins where it ended."""
    found: list[tuple[int, bytes]] = []
    connection = _Connection(lambda _, status, body: found.append((status, body)), lambda: None)

    for piece in (b"HTTP/1.1 202 Acc", b"epted\r\nContent-Length: 4\r\n\r", b"\n{}", b"[]"):
        connection.data_received(piece)
    connection.data_received(b"HTTP/1.1 204 None\r\n\r\n")

    assert found == [(202, b"{}[]"), (204, b"")]


def test_a_closed_loop_asks_again_when_it_is_answered_and_ends_with_the_last() -> None:
    """Three of two requests in turn, over one connection."""

    def check() -> None:
        drive = _Drive([b"a", b"b"], count=3)
        asked, connection = wire()
        drive.ask(connection)
        for _ in range(3):
            drive.answered(connection, 202, b"")

        assert asked.asked == [b"a", b"b", b"a"]
        assert drive.ended.done()
        assert drive.answers.count == 3

    run(check)


def test_a_closed_loop_waits_for_what_is_under_way() -> None:
    """At its deadline one of two connections is still unanswered."""

    def check() -> None:
        drive = _Drive([b"a"], count=None)
        (_, one), (_, other) = wire(), wire()
        drive.ask(one)
        drive.ask(other)
        drive.deadline = 0.0

        drive.answered(one, 202, b"")
        ended_early = drive.ended.done()
        drive.answered(other, 202, b"")

        assert not ended_early
        assert drive.ended.done()

    run(check)


def test_a_request_that_could_not_begin_in_time_is_counted_from_its_own_instant() -> None:
    """The one connection is busy for ten seconds: the second request, due after one, has waited nine by then."""

    def check() -> None:
        now = time.monotonic()
        pace = _Pace([b"a", b"b"], [now - 10, now - 9])
        asked, connection = wire()
        pace.free.append(connection)
        pace.begin(0)
        pace.begin(1)
        before = list(asked.asked)
        pace.answered(connection, 202, b"first")
        pace.answered(connection, 202, b"second")

        assert before == [b"a"]
        assert asked.asked == [b"a", b"b"]
        assert pace.answers.bodies == [b"first", b"second"]
        assert [round(latency) for latency in pace.answers.latencies_s] == [10, 9]
        assert pace.ended.done()

    run(check)


def test_no_paced_request_begins_before_its_instant() -> None:
    """Its latency would be too short by as much; the instants are those of the clock that the receivers read."""

    async def check() -> list[float]:
        instants = [time.monotonic() + 0.0051 * number for number in range(1, 6)]
        early: list[float] = []

        class Begun:
            def begin(self, number: int) -> None:
                early.append(instants[number] - time.monotonic())

        await _begin(cast(_Pace, Begun()), instants)
        return early

    early = asyncio.run(check())

    assert len(early) == 5
    assert max(early) <= 0


def test_answers_other_than_expected_are_an_error() -> None:
    """A contender that refuses half of its work must not look fast."""
    answers = Answers()
    answers.statuses.update([202, 202, 503])

    with pytest.raises(BenchError, match="503"):
        answers.expect(202)
    with pytest.raises(BenchError):
        Answers().expect(202)


def test_a_lost_connection_ends_the_run() -> None:
    """What came until then would be counted over too long a time."""

    def check() -> None:
        drive = _Drive([b"a"], count=None)
        drive.lost()

        with pytest.raises(BenchError, match="closed a connection"):
            drive.ended.result()

    run(check)
