"""Posting over kept connections, a free list of them per origin; also an httpx transport.

httpx's own pool looks at every connection for every request: 37 ms of CPU each at 200 connections. A free list over
httpcore's connections takes 0.39, this as httpx's transport 0.15, `post` a fifth less: without objects of httpx.
"""

import asyncio
import collections
import contextlib
from collections.abc import Sequence
from typing import Final, NamedTuple

import httpx

from delivery_consumer.providers.connecting import Connector, NoAnswerError, NotSentError, Stream, StreamClosedError
from delivery_consumer.providers.http1 import (
    BadRequestError,
    BadResponseError,
    Head,
    HeadReader,
    body_end,
    encode_request,
)

MAX_BODY_BYTES: Final = 64 * 1024
KEEP_IDLE_S: Final = 4.0
"""Shorter than most servers keep theirs (5 s and more), so that a request seldom meets one that is being closed."""
MAX_IDLE: Final = 2_000
SETTLE_S: Final = 0.001
"""A connection rests this long between two requests: some servers close after an answer without announcing it, and a
request written before that is noticed ends unknown."""
CLOSER_S: Final = 60.0
_CLOSED_SOON_S: Final = 0.1
_MAX_CLOSERS: Final = 10_000
BODY_GRACE_S: Final = 1.0
_SWEEP_EVERY_S: Final = 5.0
Origin = tuple[str, str, int]
"""Scheme, host as it is looked up, port."""


class Target(NamedTuple):
    """Where a request goes."""

    origin: Origin
    path: bytes  # with the query


class Answer(NamedTuple):
    """A response, its body read as far as it is read at all; names of headers are in lower case."""

    status: int
    headers: Sequence[tuple[bytes, bytes]]
    body: bytes


class Connection:
    """One connection and since when it has been idle."""

    __slots__ = ("idle_since", "origin", "reused", "stream")

    def __init__(self, origin: Origin, stream: Stream) -> None:
        self.origin, self.stream = origin, stream
        self.idle_since, self.reused = 0.0, False


