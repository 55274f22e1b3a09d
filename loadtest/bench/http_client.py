"""A small HTTP/1.1 client over kept connections that takes little CPU itself: prebuilt requests, bare protocols.

`drive` keeps each connection busy (closed loop): it finds how much a server can do. `pace` begins each request at its
own instant, whatever the answers do (open loop), and counts from that instant: it finds how long a client waits.
"""

import asyncio
import math
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from loadtest.bench.frame import BenchError

_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_LATE_S: Final = 30.0


@dataclass(slots=True)
class Answers:
    """What a run of requests gave; latencies in seconds."""

    took_s: float = 0.0
    statuses: Counter[int] = field(default_factory=Counter)
    latencies_s: list[float] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)  # of paced requests, in the order they were asked

    @property
    def count(self) -> int:
        """How many answers came."""
        return self.statuses.total()

    def expect(self, status: int) -> None:
        """Raise BenchError unless every answer had this status."""
        if not self.count or set(self.statuses) != {status}:
            raise BenchError(f"answers by status: {dict(self.statuses)}; expected only {status}")


def post(path: str, body: bytes, *, content_type: str = "application/json", api_key: str | None = None) -> bytes:
    """Return a whole POST as it goes over the wire."""
    lines = [
        f"POST {path} HTTP/1.1",
        "Host: 127.0.0.1",
        f"Content-Type: {content_type}",
        f"Content-Length: {len(body)}",
        *([f"Authorization: Bearer {api_key}"] if api_key else ()),
    ]
    return ("\r\n".join(lines) + "\r\n\r\n").encode("ascii") + body


class _Connection(asyncio.Protocol):
    """One request at a time; `on_answer` is called with status and body."""

    def __init__(self, on_answer: Callable[["_Connection", int, bytes], None], on_lost: Callable[[], None]) -> None:
        self._on_answer, self._on_lost = on_answer, on_lost
        self._buffer = bytearray()
        self._transport: asyncio.WriteTransport | None = None
        self.asked_at = 0.0
        self.number = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = transport  # type: ignore[assignment]  # uvloop's is one in all but its class

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        self._on_lost()

    def ask(self, request: bytes) -> None:
        """Send a request."""
        if self._transport is not None:
            self._transport.write(request)

    def data_received(self, data: bytes) -> None:
        self._buffer += data
        end = self._buffer.find(b"\r\n\r\n")
        if end < 0:
            return
        length = _LENGTH.search(self._buffer, 0, end + 2)
        total = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < total:
            return
        status, body = int(self._buffer[9:12]), bytes(self._buffer[end + 4 : total])
        del self._buffer[:total]
        self._on_answer(self, status, body)

    def close(self) -> None:
        """Close without a word."""
        if self._transport is not None:
            self._transport.abort()


class _Drive:
    """A closed loop: each connection asks again as soon as it is answered."""

    def __init__(self, requests: Sequence[bytes], *, count: int | None) -> None:
        self.answers = Answers()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.deadline = float("inf")
        self._requests, self._count = requests, count
        self._asked = self._under_way = 0

    def ask(self, connection: _Connection) -> None:
        """Ask once more, unless that was all."""
        if self.ended.done() or self._asked == self._count or time.perf_counter() >= self.deadline:
            if not self._under_way and not self.ended.done():
                self.ended.set_result(None)
            return
        request = self._requests[self._asked % len(self._requests)]
        self._asked, self._under_way = self._asked + 1, self._under_way + 1
        connection.asked_at = time.perf_counter()
        connection.ask(request)

    def answered(self, connection: _Connection, status: int, _body: bytes) -> None:
        """Count an answer and go on."""
        self._under_way -= 1
        self.answers.statuses[status] += 1
        self.answers.latencies_s.append(time.perf_counter() - connection.asked_at)
        self.ask(connection)

    def lost(self) -> None:
        """End: a connection was closed by the other side."""
        _fail(self.ended, self.answers)


