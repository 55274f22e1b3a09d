"""Replies of SMTP servers, however they come; messages as they go out."""

import re

import aiosmtplib
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_consumer.providers.smtp_session import Replies, _on_the_wire


@pytest.mark.parametrize("size", [1, 2, 7, 1000])
async def test_replies_come_in_order_however_they_are_cut(size: int) -> None:
    """Several in one packet, one in several; lines that go on belong together."""
    stream = b"250 one\r\n250-two\r\n250-and more\r\n250 end\r\n354 go on\n421\r\n"
    replies = Replies()

    for start in range(0, len(stream), size):
        replies.data_received(stream[start : start + size])

    assert [tuple(await replies.next()) for _ in range(4)] == [
        (250, "one"),
        (250, "two\nand more\nend"),
        (354, "go on"),
        (421, ""),
    ]
    assert not replies.pending


@pytest.mark.parametrize("garbage", [b"what?\r\n", b"25 0\r\n", b"250x\r\n", b"2" * 40_000, b"250-more\r\n" * 5_000])
async def test_what_is_no_reply_ends_the_conversation(garbage: bytes) -> None:
    """Also a reply without an end, which would fill the memory."""
    replies = Replies()
    replies.data_received(b"250 fine\r\n" + garbage)

    assert (await replies.next()).code == 250
    with pytest.raises(aiosmtplib.SMTPResponseException):
        await replies.next()
    held = len(replies._buffer)
    replies.data_received(b"x" * 1_000_000)  # nobody looks at an idle connection for seconds
    assert (replies.pending, len(replies._buffer)) == (True, held)


async def test_what_was_complete_is_given_before_the_end_is_told() -> None:
    """A server may answer and close."""
    replies = Replies()
    replies.data_received(b"250 kept\r\n")
    replies.connection_lost(ConnectionResetError())

    assert (await replies.next()).message == "kept"
    with pytest.raises(aiosmtplib.SMTPServerDisconnected):
        await replies.next()


@given(st.text(alphabet="a.\r\n", max_size=12))
def test_no_message_ends_early_and_no_line_is_lost(text: str) -> None:
    """Whatever its line ends and dots: what the other side unstuffs is the same lines."""
    wire = _on_the_wire(text.encode())

    lines = wire.split(b"\r\n")
    assert lines.pop() == b""
    assert not any(b"\r" in line or b"\n" in line or line == b"." for line in lines)
    unstuffed = [line.removeprefix(b".") for line in lines]
    wanted = re.sub(r"\r\n|\r|\n", "\n", text)
    assert b"\n".join(unstuffed).decode() == wanted.removesuffix("\n")
