"""A small HTTP/1.1 server on asyncio, for receivers that must keep up with the pipeline and misbehave on demand.

It serves JSON and small pages on loopback: persistent connections, bodies with a length, one answer after the other.
What it does beyond that is fail on purpose: a handler may answer late, never, or with a reset.
"""

import asyncio
import json
import signal
import socket
import struct
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Any, cast
from urllib.parse import parse_qsl, unquote

MAX_HEAD_BYTES = 32 * 1024
MAX_BODY_BYTES = 4 * 1024 * 1024
_MAX_LISTED = 1_000


@dataclass(frozen=True, slots=True)
class Request:
    """One request; header names are lower case, of a repeated query parameter the last value counts."""

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: bytes

    def json(self) -> Any:
        """The body as JSON. Raises ValueError."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Response:
    """An answer, `delay_s` after the request was read."""

    status: int = 200
    body: bytes = b""
    content_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)
    delay_s: float = 0.0


@dataclass(frozen=True, slots=True)
class Hang:
    """No answer; the connection stays open."""


@dataclass(frozen=True, slots=True)
class Reset:
    """No answer; the connection is reset (RST)."""


Handler = Callable[[Request], Response | Hang | Reset]


def json_response(content: Any, *, status: int = 200) -> Response:
    """Answer with JSON."""
    return Response(status, json.dumps(content, indent=2).encode() + b"\n")


def problem(status: int, detail: str) -> Response:
    """Answer with an error a person can act on."""
    return json_response({"title": HTTPStatus(status).phrase, "status": status, "detail": detail}, status=status)


def limit_of(request: Request) -> int:
    """The number of entries a list may have: ?limit=, 100 if it says nothing usable, never more than 1,000."""
    asked = request.query.get("limit", "")
    return min(int(asked), _MAX_LISTED) if asked.isascii() and asked.isdigit() else 100


class HttpProtocol(asyncio.Protocol):
    """One connection: reads a request, answers it, then reads the next."""

    def __init__(self, handler: Handler) -> None:
        self._handler = handler
        self._buffer = bytearray()
        self._transport: asyncio.Transport | None = None
        self._told_to_continue = False
        self._waiting = False  # an answer is being held back: what arrives meanwhile stays in the buffer

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = cast(asyncio.Transport, transport)  # uvloop's is one but for its class

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget the connection; an answer still held back is dropped."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer every request that is complete."""
        self._buffer += data
        self._answer_complete_requests()

    def _answer_complete_requests(self) -> None:
        while self._transport is not None and not self._waiting:
            try:
                request, used = parse_request(self._buffer)
            except ValueError as error:
                self._write(problem(400, str(error)), keep_alive=False)
                return
            if request is None:
                if used and not self._told_to_continue and b"100-continue" in self._buffer[:MAX_HEAD_BYTES].lower():
                    self._told_to_continue = True  # curl sends a large body only after a second, or this
                    self._transport.write(b"HTTP/1.1 100 Continue\r\n\r\n")
                return
            del self._buffer[:used]
            self._told_to_continue = False
            self._answer(request)

    def _answer(self, request: Request) -> None:
        keep_alive = request.headers.get("connection", "").lower() != "close"
        answer = self._handler(request)
        if isinstance(answer, Hang):
            self._waiting = True
        elif isinstance(answer, Reset):
            self._reset()
        elif answer.delay_s > 0:
            self._waiting = True
            asyncio.get_running_loop().call_later(answer.delay_s, self._write_late, answer, keep_alive)
        else:
            self._write(answer, keep_alive=keep_alive)

    def _write_late(self, answer: Response, keep_alive: bool) -> None:
        self._waiting = False
        self._write(answer, keep_alive=keep_alive)
        self._answer_complete_requests()

    def _write(self, answer: Response, *, keep_alive: bool) -> None:
        if self._transport is None:
            return
        content = [f"Content-Type: {answer.content_type}", f"Content-Length: {len(answer.body)}"]
        lines = [
            f"HTTP/1.1 {answer.status} {_phrase(answer.status)}",
            *(content if answer.status != HTTPStatus.NO_CONTENT else ()),  # it must not have a length: RFC 9110, 8.6
            *(f"{name}: {value}" for name, value in answer.headers.items()),
            f"Connection: {'keep-alive' if keep_alive else 'close'}\r\n\r\n",
        ]
        self._transport.write("\r\n".join(lines).encode("latin-1") + answer.body)
        if not keep_alive:
            self._transport.close()

    def _reset(self) -> None:
        if self._transport is not None:
            raw: socket.socket | None = self._transport.get_extra_info("socket")
            if raw is not None:  # linger of zero seconds: close() sends RST instead of FIN
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self._transport.abort()


def parse_request(buffer: bytearray) -> tuple[Request | None, int]:
    """Parse one request from the start of `buffer`; return it with the number of bytes it took.

    (None, 0) while its head is incomplete, (None, length) while its body is. Raises ValueError for what is no request
    or exceeds a limit.
    """
    head_end = buffer.find(b"\r\n\r\n", 0, MAX_HEAD_BYTES)
    if head_end < 0:
        if len(buffer) >= MAX_HEAD_BYTES:
            raise ValueError(f"the request head exceeds {MAX_HEAD_BYTES} bytes")
        return None, 0
    first, *lines = buffer[:head_end].decode("latin-1").split("\r\n")
    words = first.split(" ")
    if len(words) != 3 or not words[2].startswith("HTTP/1."):
        raise ValueError("the request line is not METHOD target HTTP/1.x")
    headers = {}
    for line in lines:
        name, _, value = line.partition(":")
        headers[name.strip().lower()] = value.strip()
    if "transfer-encoding" in headers:
        raise ValueError("only bodies with a Content-Length are read")
    length = headers.get("content-length", "0")
    if not length.isdigit() or int(length) > MAX_BODY_BYTES:
        raise ValueError(f"Content-Length is not a number of at most {MAX_BODY_BYTES}")
    end = head_end + 4 + int(length)
    if len(buffer) < end:
        return None, end
    path, _, query = words[1].partition("?")
    parameters = dict(parse_qsl(query)) if query else {}
    return Request(words[0], unquote(path), parameters, headers, bytes(buffer[head_end + 4 : end])), end


def _phrase(status: int) -> str:
    try:
        return HTTPStatus(status).phrase
    except ValueError:
        return ""


async def listen(handler: Handler, *, host: str, port: int) -> asyncio.Server:
    """Start serving; the backlog takes a burst of a few hundred connections."""
    loop = asyncio.get_running_loop()
    return await loop.create_server(lambda: HttpProtocol(handler), host, port, backlog=1024)


async def until_stopped() -> None:
    """Return at SIGTERM or SIGINT."""
    stop = asyncio.Event()
    for signum in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(signum, stop.set)
    await stop.wait()
