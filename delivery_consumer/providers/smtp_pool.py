"""Kept SMTP connections, one message at a time each."""

import asyncio
import contextlib
import re
import socket
import ssl
from collections import deque
from typing import Final

import aiosmtplib

from delivery_consumer.providers.smtp_session import Session
from delivery_consumer.settings import EmailSettings, SmtpTls

MAX_MESSAGES: Final = 100
"""Servers end sessions after some number of messages; going first costs one handshake in a hundred."""
KEEP_IDLE_S: Final = 30.0
_QUIT_S: Final = 2.0
_SWEEP_EVERY_S: Final = 10.0


class Link:
    """One SMTP connection, opened at its first use."""

    def __init__(self, smtp: aiosmtplib.SMTP) -> None:
        self._smtp = smtp
        self._session: Session | None = None
        self.messages = 0
        self.idle_since = 0.0

    @property
    def usable(self) -> bool:
        """Say whether it is connected and at rest."""
        return self._smtp.is_connected if self._session is None else self._session.usable

    @property
    def dotted(self) -> bool:
        """Say whether the final dot of the current message has been written."""
        return self._session is not None and self._session.dotted

    async def open(self) -> None:
        """Connect, encrypt and log in as configured."""
        await self._smtp.connect()

    async def transact(self, sender: str, recipient: str, message: bytes) -> str:
        """Send one message to one recipient; return the server's closing words. See Session.transact."""
        self.messages += 1
        session = self._session = self._session or await self._greeted()
        return await session.transact(sender, recipient, message)

    async def reset(self) -> None:
        """Forget a transaction that was refused."""
        if self._session is not None:
            await self._session.reset()

    async def quit(self) -> None:
        """Say goodbye, briefly, and close."""
        if self._session is not None:
            with contextlib.suppress(aiosmtplib.SMTPException, OSError, TimeoutError):
                async with asyncio.timeout(_QUIT_S):
                    await self._session.quit()
        self.close()

    def close(self) -> None:
        """Close without a word."""
        self._smtp.close()
        if self._session is not None:
            self._session.close()

    async def _greeted(self) -> Session:
        if self._smtp.is_ehlo_or_helo_needed:
            try:
                await self._smtp.ehlo()
            except aiosmtplib.SMTPHeloError:  # older than RFC 1869
                await self._smtp.helo()
        return Session(self._smtp)


class SmtpPool:
    """At most `connections` links, the most recently used first."""

    def __init__(self, settings: EmailSettings, *, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self._tls = None if settings.tls is SmtpTls.OFF else tls or ssl.create_default_context(cafile=settings.ca_file)
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
