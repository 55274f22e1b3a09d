"""E-mail over SMTP: one message, one recipient, and what each answer means."""

import asyncio
import re
import ssl
from typing import Final

import aiosmtplib
import idna

from delivery_consumer.destinations import Limits
from delivery_consumer.errors import (
    DeliveryError,
    PermanentDeliveryError,
    TransientDeliveryError,
    UnknownOutcomeError,
)
from delivery_consumer.providers import Attempt, Place, Receipt
from delivery_consumer.providers.mime import build_message
from delivery_consumer.providers.smtp_pool import Link, SmtpPool
from delivery_consumer.settings import EmailSettings
from shared.mailboxes import split_mailbox
from shared.records import Record

_LOCAL: Final = re.compile(r"[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*")
_DOMAIN: Final = re.compile(r"(?:[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?\.)*[A-Za-z0-9-]{1,63}")
_RECEIPT_CHARACTERS: Final = 200
_UNPRINTABLE: Final = re.compile(r"[^ -~]")  # the server chose the words: 8-bit text comes as lone surrogates
_ENHANCED: Final = re.compile(r"([245])\.(\d{1,3})\.(\d{1,3})\b")
_REFUSED: Final = (aiosmtplib.SMTPSenderRefused, aiosmtplib.SMTPRecipientRefused, aiosmtplib.SMTPDataError)


class EmailProvider:
    """Hands messages to the configured SMTP host.

    A 4yz is transient, a 5yz to sender, recipient or message permanent; one that refuses the recipient's address
    suppresses it. Whatever goes wrong before that (connecting,
    TLS, logging in) is transient: it is our side's to mend and says nothing about the message. After the final dot
    silence and a lost connection are unknown (RFC 1047).
    """

    name = "email"
    directory = None

    def __init__(self, settings: EmailSettings, *, tls: ssl.SSLContext | None = None) -> None:
        self._settings = settings
        self.timeout_s = settings.timeout_s
        self.limits = Limits(slots=settings.connections, first_slots=settings.connections, waiting=None, shared=True)
        self._place = Place(f"{settings.host}:{settings.port}")
        self._pool = SmtpPool(settings, tls=tls)

    def place(self, record: Record, *, looked_up: bool = False) -> Place:  # noqa: ARG002
        """Return the SMTP host; a recipient that is no single plain address is refused here."""
        envelope_address(record.recipient)
        return self._place

    async def send(self, record: Record, attempt: Attempt) -> Receipt:  # noqa: ARG002 - a repeat is the same message
        """Send one message."""
        recipient = envelope_address(record.recipient)
        message = self.message(record, recipient)
        progress = _Progress()
        try:
            async with asyncio.timeout(self.timeout_s):
                return Receipt(await self._transact(recipient, message, progress))
        except TimeoutError as error:
            raise _lost("smtp_timeout", progress, error) from error

    def message(self, record: Record, recipient: str) -> bytes:
        """Build the message of a notification, the same bytes for each attempt.

        Its From is the tenant's; the envelope's sender, whom bounces go to, is the installation's in any case.
        """
        own = self._settings.sender_name, self._settings.sender
        sender_name, sender = split_mailbox(record.sender) if record.sender else own
        try:
            return build_message(
                notification_id=record.id,
                sender_name=sender_name,
                sender=sender,
                recipient=recipient,
                subject=record.subject,
                text=record.message,
                created_at=record.created_at,
                extra=record.headers,
            )
        except (ValueError, TypeError) as error:  # a value that is no string among them
            raise PermanentDeliveryError("bad_header") from error

    async def _transact(self, recipient: str, message: bytes, progress: "_Progress") -> str:
        link = await self._pool.take()
        try:
            return await self._try(link, recipient, message, progress)
        except TransientDeliveryError:
            # A kept connection that the server had closed meanwhile says nothing about the server: one new one.
            if not progress.reused or progress.answered:
                raise
        return await self._try(await self._pool.take(fresh=True), recipient, message, progress)

    async def _try(self, link: Link, recipient: str, message: bytes, progress: "_Progress") -> str:
        progress.link, progress.reused, progress.answered = link, link.usable, False
        keep = False
        try:
            if not link.usable:
                await link.open()
            progress.connected = True
            words = await link.transact(self._settings.sender, recipient, message)
            keep = True
        except _REFUSED as error:
            keep = await self._reset(link, error)
            raise self._refusal(error, progress) from error
        except (aiosmtplib.SMTPException, ssl.SSLError, OSError, ValueError) as error:
            raise self._failure(error, progress) from error
        finally:
            self._pool.put(link, keep=keep)
        return _UNPRINTABLE.sub("?", f"250 {words}")[:_RECEIPT_CHARACTERS]

    async def _reset(self, link: Link, error: aiosmtplib.SMTPResponseException) -> bool:
        if error.code == 421 or error.code < 400 or not link.usable:
            return False
        try:
            await link.reset()
        except (aiosmtplib.SMTPException, OSError):
            return False
        return True

    def _refusal(self, error: aiosmtplib.SMTPResponseException, progress: "_Progress") -> DeliveryError:
        if 500 <= error.code <= 599:
            suppress = "address_refused" if _refuses_the_address(error) else None
            return PermanentDeliveryError(f"smtp_{error.code}", answered=True, suppress=suppress)
        if 400 <= error.code <= 499:
            progress.answered = error.code != 421
            return TransientDeliveryError(f"smtp_{error.code}", answered=True)
        return _lost("smtp_bad_answer", progress, error)

    def _failure(self, error: Exception, progress: "_Progress") -> DeliveryError:
        if isinstance(error, TimeoutError):
            return _lost("smtp_timeout", progress, error)
        if not progress.connected:
            return TransientDeliveryError(_connect_reason(error))
        if isinstance(error, aiosmtplib.SMTPResponseException):
            return _lost("smtp_bad_answer", progress, error)
        return _lost("smtp_connection_lost", progress, error)

    async def aclose(self) -> None:
        """End idle connections."""
        await self._pool.aclose()


