"""The two ends of delivery: raw webhook and SMTP servers, fast enough not to be what is measured.

They read what this pipeline sends and no more: requests with a Content-Length, one after the other; SMTP with or
without pipelining, without encryption.
"""

import asyncio
import re
from binascii import unhexlify
from collections.abc import Callable
from typing import Any, Final, Protocol

from loadtest.manners import Manner

HEAD_END: Final = b"\r\n\r\n"
DATA_END: Final = b"\r\n.\r\n"
OK: Final = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
GARBAGE: Final = b"\x16\x03\x01 I am no web server\r\n\r\n"
_LENGTH: Final = re.compile(rb"(?i)\r\ncontent-length:[ \t]*(\d+)")
_UUID: Final = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_WEBHOOK_ID: Final = re.compile(rb"(?i)\r\nwebhook-id:[ \t]*(%b)" % _UUID)
_ATTEMPT: Final = re.compile(rb"(?i)\r\nnotification-attempt:[ \t]*(\d+)")
_MAIL_ID: Final = re.compile(rb"(?i)(?:^|\r\n)x-notification-id:[ \t]*(%b)" % _UUID)
_HELLO: Final = b"250-sink\r\n250-PIPELINING\r\n250-8BITMIME\r\n250-SMTPUTF8\r\n250 SIZE 4194304\r\n"


class Origin(Protocol):
    """Who decides what becomes of a delivery."""

    def deliver(self, id_: bytes, content: bytes, *, attempt: int) -> tuple[Manner, float]:
        """Take note of a delivery; return how to answer it, and after how many seconds."""


def _id(found: re.Match[bytes] | None) -> bytes:
    """The 16 bytes of an id as it was found, none where it was not."""
    return unhexlify(found[1].replace(b"-", b"")) if found else b""


class Hook(asyncio.Protocol):
    """One connection of a sender of webhooks."""

    def __init__(self, origin: Origin, seen: Callable[["Hook"], None]) -> None:
        self._origin, self._seen = origin, seen
        self._buffer = bytearray()
        self._transport: Any = None
        self._waiting = False  # an answer is being held back

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Remember where answers go."""
        self._transport = transport
        self._seen(self)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget it."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self._buffer += data
        while self._transport is not None and not self._waiting and self._take():
            pass

    def _take(self) -> bool:
        """Take one request off the buffer; say whether there was one."""
        end = self._buffer.find(HEAD_END)
        if end < 0:
            return False
        head = bytes(self._buffer[:end])
        length = _LENGTH.search(head)
        used = end + 4 + (int(length[1]) if length else 0)
        if len(self._buffer) < used:
            return False
        body = bytes(self._buffer[end + 4 : used])
        del self._buffer[:used]
        id_, attempt = _WEBHOOK_ID.search(head), _ATTEMPT.search(head)
        manner, after_s = self._origin.deliver(_id(id_), body, attempt=int(attempt[1]) if attempt else 0)
        if manner.way == "hang":
            self._waiting = True
        elif after_s > 0:
            self._waiting = True
            asyncio.get_running_loop().call_later(after_s, self._answer_late, manner)
        else:
            self._answer(manner)
        return True

    def _answer_late(self, manner: Manner) -> None:
        self._waiting = False
        self._answer(manner)
        self.data_received(b"")

    def _answer(self, manner: Manner) -> None:
        if self._transport is None:
            return
        if manner.way == "garbage":
            self._transport.write(GARBAGE)
            self._transport.close()
        elif manner.way == "status":
            later = "" if manner.retry_after_s is None else f"Retry-After: {manner.retry_after_s:.0f}\r\n"
            self._transport.write(f"HTTP/1.1 {manner.status} No\r\n{later}Content-Length: 0\r\n\r\n".encode())
        else:
            self._transport.write(OK)

    def abort(self) -> None:
        """Reset the connection."""
        if self._transport is not None:
            self._transport.abort()


class Mail(asyncio.Protocol):
    """One SMTP session."""

    def __init__(self, origin: Origin) -> None:
        self._origin = origin
        self._buffer = bytearray()
        self._transport: Any = None
        self._in_data = self._waiting = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Greet."""
        self._transport = transport
        self._say(b"220 sink ESMTP\r\n")

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Forget it."""
        self._transport = None

    def data_received(self, data: bytes) -> None:
        """Go on with what is complete."""
        self._buffer += data
        while self._transport is not None and not self._waiting:
            if not (self._message() if self._in_data else self._command()):
                return

    def _say(self, answer: bytes) -> None:
        if self._transport is not None:
            self._transport.write(answer)

    def _command(self) -> bool:
        end = self._buffer.find(b"\r\n")
        if end < 0:
            return False
        verb = bytes(self._buffer[:4]).upper()
        del self._buffer[: end + 2]
        if verb == b"DATA":
            self._in_data = True
            self._say(b"354 go on\r\n")
        elif verb == b"EHLO":
            self._say(_HELLO)
        elif verb == b"QUIT":
            self._say(b"221 bye\r\n")
            self._transport.close()
        else:
            self._say(b"250 fine\r\n")
        return True

    def _message(self) -> bool:
        end = self._buffer.find(DATA_END)
        if end < 0:
            return False
        content = bytes(self._buffer[: end + 2])
        del self._buffer[: end + len(DATA_END)]
        self._in_data = False
        found = _MAIL_ID.search(content[: content.find(HEAD_END)])
        manner, after_s = self._origin.deliver(_id(found), content, attempt=0)
        answer = b"250 taken\r\n" if manner.way == "ok" else b"451 4.7.1 try again later\r\n"
        if after_s > 0:
            self._waiting = True
            asyncio.get_running_loop().call_later(after_s, self._answer_late, answer)
        else:
            self._say(answer)
        return True

    def _answer_late(self, answer: bytes) -> None:
        self._waiting = False
        self._say(answer)
        self.data_received(b"")
