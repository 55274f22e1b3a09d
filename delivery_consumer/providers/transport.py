"""An httpx transport over httpcore connections in a free list per origin.

httpx's own pool looks at every connection for every request: 37 ms of CPU each at 200 connections, this 0.2.
"""

import asyncio
import collections
from collections.abc import AsyncIterator, Callable
from typing import Final

import httpcore
import httpx

from delivery_consumer.providers.connecting import Connector, NoAnswerError, NotSentError, Stream

MAX_BODY_BYTES: Final = 64 * 1024
KEEP_IDLE_S: Final = 4.0
"""Shorter than most servers keep theirs (5 s and more), so that a request seldom meets one that is being closed."""
MAX_IDLE: Final = 2_000
BODY_GRACE_S: Final = 1.0
_SWEEP_EVERY_S: Final = 5.0


class Connection:
    """One kept connection: httpcore's HTTP/1.1 state and the stream beneath it."""

    __slots__ = ("http", "idle_since", "key", "requests", "stream")

    def __init__(self, key: tuple[str, str, int], origin: httpcore.Origin, stream: Stream) -> None:
        self.key, self.stream = key, stream
        self.http = httpcore.AsyncHTTP11Connection(origin, stream)
        self.idle_since, self.requests = 0.0, 0


class _Body(httpx.AsyncByteStream):
    """What is left of a response. Reading stops at 64 KiB; closing reads the rest of a short one for reuse."""

    def __init__(self, response: httpcore.Response, give_back: Callable[[], None]) -> None:
        self._response, self._give_back = response, give_back
        self._parts = response.aiter_stream()
        self._read_bytes = 0

    async def __aiter__(self) -> AsyncIterator[bytes]:
        async for part in self._parts:
            self._read_bytes += len(part)
            yield part
            if self._read_bytes >= MAX_BODY_BYTES:
                return

    async def aclose(self) -> None:
        try:
            async with asyncio.timeout(BODY_GRACE_S):
                async for _ in self:
                    pass
        except (TimeoutError, httpcore.NetworkError, httpcore.ProtocolError, httpcore.TimeoutException):
            pass  # the status is known, and that was the answer
        finally:
            await self._response.aclose()
            self._give_back()


class OriginTransport(httpx.AsyncBaseTransport):
    """Sends requests over kept connections, each within `timeout_s` from connecting to the end of the answer.

    Raises NotSentError where the receiver cannot have acted, NoAnswerError where it may have. A kept connection that
    proves dead before the request is out is replaced once. Redirects, cookies and proxies are unknown to it.
    """

    def __init__(self, connector: Connector, *, timeout_s: float) -> None:
        self._connector, self._timeout_s = connector, timeout_s
        self._idle: dict[tuple[str, str, int], collections.deque[Connection]] = {}
        self._idle_count = 0
        self._sweeper: asyncio.TimerHandle | None = None

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        """Send one request; the response must be closed."""
        deadline = asyncio.get_running_loop().time() + self._timeout_s
        while True:
            connection = await self._take(request.url, deadline)
            reused = connection.requests > 0
            try:
                return await self._send(connection, request, deadline)
            except NotSentError:
                if not reused:
                    raise

    async def _send(self, connection: Connection, request: httpx.Request, deadline: float) -> httpx.Response:
        stream, sent = connection.stream, _SentMark(request)
        connection.requests += 1
        stream.begin(deadline)
        try:
            response = await connection.http.handle_async_request(_core_request(request, sent))
        except httpcore.LocalProtocolError as error:
            await connection.http.aclose()
            raise httpx.LocalProtocolError(str(error)) from error
        except (httpcore.NetworkError, httpcore.TimeoutException, httpcore.ProtocolError) as error:
            await connection.http.aclose()
            raise _failure(stream, error, whole=sent.whole) from error
        except BaseException:
            await connection.http.aclose()
            raise
        return httpx.Response(
            response.status,
            headers=response.headers,
            stream=_Body(response, lambda: self._give_back(connection)),
            extensions={},
        )

    async def _take(self, url: httpx.URL, deadline: float) -> Connection:
        tls = url.scheme == "https"
        port = url.port or (443 if tls else 80)
        key = (url.scheme, url.host, port)
        oldest = asyncio.get_running_loop().time() - KEEP_IDLE_S
        idle = self._idle.get(key)
        while idle:
            connection = idle.pop()
            self._idle_count -= 1
            if connection.stream.usable and connection.idle_since >= oldest:
                return connection
            connection.stream.abort()
        stream = await self._connector.open(url.raw_host.decode("ascii").strip("[]"), port, tls=tls, deadline=deadline)
        return Connection(key, httpcore.Origin(url.raw_scheme, url.raw_host, port), stream)

    def _give_back(self, connection: Connection) -> None:
        connection.stream.end()
        if not (connection.http.is_idle() and connection.stream.usable) or self._idle_count >= MAX_IDLE:
            connection.stream.abort()
            return
        loop = asyncio.get_running_loop()
        connection.idle_since = loop.time()
        self._idle.setdefault(connection.key, collections.deque()).append(connection)
        self._idle_count += 1
        if self._sweeper is None:
            self._sweeper = loop.call_later(_SWEEP_EVERY_S, self._sweep)

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - KEEP_IDLE_S
        for key, idle in list(self._idle.items()):
            while idle and (idle[0].idle_since < oldest or not idle[0].stream.usable):
                idle.popleft().stream.abort()
                self._idle_count -= 1
            if not idle:
                del self._idle[key]
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
        self._connector.close()


class _SentMark:
    """A request's body, which knows once all of it was written."""

    def __init__(self, request: httpx.Request) -> None:
        self._content = request.content
        self.whole = False

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._content:
            yield self._content  # httpcore asks for the next part after this one's write has returned
        self.whole = True


def _core_request(request: httpx.Request, body: _SentMark) -> httpcore.Request:
    url = request.url
    return httpcore.Request(
        method=request.method,
        url=httpcore.URL(
            scheme=url.raw_scheme,
            host=url.raw_host,
            port=url.port or (443 if url.scheme == "https" else 80),
            target=url.raw_path,
        ),
        headers=request.headers.raw,
        content=body,
    )


def _failure(stream: Stream, error: Exception, *, whole: bool) -> NotSentError | NoAnswerError:
    if not whole:
        return NotSentError("write_timeout" if stream.timed_out else "connection_lost")
    if stream.timed_out:
        return NoAnswerError("answer_timeout")
    if isinstance(error, httpcore.RemoteProtocolError) and stream.heard:
        return NoAnswerError("bad_response")
    return NoAnswerError("no_answer")
