"""The client's side of SMTP transactions on an open connection: commands in one write, replies in their order.

aiosmtplib connects, encrypts and logs in; after that it waits for each reply with a lock, a future and a timeout of its
own, four times a message, and cannot pipeline. A server that offers PIPELINING (RFC 2920) is asked once for sender,
recipient and leave to send.
"""

import asyncio
import contextlib
import re
from collections import deque
from collections.abc import Sequence
from typing import Final, cast

import aiosmtplib

_MAX_REPLY: Final = 32_768  # bytes
_MAX_UNREAD: Final = 100
"""They bound the memory that a server can fill which never ends a reply, or never ends replying."""
_LINE: Final = re.compile(rb"([0-9]{3})(?:([ -])(.*))?")
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_DOT: Final = re.compile(rb"(?m)^\.")
_BUFFER_POLL_S: Final = 0.002
_AT_ONCE: Final = 16_384
"""A message up to this goes out with its final dot; a larger one first, since a connection may break on the way."""
_GO_ON: Final = 354
_LEAVES: Final = 421  # it closes the connection now (RFC 5321 §3.8), and answers nothing more
_TAKEN: Final = 250
_WANTED: Final = ((_TAKEN,), (_TAKEN, 251), (_GO_ON,))
"""A yes to sender, recipient and DATA."""


class Replies(asyncio.Protocol):
    """Replies of a server, each complete, in the order they came."""

    def __init__(self) -> None:
        self._buffer = bytearray()
        self._lines: list[bytes] = []  # of a reply that goes on
        self._size = 0  # its bytes
        self._complete: deque[aiosmtplib.SMTPResponse] = deque()
        self._error: Exception | None = None
        self._waiter: asyncio.Future[None] | None = None

    @property
    def pending(self) -> bool:
        """Say whether something has come that nobody has read: between two messages, what nobody has asked for."""
        return bool(self._complete or self._buffer or self._lines or self._error)

    def data_received(self, data: bytes) -> None:
        """Take in what has come, until something has that is no reply."""
        if self._error is not None:
            return
        self._buffer += data
        try:
            while (end := self._buffer.find(b"\n")) >= 0:
                line = bytes(self._buffer[:end]).rstrip(b"\r")
                del self._buffer[: end + 1]
                self._take(line)
            if len(self._buffer) + self._size > _MAX_REPLY or len(self._complete) > _MAX_UNREAD:
                raise aiosmtplib.SMTPResponseException(-1, "a reply without an end")
        except aiosmtplib.SMTPResponseException as error:
            self._error = error
        self._wake()

    def connection_lost(self, exc: Exception | None) -> None:
        """Note the end; replies that were complete are still given."""
        self._error = self._error or aiosmtplib.SMTPServerDisconnected("connection lost")
        self._error.__cause__ = self._error.__cause__ or exc
        self._wake()

    async def next(self) -> aiosmtplib.SMTPResponse:
        """Wait for the next reply. Raises SMTPServerDisconnected, and SMTPResponseException for what is none."""
        while not self._complete:
            if self._error is not None:
                raise self._error
            self._waiter = asyncio.get_running_loop().create_future()
            await self._waiter
        return self._complete.popleft()

    def _take(self, line: bytes) -> None:
        found = _LINE.fullmatch(line)
        if found is None:
            raise aiosmtplib.SMTPResponseException(-1, "not a reply")
        self._lines.append((found[3] or b"").strip())
        self._size += len(line)
        if found[2] != b"-":
            words = b"\n".join(self._lines).decode("utf-8", "surrogateescape")
            self._lines.clear()
            self._size = 0
            self._complete.append(aiosmtplib.SMTPResponse(int(found[1]), words))

    def _wake(self) -> None:
        if self._waiter is not None and not self._waiter.done():
            self._waiter.set_result(None)


