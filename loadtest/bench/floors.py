"""What a bare client costs: requests and messages built once, sent over kept connections by short protocols."""

import asyncio
import random
import time
from collections.abc import Callable
from typing import Any, Final

import uvloop

from loadtest.bench.bodies import text
from loadtest.bench.figures import Sample
from loadtest.bench.frame import BenchError
from loadtest.bench.http_client import drive, post
from loadtest.bench.receiving import receivers
from loadtest.bench.rig import Rig

_BODY_BYTES: Final = 600
_MAIL_BYTES: Final = 2_000


class RawWebhooks:
    """POSTs that were built once, by the bench's own client."""

    def __init__(self, rig: Rig, *, connections: int, seconds: float, seed: int) -> None:
        self.name, self.what = "bare client", f"POSTs built once, {connections} connections, no signature, no database"
        self._rig, self._connections, self._seconds = rig, connections, seconds
        self._request = post("/hooks/bench", text(random.Random(seed), _BODY_BYTES).encode())  # noqa: S311 - a body

    def setup(self) -> None:
        """Nothing is needed."""

    def round(self) -> Sample:
        """Send for a while."""
        with receivers(self._rig) as received:
            began_s = time.process_time()
            answers = uvloop.run(
                drive(received.hooks_port, [self._request], connections=self._connections, seconds=self._seconds)
            )
            cpu_s = time.process_time() - began_s
        answers.expect(200)
        return Sample(answers.count, answers.took_s, {"client": cpu_s})

    def teardown(self) -> None:
        """Nothing is left."""


class RawMail:
    """Messages that were built once, over kept connections, a command at a time."""

    def __init__(self, rig: Rig, *, connections: int, seconds: float, seed: int) -> None:
        self.name = "bare client"
        self.what = f"one message built once, {connections} kept connections, a command at a time, no database"
        self._rig, self._connections, self._seconds = rig, connections, seconds
        words = text(random.Random(seed), _MAIL_BYTES)  # noqa: S311 - a message
        self._message = b"Subject: bench\r\n\r\n" + words.encode() + b"\r\n.\r\n"

    def setup(self) -> None:
        """Nothing is needed."""

    def round(self) -> Sample:
        """Send for a while."""
        with receivers(self._rig) as received:
            began_s = time.process_time()
            count, took_s = uvloop.run(self._send(received.mail_port))
            cpu_s = time.process_time() - began_s
        return Sample(count, took_s, {"client": cpu_s})

    def teardown(self) -> None:
        """Nothing is left."""

    async def _send(self, port: int) -> tuple[int, float]:
        loop = asyncio.get_running_loop()
        began = time.perf_counter()
        steps = [b"EHLO bench\r\n", b"MAIL FROM:<a@example.org>\r\n", b"RCPT TO:<b@example.org>\r\n", b"DATA\r\n"]
        deadline = began + self._seconds
        sessions = []
        for _ in range(self._connections):
            ended: asyncio.Future[int] = loop.create_future()
            made = lambda ended=ended: _Session([*steps, self._message], deadline, ended)  # noqa: E731
            await loop.create_connection(made, "127.0.0.1", port)
            sessions.append(ended)
        counts = await asyncio.wait_for(asyncio.gather(*sessions), self._seconds + 30)
        return sum(counts), time.perf_counter() - began


class _Session(asyncio.Protocol):
    """Greeting, EHLO, then message after message; each answer is taken as a whole."""

    def __init__(self, steps: list[bytes], deadline: float, ended: "asyncio.Future[int]") -> None:
        self._steps, self._deadline, self._ended = steps, deadline, ended
        self._next = self._count = 0
        self._write: Callable[[bytes], Any] = lambda _: None
        self._close: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._write, self._close = transport.write, transport.abort  # type: ignore[attr-defined]  # uvloop's has both

    def connection_lost(self, exc: Exception | None) -> None:
        if not self._ended.done():
            self._ended.set_exception(BenchError(f"the mail server closed a connection: {exc}"))

    def data_received(self, data: bytes) -> None:
        if data[:1] not in b"23":
            self._ended.set_exception(BenchError(f"the mail server said {data!r}"))
            return
        if self._next == len(self._steps):
            self._count, self._next = self._count + 1, 1
            if time.perf_counter() >= self._deadline:
                self._ended.set_result(self._count)
                self._close()
                return
        self._write(self._steps[self._next])
        self._next += 1
