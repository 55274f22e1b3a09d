"""Guarded TCP connections: resolve, judge every address, connect to a judged one."""

import asyncio
import ssl
from collections.abc import Sequence
from typing import Any, Final, cast

import httpx

from delivery_consumer.providers.resolving import Resolver
from shared.webhook_addresses import Network, is_forbidden

CONNECT_S: Final = 5.0
MAX_ADDRESSES: Final = 4
MAX_UNREAD_BYTES: Final = 128 * 1024


class NotSentError(httpx.TransportError):
    """The request did not go out as a whole, so the receiver cannot have acted on it. `reason` is a constant."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ForbiddenAddressError(NotSentError):
    """The name leads to an address that webhooks may not reach."""


class NoAnswerError(httpx.TransportError):
    """The request went out as a whole and no usable answer came. `reason` is a constant."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class StreamClosedError(Exception):
    """The socket is closed, by the other side or by our deadline."""


class Stream(asyncio.Protocol):
    """A socket with one deadline for a whole request instead of a timeout per read.

    `write` returns once the bytes are with the kernel, so a request whose write returned has gone out.
    """

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._transport: asyncio.Transport | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None
        self._ended = False
        self._timer: asyncio.TimerHandle | None = None
        self.received = bytearray()
        self.timed_out = False  # the deadline closed it
        self.ended_at: float | None = None  # when the other side closed it

    # asyncio.Protocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask for word whenever a write did not fit."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one in all but its class
        self._transport.set_write_buffer_limits(high=0)

    def data_received(self, data: bytes) -> None:
        """Keep what came; stop reading when nobody takes it."""
        self.received += data
        if len(self.received) > MAX_UNREAD_BYTES and self._transport is not None:
            self._transport.pause_reading()
        self._wake()

    def eof_received(self) -> bool:
        """Close our side too."""
        self._note_end()
        return False

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002
        """Wake whoever waits; they find the end."""
        self._transport = None
        self._note_end()
        self.resume_writing()

    def pause_writing(self) -> None:
        """The kernel's buffer is full."""
        if self._writer is None:
            self._writer = self._loop.create_future()

    def resume_writing(self) -> None:
        """All is with the kernel."""
        writer, self._writer = self._writer, None
        if writer is not None and not writer.done():
            writer.set_result(None)

    # One request at a time

    def begin(self, deadline: float) -> None:
        """Give the next request until `deadline`, an instant of the loop's clock; then the socket is closed."""
        self._timer = self._loop.call_at(deadline, self._expire)

    def end(self) -> None:
        """The request is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    @property
    def usable(self) -> bool:
        """Say whether a request may be sent: open, and nothing said out of turn."""
        return not (self._ended or self.received or self._transport is None or self._transport.is_closing())

    async def write(self, data: bytes) -> None:
        """Write; return when the kernel has all of it. Raises StreamClosedError."""
        if self._transport is None or self._ended:
            raise StreamClosedError
        self._transport.write(data)
        if self._writer is not None:
            await self._writer
        if self._transport is None or self._transport.is_closing():
            raise StreamClosedError

    async def more(self) -> None:
        """Wait until `received` has grown. Raises StreamClosedError when it will not any more."""
        if self._ended:
            raise StreamClosedError
        before = len(self.received)
        if self._transport is not None:
            self._transport.resume_reading()
        self._reader = self._loop.create_future()
        try:
            await self._reader
        finally:
            self._reader = None
        if len(self.received) == before:
            raise StreamClosedError

    def abort(self) -> None:
        """Close without a word."""
        self.end()
        self._ended = True
        if self._transport is not None:
            self._transport.abort()
        self._wake()

    def _expire(self) -> None:
        self.timed_out = True
        self.abort()

    def _note_end(self) -> None:
        self._ended = True
        if self.ended_at is None:
            self.ended_at = self._loop.time()
        self._wake()

    def _wake(self) -> None:
        if self._reader is not None and not self._reader.done():
            self._reader.set_result(None)


class Connector:
    """Opens guarded connections. One TLS context serves all: making one costs 15 ms."""

    def __init__(self, *, allowed: Sequence[Network] = (), tls: ssl.SSLContext | None = None) -> None:
        self._allowed = tuple(allowed)
        self._tls = tls or ssl.create_default_context()
        self._tls.set_alpn_protocols(["http/1.1"])
        self._resolver = Resolver()

    async def open(self, host: str, port: int, *, tls: bool, deadline: float, tenant_id: str = "") -> Stream:
        """Connect to a host by an address that was judged; raise NotSentError before `deadline` or after 5 s."""
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout_at(min(deadline, loop.time() + CONNECT_S)):
                addresses = await self._resolve(tenant_id, host, port)
                if any(is_forbidden(address, port, self._allowed) for address in addresses):
                    raise ForbiddenAddressError("address_forbidden")
                return await self._connect(host, addresses[:MAX_ADDRESSES], port, tls=tls)
        except TimeoutError as error:
            raise NotSentError("connect_timeout") from error

    async def _connect(self, host: str, addresses: list[str], port: int, *, tls: bool) -> Stream:
        loop = asyncio.get_running_loop()
        failure = "connect_failed"
        for address in addresses:
            try:
                options: dict[str, Any] = {"ssl": self._tls, "server_hostname": host.rstrip(".")} if tls else {}
                _, stream = await loop.create_connection(Stream, address, port, **options)
            except ssl.SSLError:
                failure = "tls_failed"
            except ConnectionRefusedError:
                failure = "connect_refused"
            except OSError:
                failure = "connect_failed"
            else:
                return stream
        raise NotSentError(failure)

    async def _resolve(self, tenant_id: str, host: str, port: int) -> list[str]:
        try:
            return await self._resolver.addresses(tenant_id, host, port)
        except (OSError, UnicodeError) as error:
            raise NotSentError("name_not_resolved") from error