class OriginTransport(httpx.AsyncBaseTransport):
    """Sends requests over kept connections, each within `timeout_s` from connecting to the answer's status.

    Raises NotSentError where the receiver cannot have acted, NoAnswerError where it may have. A kept connection that
    proves dead before the request is out is replaced. Of a body at most 64 KiB are read, for at most a second.
    Redirects, cookies and proxies are unknown to it.
    """

    def __init__(self, connector: Connector, *, timeout_s: float) -> None:
        self._connector, self._timeout_s = connector, timeout_s
        self._idle: dict[Origin, collections.deque[Connection]] = {}
        self._idle_count = 0
        self._closers: dict[Origin, float] = {}  # origins that close after each answer, and until when that is believed
        self._sweeper: asyncio.TimerHandle | None = None

    async def post(
        self,
        target: Target,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        tenant_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer:
        """Post a body. Raises BadRequestError too, for a path or a header that would add a line of its own.

        `tenant_id` is whose name look-up it is, where there is one to be made.
        """
        data = encode_request(b"POST", target.path, headers, body)
        return await self._send(target.origin, data, timeout_s or self._timeout_s, tenant_id)

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send a request of `httpx.AsyncClient(transport=self)`; its body has to be read already."""
        url = request.url
        try:
            data = encode_request(request.method.encode("ascii"), url.raw_path, request.headers.raw, request.content)
        except BadRequestError as error:
            raise httpx.LocalProtocolError(str(error)) from error
        answer = await self._send(origin_of(url), data, self._timeout_s, "")
        return httpx.Response(answer.status, headers=answer.headers, stream=httpx.ByteStream(answer.body))

    async def _send(self, origin: Origin, data: bytes, timeout_s: float, tenant_id: str) -> Answer:
        deadline = asyncio.get_running_loop().time() + timeout_s
        while True:
            connection = await self._take(origin, deadline, tenant_id)
            try:
                return await self._exchange(connection, data, deadline)
            except NotSentError:
                if not connection.reused:
                    raise

    async def _exchange(self, connection: Connection, data: bytes, deadline: float) -> Answer:
        stream, kept = connection.stream, False
        stream.begin(deadline)
        try:
            head = await _write(stream, data) or await _answer(stream)
            body = await _body(stream, head)
            kept = body is not None and head.reusable
        except NoAnswerError as error:
            if connection.reused and error.reason == "no_answer":
                self._note_closer(connection.origin)
            raise
        finally:
            if kept:
                self._give_back(connection)
            else:
                stream.abort()
        return Answer(head.status, head.headers, body or b"")

    async def _take(self, origin: Origin, deadline: float, tenant_id: str) -> Connection:
        oldest = asyncio.get_running_loop().time() - KEEP_IDLE_S
        idle = self._idle.get(origin)
        while idle:
            connection = idle.pop()
            self._idle_count -= 1
            if connection.stream.usable and connection.idle_since >= oldest and await _settled(connection):
                connection.reused = True
                return connection
            self._discard(connection)
        scheme, host, port = origin
        stream = await self._connector.open(host, port, tls=scheme == "https", deadline=deadline, tenant_id=tenant_id)
        return Connection(origin, stream)

    def _give_back(self, connection: Connection) -> None:
        connection.stream.end()
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        if self._closers.get(connection.origin, 0.0) > connection.idle_since:
            connection.stream.abort()
            return
        idle = self._idle.pop(connection.origin, None) or collections.deque()
        self._idle[connection.origin] = idle  # the last, so that the first is the one used longest ago
        idle.append(connection)
        self._idle_count += 1
        if self._idle_count > MAX_IDLE:
            self._drop_longest_idle()
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP_EVERY_S, self._sweep)

    def _drop_longest_idle(self) -> None:
        """Make room: whoever calls a thousand origins once each has no right to keep their connections."""
        while not (idle := self._idle[origin := next(iter(self._idle))]):
            del self._idle[origin]
        self._discard(idle.popleft())
        self._idle_count -= 1

    def _discard(self, connection: Connection) -> None:
        ended_at = connection.stream.ended_at
        if ended_at is not None and ended_at - connection.idle_since < _CLOSED_SOON_S:
            self._note_closer(connection.origin)
        connection.stream.abort()

    def _note_closer(self, origin: Origin) -> None:
        self._closers.pop(origin, None)
        if len(self._closers) >= _MAX_CLOSERS:
            del self._closers[next(iter(self._closers))]  # the one noted longest ago, whoever's the others are
        self._closers[origin] = asyncio.get_running_loop().time() + CLOSER_S

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - KEEP_IDLE_S
        for origin, idle in list(self._idle.items()):
            while idle and (idle[0].idle_since < oldest or not idle[0].stream.usable):
                self._discard(idle.popleft())
                self._idle_count -= 1
            if not idle:
                del self._idle[origin]
        self._sweeper = loop.call_later(_SWEEP_EVERY_S, self._sweep) if self._idle else None

    async def aclose(self) -> None:
        """Close all idle connections."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        for idle in self._idle.values():
            for connection in idle:
                connection.stream.abort()
        self._idle.clear()
        self._idle_count = 0


def origin_of(url: httpx.URL) -> Origin:
    """Return whom a URL is asked of; its port where it names none."""
    return url.scheme, url.raw_host.decode("ascii").strip("[]"), url.port or (443 if url.scheme == "https" else 80)


async def _settled(connection: Connection) -> bool:
    """Wait out the rest of a connection's pause; say whether it is still usable."""
    pause_s = connection.idle_since + SETTLE_S - asyncio.get_running_loop().time()
    if pause_s > 0:
        await asyncio.sleep(pause_s)
    return connection.stream.usable


async def _write(stream: Stream, data: bytes) -> Head | None:
    """Send a request; return the answer of a receiver that gave it, and closed, before it had read everything."""
    try:
        await stream.write(data)
    except StreamClosedError as error:
        with contextlib.suppress(BadResponseError):
            if (head := HeadReader().take(stream.received)) is not None:
                head.reusable = False
                return head
        raise NotSentError("write_timeout" if stream.timed_out else "connection_lost") from error
    return None


async def _answer(stream: Stream) -> Head:
    heads = HeadReader()
    try:
        while (head := heads.take(stream.received)) is None:
            await stream.more()
    except BadResponseError as error:
        raise NoAnswerError("bad_response") from error
    except StreamClosedError as error:
        raise NoAnswerError("answer_timeout" if stream.timed_out else "no_answer") from error
    return head


async def _body(stream: Stream, head: Head) -> bytes | None:
    """Read a short body off the stream; None if it is long, late or broken: the status was the answer."""
    end = body_end(head, stream.received)
    if end is None:
        try:
            async with asyncio.timeout(BODY_GRACE_S):
                while (end := body_end(head, stream.received)) is None and len(stream.received) < MAX_BODY_BYTES:
                    await stream.more()
        except (TimeoutError, StreamClosedError):
            return None
    if end is None or end > MAX_BODY_BYTES:
        return None
    body = bytes(stream.received[:end])
    del stream.received[:end]
    return body
