"""Kept SMTP connections, one message at a time each, with the steps of a transaction told apart."""

import asyncio
import contextlib
import re
import socket
import ssl
from collections import deque
from typing import Final, cast

import aiosmtplib

from delivery_consumer.settings import EmailSettings, SmtpTls

MAX_MESSAGES: Final = 100
"""Servers end sessions after some number of messages; going first costs one handshake in a hundred."""
KEEP_IDLE_S: Final = 30.0
_QUIT_S: Final = 2.0
_SWEEP_EVERY_S: Final = 10.0
_LINE_END: Final = re.compile(rb"\r\n|\r|\n")
_DOT: Final = re.compile(rb"(?m)^\.")
_BUFFER_POLL_S: Final = 0.002


class Link:
    """One SMTP connection. `dotted` says that the final dot of the current message has been written."""

    def __init__(self, smtp: aiosmtplib.SMTP) -> None:
        self._smtp = smtp
        self.messages = 0
        self.idle_since = 0.0
        self.dotted = False

    @property
    def usable(self) -> bool:
        """Say whether it is connected."""
        return self._smtp.is_connected

    async def open(self) -> None:
        """Connect, encrypt and log in as configured."""
        await self._smtp.connect()

    async def transact(self, sender: str, recipient: str, message: bytes) -> str:
        """Send one message to one recipient; return the server's closing words.

        aiosmtplib's own data() raises the same error for a drop before and after the final dot, and only the first
        says that nothing was delivered. So DATA is driven in steps here.
        """
        self.dotted = False
        self.messages += 1
        await self._smtp.mail(sender, timeout=None)
        await self._smtp.rcpt(recipient, timeout=None)
        go_on = await self._smtp.execute_command(b"DATA", timeout=None)
        if go_on.code != 354:
            raise aiosmtplib.SMTPDataError(go_on.code, go_on.message)
        protocol = self._smtp.protocol
        if protocol is None:
            raise aiosmtplib.SMTPServerDisconnected("connection lost")
        protocol.write(_DOT.sub(b"..", _LINE_END.sub(b"\r\n", message)))
        await self._until_written()
        protocol.write(b".\r\n" if message.endswith(b"\n") else b"\r\n.\r\n")
        self.dotted = True
        answer = await protocol.read_response()
        if answer.code != 250:
            raise aiosmtplib.SMTPDataError(answer.code, answer.message)
        return answer.message

    async def _until_written(self) -> None:
        """Wait until the kernel has everything, and let a closed connection be noticed."""
        await asyncio.sleep(0)
        while True:
            transport = cast(asyncio.WriteTransport | None, self._smtp.transport)  # uvloop's is one but for its class
            if transport is None or transport.is_closing():
                raise aiosmtplib.SMTPServerDisconnected("connection lost")
            if not transport.get_write_buffer_size():
                return
            await asyncio.sleep(_BUFFER_POLL_S)

    async def reset(self) -> None:
        """Forget a transaction that was refused."""
        await self._smtp.rset(timeout=None)

    async def quit(self) -> None:
        """Say goodbye, briefly, and close."""
        with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
            async with asyncio.timeout(_QUIT_S):
                await self._smtp.quit(timeout=None)
        self._smtp.close()

    def close(self) -> None:
        """Close without a word."""
        self._smtp.close()


class SmtpPool:
    """At most `connections` links, the most recently used first."""

    def __init__(self, settings: EmailSettings, *, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._tls = None if settings.tls is SmtpTls.OFF else tls or ssl.create_default_context()
        self._places = asyncio.Semaphore(settings.connections)
        self._idle: deque[Link] = deque()
        self._goodbyes: set[asyncio.Task[None]] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._host_name = _host_name()

    async def take(self, *, fresh: bool = False) -> Link:
        """Return a link that is open, or (always with `fresh`) one to open; waits while all places are taken."""
        await self._places.acquire()
        oldest = asyncio.get_running_loop().time() - KEEP_IDLE_S
        while self._idle and not fresh:
            link = self._idle.pop()
            if link.usable and link.idle_since >= oldest:
                return link
            self._dismiss(link)
        return Link(self._new())

    def put(self, link: Link, *, keep: bool) -> None:
        """Return a link. One that is not to be kept, or has carried enough, is ended."""
        self._places.release()
        if not keep or not link.usable:
            link.close()
        elif link.messages >= MAX_MESSAGES:
            self._dismiss(link)
        else:
            loop = asyncio.get_running_loop()
            link.idle_since = loop.time()
            self._idle.append(link)
            if self._sweeper is None:
                self._sweeper = loop.call_later(_SWEEP_EVERY_S, self._sweep)

    def _new(self) -> aiosmtplib.SMTP:
        settings = self._settings
        return aiosmtplib.SMTP(
            hostname=settings.host,
            port=settings.port,
            username=settings.user,
            password=settings.password if settings.user else None,
            local_hostname=self._host_name,
            use_tls=settings.tls is SmtpTls.TLS,
            start_tls=settings.tls is SmtpTls.STARTTLS,  # required: aiosmtplib raises where it is not offered
            tls_context=self._tls,
            timeout=settings.timeout_s,
        )

    def _sweep(self) -> None:
        loop = asyncio.get_running_loop()
        oldest = loop.time() - KEEP_IDLE_S
        while self._idle and (self._idle[0].idle_since < oldest or not self._idle[0].usable):
            self._dismiss(self._idle.popleft())
        self._sweeper = loop.call_later(_SWEEP_EVERY_S, self._sweep) if self._idle else None

    def _dismiss(self, link: Link) -> None:
        goodbye = asyncio.get_running_loop().create_task(link.quit())
        self._goodbyes.add(goodbye)
        goodbye.add_done_callback(self._goodbyes.discard)

    async def aclose(self) -> None:
        """End all idle links."""
        if self._sweeper is not None:
            self._sweeper.cancel()
        while self._idle:
            self._dismiss(self._idle.popleft())
        if self._goodbyes:
            await asyncio.wait(self._goodbyes)


def _host_name() -> str:
    """Return a name for EHLO: this host's, in characters that may stand there."""
    return re.sub(r"[^A-Za-z0-9.-]", "-", socket.gethostname()).strip("-.") or "localhost"