async def drive(
    port: int,
    requests: Sequence[bytes],
    *,
    connections: int,
    seconds: float | None = None,
    count: int | None = None,
) -> Answers:
    """Keep `connections` busy with `requests`, over and over, for so long or so many; then wait for what is asked.

    Raises BenchError when a connection is lost.
    """
    loop = _Drive(requests, count=count)
    opened = [await _open(port, loop.answered, loop.lost) for _ in range(connections)]
    began = time.perf_counter()
    if seconds is not None:
        loop.deadline = began + seconds
    for connection in opened:
        loop.ask(connection)
    await _until(loop.ended, opened, timeout_s=(seconds or 600.0) + _LATE_S)
    loop.answers.took_s = time.perf_counter() - began
    return loop.answers


class _Pace:
    """An open loop: each request begins at its own instant; one that finds no free connection waits for one."""

    def __init__(self, requests: Sequence[bytes], instants: Sequence[float]) -> None:
        self.answers = Answers(latencies_s=[0.0] * len(instants), bodies=[b""] * len(instants))
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self.free: deque[_Connection] = deque()
        self._waiting: deque[int] = deque()
        self._requests, self._instants = requests, instants

    def begin(self, number: int) -> None:
        """Ask, or wait for a connection."""
        if self.free:
            self._ask(self.free.popleft(), number)
        else:
            self._waiting.append(number)

    def _ask(self, connection: _Connection, number: int) -> None:
        connection.number = number
        connection.ask(self._requests[number % len(self._requests)])

    def answered(self, connection: _Connection, status: int, body: bytes) -> None:
        """Keep an answer, counted from its request's own instant, and go on."""
        number = connection.number
        self.answers.statuses[status] += 1
        self.answers.latencies_s[number] = time.monotonic() - self._instants[number]
        self.answers.bodies[number] = body
        if self.answers.count == len(self._instants) and not self.ended.done():
            self.ended.set_result(None)
        elif self._waiting:
            self._ask(connection, self._waiting.popleft())
        else:
            self.free.append(connection)

    def lost(self) -> None:
        """End: a connection was closed by the other side."""
        _fail(self.ended, self.answers)


async def pace(
    port: int, requests: Sequence[bytes], *, per_s: float, count: int, connections: int = 64
) -> tuple[Answers, list[float]]:
    """Ask `count` times, `per_s` a second, each at its own instant; return answers and those instants.

    Instants are seconds of the machine's monotonic clock, which the receivers read too; the event loop's own counts
    whole milliseconds. Latencies and bodies are in the order of the instants.

    Raises BenchError when a connection is lost.
    """
    began = time.monotonic() + 0.2
    instants = [began + number / per_s for number in range(count)]
    paced = _Pace(requests, instants)
    opened = [await _open(port, paced.answered, paced.lost) for _ in range(connections)]
    paced.free.extend(opened)
    beginning = asyncio.create_task(_begin(paced, instants))
    try:
        await _until(paced.ended, opened, timeout_s=count / per_s + _LATE_S)
    finally:
        beginning.cancel()
    paced.answers.took_s = time.monotonic() - began
    return paced.answers, instants


async def _begin(paced: _Pace, instants: Sequence[float]) -> None:
    """Begin each request at its instant, or as soon after it as the loop can; never before."""
    for number, instant in enumerate(instants):
        while (early_s := instant - time.monotonic()) > 0:
            await asyncio.sleep(math.ceil(early_s * 1_000) / 1_000)  # the loop's timers count milliseconds
        paced.begin(number)
        if number % 64 == 0:
            await asyncio.sleep(0)  # one that is behind its instants must still read answers


async def _open(
    port: int, on_answer: Callable[[_Connection, int, bytes], None], on_lost: Callable[[], None]
) -> _Connection:
    loop = asyncio.get_running_loop()
    _, connection = await loop.create_connection(lambda: _Connection(on_answer, on_lost), "127.0.0.1", port)
    return connection


async def _until(ended: "asyncio.Future[None]", opened: Sequence[_Connection], *, timeout_s: float) -> None:
    try:
        await asyncio.wait_for(ended, timeout_s)
    except TimeoutError as error:
        raise BenchError(f"not all was answered within {timeout_s:.0f} s") from error
    finally:
        if not ended.done():
            ended.cancel()
        for connection in opened:
            connection.close()


def _fail(ended: "asyncio.Future[None]", answers: Answers) -> None:
    if not ended.done():
        ended.set_exception(BenchError(f"the server closed a connection after {answers.count} answers"))