class _Progress:
    """How far a call has come; what a failure means depends on it."""

    def __init__(self) -> None:
        self.link: Link | None = None
        self.connected = self.reused = self.answered = False


def _lost(reason: str, progress: _Progress, _error: Exception) -> DeliveryError:
    if progress.link is not None and progress.link.dotted:
        return UnknownOutcomeError(reason)
    return TransientDeliveryError(reason)


def _refuses_the_address(error: aiosmtplib.SMTPResponseException) -> bool:
    """Say whether a permanent refusal is of the recipient's address, rather than of policy, size, sender or content.

    By the enhanced code where there is one: 5.1.x but for the sender's 5.1.7 and 5.1.8 (RFC 3463 §3.2). Else by the
    reply to RCPT TO: 550, 551, 553 (RFC 5321 §4.2.3); 552 is a full mailbox.
    """
    if not isinstance(error, aiosmtplib.SMTPRecipientRefused):
        return False
    if enhanced := _ENHANCED.match(error.message):
        return enhanced[1] == "5" and enhanced[2] == "1" and enhanced[3] not in ("7", "8")
    return error.code in (550, 551, 553)


def _connect_reason(error: Exception) -> str:
    if isinstance(error, aiosmtplib.SMTPAuthenticationError):
        return "smtp_login_refused"
    if isinstance(error, aiosmtplib.SMTPResponseException):
        return f"smtp_{error.code}" if 400 <= error.code <= 599 else "smtp_bad_answer"
    if isinstance(error, ssl.SSLError) or isinstance(error.__cause__, ssl.SSLError):  # the latter: from the first byte
        return "tls_failed"
    if type(error) is aiosmtplib.SMTPException:  # STARTTLS is not offered
        return "tls_failed"
    return "connect_failed"


def envelope_address(recipient: str) -> str:
    """Return a recipient as it goes into RCPT TO: one plain address, its domain in ASCII.

    Raises PermanentDeliveryError for anything else: lists, groups, display names, quoted or literal forms.
    """
    local, at, domain = recipient.rpartition("@")
    if domain and not domain.isascii():
        try:
            domain = idna.encode(domain, uts46=True).decode("ascii")
        except idna.IDNAError as error:
            raise PermanentDeliveryError("bad_recipient") from error
    address = f"{local}@{domain}"
    if not (at and _LOCAL.fullmatch(local) and len(local) <= 64 and _DOMAIN.fullmatch(domain) and len(address) <= 254):
        raise PermanentDeliveryError("bad_recipient")
    return address
