"""Just enough HTTP/1.1 for a client that wants a status: requests written, response heads read, bodies measured.

Where a body's end is in doubt the connection is not used again; the status stands in any case. Pure.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

MAX_HEAD_BYTES: Final = 64 * 1024
_HEAD_END: Final = re.compile(rb"\r?\n\r?\n")
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


def encode_request(method: bytes, target: bytes, headers: Iterable[tuple[bytes, bytes]], body: bytes) -> bytes:
    """Return a request as bytes. Raises BadRequestError."""
    lines = [b"%b %b HTTP/1.1" % (method, target), *(b"%b: %b" % pair for pair in headers)]
    head = b"\r\n".join(lines)
    if head.count(b"\n") != len(lines) - 1 or head.count(b"\r") != len(lines) - 1 or b"\0" in head:
        raise BadRequestError("a line break or NUL in a request head")
    return b"%b\r\n\r\n%b" % (head, body)


def take_head(buffer: bytearray) -> Head | None:
    """Take a whole final head off the buffer; None while it is incomplete. Interim (1xx) responses are passed over.

    Raises BadResponseError for anything that is no HTTP/1 response, and for heads beyond 64 KiB.
    """
    while True:
        end = _HEAD_END.search(buffer, 0, MAX_HEAD_BYTES)
        if end is None:
            if len(buffer) >= MAX_HEAD_BYTES or not b"HTTP/1.".startswith(bytes(buffer[:7])):
                raise BadResponseError
            return None
        head = _parse(bytes(buffer[: end.start()]))
        del buffer[: end.end()]
        if head.status >= 200 or head.status == 101:
            return head


def body_end(head: Head, buffer: bytearray) -> int | None:
    """Return how many bytes the body takes, or None while its end is not in the buffer or cannot be known."""
    if head.length is not None:
        return head.length if len(buffer) >= head.length else None
    return _chunked_end(buffer) if head.chunked else None


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


def _chunked_end(buffer: bytearray) -> int | None:
    place = 0
    while (chunk := _CHUNK.match(buffer, place)) is not None:
        size = int(chunk[1], 16)
        if size == 0:
            # Trailers are legal and unheard of: with one, the end is not found and the connection not used again.
            return chunk.end() + 2 if buffer[chunk.end() : chunk.end() + 2] == b"\r\n" else None
        place = chunk.end() + size + 2
    return None
