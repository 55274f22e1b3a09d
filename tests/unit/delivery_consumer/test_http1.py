"""Reading responses: what is one, where it ends, and when a connection may be used again."""

import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_consumer.providers.http1 import (
    MAX_HEAD_BYTES,
    MAX_INTERIM,
    BadRequestError,
    BadResponseError,
    Head,
    HeadReader,
    body_end,
    encode_request,
)


def head_of(data: bytes) -> Head:
    """The head in front of these bytes."""
    head = HeadReader().take(bytearray(data))
    assert head is not None
    return head


@pytest.mark.parametrize(
    ("data", "status", "length", "chunked", "reusable"),
    [
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n", 200, 5, False, True),
        (b"HTTP/1.1 200\r\ncontent-length:5\r\n\r\n", 200, 5, False, True),
        (b"HTTP/1.1 200 OK\nContent-Length: 5\n\n", 200, 5, False, True),
        (b"HTTP/1.1 204 No Content\r\n\r\n", 204, 0, False, True),
        (b"HTTP/1.1 304 X\r\nContent-Length: 9\r\n\r\n", 304, 0, False, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", 200, None, True, True),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: Chunked\r\nContent-Length: 5\r\n\r\n", 200, None, True, False),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", 200, None, False, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\n", 200, None, False, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\n", 200, 5, False, True),
        (b"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\n", 200, None, False, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: -5\r\n\r\n", 200, None, False, False),
        (b"HTTP/1.1 200 OK\r\n\r\n", 200, None, False, False),
        (b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nConnection: Close\r\n\r\n", 200, 5, False, False),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 5\r\n\r\n", 200, 5, False, False),
        (b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 X\r\na: b\r\n\r\nHTTP/1.1 500 X\r\n\r\n", 500, None, False, False),
    ],
)
def test_heads(data: bytes, status: int, length: int | None, chunked: bool, reusable: bool) -> None:
    """Status, framing, and doubt about it."""
    head = head_of(data)

    assert (head.status, head.length, head.chunked, head.reusable) == (status, length, chunked, reusable)


@pytest.mark.parametrize(
    "data",
    [
        b"SSH-2.0-OpenSSH\r\n",
        b"220 mail ESMTP\r\n",
        b"HTTP/2 200\r\n\r\n",
        b"HTTP/1.1 99 X\r\n\r\n",
        b"HTTP/1.1 2000 X\r\n\r\n",
        b"HTTP/1.1 600 X\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nno colon\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nA: b\r\n folded\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nbad name: b\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * MAX_HEAD_BYTES,
        b"\x16\x03\x01\x02",
        b"\r\n\r\n",
    ],
)
def test_what_is_no_response(data: bytes) -> None:
    """Other protocols, other versions, broken or endless heads."""
    with pytest.raises(BadResponseError):
        HeadReader().take(bytearray(data))


@pytest.mark.parametrize(
    ("body", "end"),
    [
        (b"0\r\n\r\n", 5),
        (b"5\r\nhello\r\n0\r\n\r\nrest", 15),
        (b"5;x=y\r\nhello\r\n0\r\n\r\n", 19),
        (b"5\r\nhel", None),
        (b"5\r\nhello\r\n0\r\n", None),
        (b"0\r\nTrailer: x\r\n\r\n", None),
        (b"zz\r\n", None),
        (b"fffffffff\r\n", None),
    ],
)
def test_chunked_bodies_end_where_they_end(body: bytes, end: int | None) -> None:
    """Or are not known to."""
    head = head_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")

    assert body_end(head, bytearray(body)) == end


@given(st.binary(max_size=400))
def test_no_bytes_break_the_parser(data: bytes) -> None:
    """It answers, waits or refuses; nothing else."""
    for prefix in (b"", b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"):
        buffer = bytearray(prefix + data)
        try:
            head = HeadReader().take(buffer)
        except BadResponseError:
            continue
        if head is not None:
            end = body_end(head, buffer)
            assert end is None or 0 <= end <= len(buffer)


def test_a_head_may_come_byte_by_byte() -> None:
    """Incomplete is not broken."""
    whole, buffer, heads = b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n", bytearray(), HeadReader()
    for byte in whole[:-1]:
        buffer.append(byte)
        assert heads.take(buffer) is None
    buffer.append(whole[-1])

    assert heads.take(buffer) is not None


def test_interim_heads_without_end_are_no_response() -> None:
    """A few may come, in whatever pieces; each costs its receiver less than it costs us."""
    interim, final = b"HTTP/1.1 103 X\r\n\r\n", b"HTTP/1.1 200 X\r\n\r\n"
    few, many = HeadReader(), HeadReader()

    for _ in range(MAX_INTERIM):
        assert (few.take(bytearray(interim)), many.take(bytearray(interim))) == (None, None)

    assert few.take(bytearray(final)) is not None
    with pytest.raises(BadResponseError):
        many.take(bytearray(interim))


def test_what_has_come_is_gone_through_once() -> None:
    """A receiver that drips has each of its bytes looked at once, not all of them with each byte."""
    buffer, heads, took_s = bytearray(b"HTTP/1.1 200 OK\r\n"), HeadReader(), [0.0, 0.0]
    for _ in range(5_000):
        buffer += b"abcdef:\r\n"
        began = time.process_time()
        assert heads.take(buffer) is None
        took_s[0] += time.process_time() - began
    head, chunks = head_of(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"), bytearray()
    for _ in range(5_000):
        chunks += b"1\r\nx\r\n"
        began = time.process_time()
        assert body_end(head, chunks) is None
        took_s[1] += time.process_time() - began
    chunks += b"0\r\n\r\n"

    assert body_end(head, chunks) == len(chunks)
    assert max(took_s) < 1.0, took_s  # some milliseconds; without, two seconds and six


@pytest.mark.parametrize("bad", [b"a\r\nb: c", b"a\nb", b"a\rb", b"a\0b"])
def test_no_value_adds_a_line_to_a_request(bad: bytes) -> None:
    """Whoever let it come so far."""
    with pytest.raises(BadRequestError):
        encode_request(b"POST", b"/", [(b"x", bad)], b"")
    with pytest.raises(BadRequestError):
        encode_request(b"POST", b"/" + bad, [(b"x", b"y")], b"")
