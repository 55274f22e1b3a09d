"""Just enough HTTP/1.1 for a client that wants a status: requests written, response heads read, bodies measured.

Where a body's end is in doubt the connection is not used again; the status stands in any case. No I/O.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MAX_HEAD_BYTES: Final = 64 * 1024
MAX_INTERIM: Final = 8
"""Whoever sends them without end, a few bytes each, would have us read for as long as a request may take."""
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
_HEAD_END_BYTES: Final = 4
_STATUS: Final = re.compile(rb"HTTP/1\.([01]) ([1-5][0-9][0-9])(?: [^\r\n]*)?")
_NAME: Final = re.compile(rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_CHUNK: Final = re.compile(rb"([0-9A-Fa-f]{1,8})[ \t]*(?:;[^\r\n]*)?\r\n")
_NO_BODY: Final = frozenset({204, 304})


class BadRequestError(Exception):
    """A part of the request would add a line of its own."""


class BadResponseError(Exception):
    """The bytes are no HTTP/1 response."""


@dataclass(slots=True)
class Head:
    """A response up to its body. `length` None: the body is chunked, or goes on until the connection closes."""

    status: int
    headers: list[tuple[bytes, bytes]]
    length: int | None
    chunked: bool
    reusable: bool
    chunks_end: int = 0  # up to where the body's chunks were gone through


def encode_request(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return a request as bytes. Raises BadRequestError."""
    lines = [b"%b %b HTTP/1.1" % (method, target), *(b"%b: %b" % pair for pair in headers)]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise BadRequestError("a line break or NUL in a request head")
    return b"%b\r\n\r\n%b" % (head, body)


class HeadReader:
    """Takes the final head of one response off a buffer that grows; each byte of it is looked at once."""

    __slots__ = ("_interim", "_searched")

    def __init__(self) -> None:
        self._interim = self._searched = 0

    def take(self, buffer: bytearray) -> Head | None:
        """Return the head; None while it is incomplete. A few interim (1xx) ones before it are passed over.

        Raises BadResponseError for anything that is no HTTP/1 response, and for heads beyond 64 KiB.
        """
        while True:
            end = _HEAD_END.search(buffer, max(self._searched - _HEAD_END_BYTES + 1, 0), MAX_HEAD_BYTES)
            if end is None:
                if len(buffer) >= MAX_HEAD_BYTES or not b"HTTP/1.".startswith(bytes(buffer[:7])):
                    raise BadResponseError
                self._searched = len(buffer)
                return None
            head = _parse(bytes(buffer[: end.start()]))
            del buffer[: end.end()]
            if head.status >= 200 or head.status == 101:
                return head
            self._searched = 0
            self._interim += 1
            if self._interim > MAX_INTERIM:
                raise BadResponseError


def body_end(head: Head, buffer: bytearray) -> int | None:
    """Return how many bytes the body takes, or None while its end is not in the buffer or cannot be known.

    Asked again with the same buffer, grown, it goes on where it was: chunks may be a byte each.
    """
    if head.length is not None:
        return head.length if len(buffer) >= head.length else None
    return _chunked_end(head, buffer) if head.chunked else None


def _parse(block: bytes) -> Head:
    first, *lines = block.replace(b"\r\n", b"\n").split(b"\n")
    match = _STATUS.fullmatch(first)
    if match is None:
        raise BadResponseError
    headers = []
    for line in lines:
        name, colon, value = line.partition(b":")
        if not colon or not _NAME.fullmatch(name):
            raise BadResponseError
        headers.append((name.lower(), value.strip(b" \t")))
    return _framed(int(match[2]), headers, version=match[1])


def _framed(status: int, headers: list[tuple[bytes, bytes]], *, version: bytes) -> Head:
    lengths = {value for name, value in headers if name == b"content-length"}
    coding = b",".join(value for name, value in headers if name == b"transfer-encoding").lower()
    closing = any(name == b"connection" and b"close" in value.lower() for name, value in headers)
    head = Head(status, headers, None, coding == b"chunked", version == b"1" and not closing)
    if status in _NO_BODY:
        head.length, head.chunked = 0, False
    elif coding:
        head.reusable = head.reusable and head.chunked and not lengths
    elif len(lengths) == 1 and _LENGTH.fullmatch(length := lengths.pop()):
        head.length = int(length)
    else:
        head.reusable = False
    return head


def _chunked_end(head: Head, buffer: bytearray) -> int | None:
    while (chunk := _CHUNK.match(buffer, head.chunks_end)) is not None:
        size = int(chunk[1], 16)
        if size == 0:
            # Trailers are legal and unheard of: with one, the end is not found and the connection not used again.
            return chunk.end() + 2 if buffer[chunk.end() : chunk.end() + 2] == b"\r\n" else None
        head.chunks_end = chunk.end() + size + 2
    return None