class Session:
    """Transactions, one after another, on a connection that was opened by aiosmtplib.

    `dotted` says that the final dot of the current message has been written: from there on nobody knows for certain
    what became of it until the reply is here.
    """

    def __init__(self, smtp: aiosmtplib.SMTP) -> None:
        transport = cast(asyncio.Transport | None, smtp.transport)  # uvloop's is one but for its class
        if transport is None:
            raise aiosmtplib.SMTPServerDisconnected("connection lost")
        self._transport, self._replies = transport, Replies()
        self._pipelines = smtp.supports_extension("pipelining")
        transport.set_protocol(self._replies)
        self.dotted = False

    @property
    def usable(self) -> bool:
        """Say whether a transaction may begin: connected, and the server has not spoken out of turn."""
        return not (self._transport.is_closing() or self._replies.pending)

    async def transact(self, sender: str, recipient: str, message: bytes) -> str:
        """Send one message to one recipient, both plain addresses; return the server's closing words.

        Raises SMTPSenderRefused, SMTPRecipientRefused, SMTPDataError; SMTPServerDisconnected; SMTPResponseException.
        """
        self.dotted = False
        await self._ask_leave(sender, recipient)
        text = _on_the_wire(message)
        if len(text) > _AT_ONCE:
            self._write(text)
            await self._until_written()
            text = b""
        self._write(text + b".\r\n")
        self.dotted = True
        answer = await self._replies.next()
        if answer.code != _TAKEN:
            raise aiosmtplib.SMTPDataError(answer.code, answer.message)
        return answer.message

    async def reset(self) -> None:
        """Forget a transaction that was refused."""
        answer = await self._command(b"RSET\r\n")
        if answer.code != _TAKEN:
            raise aiosmtplib.SMTPResponseException(answer.code, answer.message)

    async def quit(self) -> None:
        """Say goodbye and wait for the answer."""
        await self._command(b"QUIT\r\n")

    def close(self) -> None:
        """Close without a word."""
        self._transport.close()

    async def _ask_leave(self, sender: str, recipient: str) -> None:
        commands = (f"MAIL FROM:<{sender}>\r\n".encode(), f"RCPT TO:<{recipient}>\r\n".encode(), b"DATA\r\n")
        answers = await self._say(commands)
        refusal = _refusal(answers, sender, recipient)
        if refusal is not None:
            if answers[-1].code == _GO_ON:
                # RFC 2920 §3.1: it waits for a message, which is for nobody. Some hang up on an empty one.
                with contextlib.suppress(aiosmtplib.SMTPException):
                    await self._command(b".\r\n")
            raise refusal

    async def _say(self, commands: Sequence[bytes]) -> list[aiosmtplib.SMTPResponse]:
        """Say all at once, or one by one until one is refused; return the answers."""
        if self._pipelines:
            self._write(b"".join(commands))
        answers: list[aiosmtplib.SMTPResponse] = []
        for command, wanted in zip(commands, _WANTED, strict=True):
            if not self._pipelines:
                self._write(command)
            answers.append(await self._replies.next())
            if answers[-1].code == _LEAVES or (answers[-1].code not in wanted and not self._pipelines):
                break
        return answers

    async def _command(self, command: bytes) -> aiosmtplib.SMTPResponse:
        self._write(command)
        return await self._replies.next()

    def _write(self, data: bytes) -> None:
        if self._transport.is_closing():
            raise aiosmtplib.SMTPServerDisconnected("connection lost")
        self._transport.write(data)

    async def _until_written(self) -> None:
        """Wait until the kernel has everything, and let a closed connection be noticed."""
        await asyncio.sleep(0)
        while not self._transport.is_closing() and self._transport.get_write_buffer_size():
            await asyncio.sleep(_BUFFER_POLL_S)


def _on_the_wire(message: bytes) -> bytes:
    """Return a message with every line ended by CRLF and no line a lone dot, whatever was in it."""
    ends = message.count(b"\r\n")
    if message.count(b"\n") != ends or message.count(b"\r") != ends or not message.endswith(b"\r\n"):
        message = _LINE_END.sub(b"\r\n", message)
        message = message if message.endswith(b"\r\n") else message + b"\r\n"
    return _DOT.sub(b"..", message) if message.startswith(b".") or b"\n." in message else message


def _refusal(answers: Sequence[aiosmtplib.SMTPResponse], sender: str, recipient: str) -> Exception | None:
    """Return the error of the first answer that is no yes."""
    for step, (answer, wanted) in enumerate(zip(answers, _WANTED, strict=False)):
        if answer.code not in wanted:
            if step == 0:
                return aiosmtplib.SMTPSenderRefused(answer.code, answer.message, sender)
            if step == 1:
                return aiosmtplib.SMTPRecipientRefused(answer.code, answer.message, recipient)
            return aiosmtplib.SMTPDataError(answer.code, answer.message)
    return None
