"""A raw HTTP/1.1 client for the generator: kept connections, one request at a time on each, and no opinion.

A request that finds no free connection waits for one, first come, first served; its latency counts from the instant it
was meant to start all the same. Nothing is repeated: a request without an answer has none.
"""

import asyncio
import re
import ssl
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

IDLE_S: Final = 5.0
"""An idle connection older than this is closed rather than used: a server's own limit might be near."""
_SWEEP_S: Final = 0.25
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d+)")
_CHUNKED: Final = re.compile(rb"(?i)\r\ntransfer-encoding:[ \t]*chunked")
_CLOSE: Final = re.compile(rb"(?i)\r\nconnection:[ \t]*close")


@dataclass(slots=True)
class Exchange:
    """One request on its way."""

    content: Callable[[], bytes]  # head and body, asked for when it goes out
    ended: Callable[[int | None, bytes], None]  # gets status and body; None and the reason where there is no answer


class Connection(asyncio.Protocol):
    """One connection to the API."""

    def __init__(self, client: "Client") -> None:
        self._client = client
        self._transport: asyncio.Transport | None = None
        self._buffer = bytearray()
        self.exchange: Exchange | None = None
        self.since = 0.0  # when it became idle, or began its exchange

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take up the first exchange."""
        self._transport = transport  # type: ignore[assignment]
        self._client.free(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """What was on its way has no answer."""
        self._transport = None
        exchange, self.exchange = self.exchange, None
        self._client.gone(self, exchange, type(exc).__name__ if exc else "closed")

    def send(self, exchange: Exchange, now: float) -> None:
        """Write a request."""
        assert self._transport is not None  # noqa: S101 - only open connections are handed out
        self.exchange, self.since = exchange, now
        self._transport.write(exchange.content())

    def data_received(self, data: bytes) -> None:
        """Look for a whole answer."""
        self._buffer += data
        try:
            answer = read_answer(self._buffer)
        except ValueError:
            self.abort()
            return
        if answer is None:
            return
        status, body, used, close = answer
        del self._buffer[:used]
        exchange, self.exchange = self.exchange, None
        if exchange is not None:
            exchange.ended(status, body)
        if close or exchange is None:
            self.abort()
        else:
            self._client.free(self)

    def abort(self) -> None:
        """Close at once."""
        if self._transport is not None:
            self._transport.abort()

    @property
    def usable(self) -> bool:
        """Say whether a request may be written to it."""
        return self._transport is not None and not self._transport.is_closing()


Connector = Callable[[Callable[[], Connection]], Awaitable[object]]


class Client:
    """At most `connections` connections to one base URL."""

    def __init__(
        self, base_url: str, *, connections: int, timeout_s: float, connector: Connector | None = None
    ) -> None:
        parts = urlsplit(base_url)
        tls = parts.scheme == "https"
        self.host, self._port = parts.hostname or "", parts.port or (443 if tls else 80)
        self._tls = ssl.create_default_context() if tls else None
        self.prefix, self.authority = parts.path.rstrip("/"), parts.netloc.rpartition("@")[2]
        self._most, self._timeout_s = connections, timeout_s
        self._idle: list[Connection] = []
        self._busy: set[Connection] = set()
        self._opening = 0
        self._tasks: set[asyncio.Task[None]] = set()
        self._waiting: deque[Exchange] = deque()
        self._loop = asyncio.get_running_loop()
        self._connector = connector or self._create_connection
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)

    @property
    def under_way(self) -> int:
        """How many requests have neither an answer nor none."""
        return len(self._busy) + len(self._waiting)

    def request(self, exchange: Exchange) -> None:
        """Send a request now, or as soon as a connection is free."""
        now = self._loop.time()
        while self._idle:
            connection = self._idle.pop()
            if connection.usable and now - connection.since < IDLE_S:
                self._busy.add(connection)
                connection.send(exchange, now)
                return
            connection.abort()
        self._waiting.append(exchange)
        if len(self._busy) + self._opening < self._most and self._opening < len(self._waiting):
            self._open()

    def free(self, connection: Connection) -> None:
        """Give a connection its next request, or let it rest."""
        now = self._loop.time()
        if self._waiting:
            self._busy.add(connection)
            connection.send(self._waiting.popleft(), now)
        else:
            self._busy.discard(connection)
            connection.since = now
            self._idle.append(connection)

    def gone(self, connection: Connection, exchange: Exchange | None, reason: str) -> None:
        """Forget a connection that was lost; open another if somebody waits for one."""
        self._busy.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        if exchange is not None:
            exchange.ended(None, reason.encode())
        if self._waiting and len(self._busy) + self._opening < self._most:
            self._open()

    def close(self) -> None:
        """Close everything; what is under way ends without an answer, what waits was never sent."""
        self._sweeper.cancel()
        while self._waiting:
            self._waiting.popleft().ended(None, b"never_sent")
        for connection in [*self._idle, *self._busy]:
            connection.abort()

    def _open(self) -> None:
        self._opening += 1
        task = self._loop.create_task(self._connect())
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def _connect(self) -> None:
        try:
            async with asyncio.timeout(self._timeout_s):
                await self._connector(lambda: Connection(self))
        except (OSError, TimeoutError) as error:
            if self._waiting:
                self._waiting.popleft().ended(None, type(error).__name__.encode())
            if self._waiting and not self._idle and not self._busy:
                self._loop.call_later(_SWEEP_S, self._open_if_needed)
        finally:
            self._opening -= 1

    async def _create_connection(self, make: Callable[[], Connection]) -> object:
        name = self.host if self._tls else None
        return await self._loop.create_connection(make, self.host, self._port, ssl=self._tls, server_hostname=name)

    def _open_if_needed(self) -> None:
        if self._waiting and len(self._busy) + self._opening < self._most:
            self._open()

    def _sweep(self) -> None:
        """End what has waited for its answer for too long."""
        before = self._loop.time() - self._timeout_s
        for connection in [one for one in self._busy if one.since < before]:
            exchange, connection.exchange = connection.exchange, None
            if exchange is not None:
                exchange.ended(None, b"timeout")
            connection.abort()
        self._sweeper = self._loop.call_later(_SWEEP_S, self._sweep)


def read_answer(buffer: bytearray) -> tuple[int, bytes, int, bool] | None:
    """Return status, body, bytes used and whether the server closes; None while it is incomplete.

    Raises ValueError for what is no answer that keeps a connection.
    """
    end = buffer.find(b"\r\n\r\n")
    if end < 0:
        return None
    head = bytes(buffer[: end + 2])
    if not head.startswith(b"HTTP/1.") or not head[9:12].isdigit():
        raise ValueError("this is no HTTP/1 answer")
    status, begin = int(head[9:12]), end + 4
    if found := _LENGTH.search(head):
        used = begin + int(found[1])
        if len(buffer) < used:
            return None
        body = bytes(buffer[begin:used])
    elif _CHUNKED.search(head):
        chunked = _chunks(buffer, begin)
        if chunked is None:
            return None
        body, used = chunked
    elif status in (204, 304):
        body, used = b"", begin
    else:
        raise ValueError("an answer without a length ends with its connection")
    return status, body, used, _CLOSE.search(head) is not None


def _chunks(buffer: bytearray, at: int) -> tuple[bytes, int] | None:
    """Read a chunked body without trailers (RFC 9112 §7.1); None while it is incomplete."""
    body = bytearray()
    while (line := buffer.find(b"\r\n", at)) >= 0:
        size = int(bytes(buffer[at:line]).partition(b";")[0], 16)
        end = line + 2 + size + 2
        if len(buffer) < end:
            return None
        body += buffer[line + 2 : end - 2]
        at = end
        if size == 0:
            return bytes(body), at
    return None
