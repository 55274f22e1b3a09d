"""What the e-mail provider makes of everything an SMTP server may do, over real sockets."""

import asyncio
import ssl
from dataclasses import replace

import pytest

from delivery_consumer.errors import (
    DeliveryError,
    PermanentDeliveryError,
    TransientDeliveryError,
    UnknownOutcomeError,
)
from delivery_consumer.providers import Attempt
from delivery_consumer.providers.email import EmailProvider
from delivery_consumer.settings import EmailSettings, SmtpTls
from shared.model import Channel, uuid7
from shared.records import Record
from tests.integration.delivery_consumer.parts import DROP, SILENCE, SmtpScript, raw_server

SETTINGS = EmailSettings("127.0.0.1", 0, None, None, "Shop", "shop@example.org", SmtpTls.OFF, 0.7, 3)


def a_mail(text: str = "Hello", **fields: object) -> Record:
    """A mail notification."""
    base = Record(
        str(uuid7()), "default", Channel.EMAIL, "reader@example.org", text, "2026-01-02T03:04:05Z", subject="Hi"
    )
    return replace(base, **fields)  # type: ignore[arg-type]


async def send(script: SmtpScript, *mails: Record, settings: EmailSettings = SETTINGS) -> list[object]:
    """Send mails one after another; receipts or errors come back."""
    results: list[object] = []
    async with raw_server(script.session) as server:
        provider = EmailProvider(replace(settings, port=server.port))
        for mail in mails or (a_mail(),):
            try:
                results.append((await provider.send(mail, Attempt(1))).text)
            except DeliveryError as error:
                results.append(error)
        await provider.aclose()
    return results


@pytest.fixture(autouse=True, params=["one by one", "pipelined"])
def _extensions(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every test twice: with a server that takes commands together, and with one that does not."""
    if request.param == "pipelined":
        monkeypatch.setattr(SmtpScript, "hello", b"250-test\r\n250-PIPELINING\r\n250 8BITMIME")


T, P, U = TransientDeliveryError, PermanentDeliveryError, UnknownOutcomeError


@pytest.mark.parametrize(
    ("step", "reply", "kind", "reason"),
    [
        ("BANNER", b"421 later", T, "smtp_421"),
        ("BANNER", b"554 no", T, "smtp_554"),
        ("BANNER", DROP, T, "connect_failed"),
        ("BANNER", SILENCE, T, "smtp_timeout"),
        ("EHLO", DROP, T, "smtp_connection_lost"),
        ("MAIL", b"451 later", T, "smtp_451"),
        ("MAIL", b"550 no", P, "smtp_550"),
        ("MAIL", b"421 bye", T, "smtp_421"),
        ("MAIL", DROP, T, "smtp_connection_lost"),
        ("RCPT", b"450 greylisted", T, "smtp_450"),
        ("RCPT", b"550 unknown", P, "smtp_550"),
        ("RCPT", SILENCE, T, "smtp_timeout"),
        ("DATA", b"452 full", T, "smtp_452"),
        ("DATA", b"554 no", P, "smtp_554"),
        ("DATA", DROP, T, "smtp_connection_lost"),
        ("DOT", b"451 later", T, "smtp_451"),
        ("DOT", b"552 too big", P, "smtp_552"),
        ("DOT", DROP, U, "smtp_connection_lost"),
        ("DOT", SILENCE, U, "smtp_timeout"),
        ("DOT", b"what?", U, "smtp_bad_answer"),
    ],
)
async def test_each_answer_at_each_step(step: str, reply: bytes, kind: type[DeliveryError], reason: str) -> None:
    """4yz is transient, 5yz about this mail permanent, doubt after the final dot unknown, all else transient."""
    (error,) = await send(SmtpScript(replies={step: reply}))

    assert type(error) is kind
    assert error.reason == reason


@pytest.mark.parametrize(
    ("step", "reply", "suppress"),
    [
        ("RCPT", b"550 5.1.1 <reader@example.org>: no such user", "address_refused"),
        ("RCPT", b"550-5.1.10 no mail is accepted\r\n550 5.1.10 by this domain", "address_refused"),
        ("RCPT", b"550 unknown", "address_refused"),
        ("RCPT", b"551 not local", "address_refused"),
        ("RCPT", b"553 bad name", "address_refused"),
        ("RCPT", b"550 5.1.8 bad sender", None),
        ("RCPT", b"550 5.7.1 blocked by policy", None),
        ("RCPT", b"550 5.2.1 mailbox disabled", None),
        ("RCPT", b"552 5.2.2 mailbox full", None),
        ("RCPT", b"552 over quota", None),
        ("RCPT", b"554 no", None),
        ("RCPT", b"450 5.1.1 later", None),
        ("MAIL", b"550 5.1.1 no", None),
        ("DATA", b"550 5.1.1 no", None),
        ("DOT", b"550 5.1.1 no", None),
    ],
)
async def test_only_a_refused_address_suppresses(step: str, reply: bytes, suppress: str | None) -> None:
    """A reply to RCPT TO about the address itself: not about policy, the mailbox, the sender or the content."""
    (error,) = await send(SmtpScript(replies={step: reply}))

    assert isinstance(error, DeliveryError)
    assert error.suppress == suppress


async def test_a_server_that_hangs_up_after_a_refusal_has_refused() -> None:
    """With the dot that ends what DATA had begun, and was for nobody."""

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test\r\n")
        for answer in (b"250-test\r\n250 PIPELINING", b"250 ok", b"550 5.1.1 unknown", b"354 go on"):
            await reader.readline()
            writer.write(answer + b"\r\n")
        await reader.readline()
        writer.close()

    async with raw_server(session) as server:
        provider = EmailProvider(replace(SETTINGS, port=server.port, timeout_s=5.0))
        with pytest.raises(PermanentDeliveryError) as caught:
            await provider.send(a_mail(), Attempt(1))
        await provider.aclose()

    assert caught.value.suppress == "address_refused"


async def test_a_drop_in_the_middle_of_the_message_is_transient() -> None:
    """The final dot was never sent, so nothing was accepted."""

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"220 test\r\n")
        for answer in (b"250 test", b"250 ok", b"250 ok", b"354 go on"):
            await reader.readline()
            writer.write(answer + b"\r\n")
        await reader.readexactly(100_000)
        writer.transport.abort()

    async with raw_server(session) as server:
        provider = EmailProvider(replace(SETTINGS, port=server.port, timeout_s=5.0))
        with pytest.raises(TransientDeliveryError) as caught:
            await provider.send(a_mail("x" * 70 + "\n" + ("y" * 900 + "\n") * 20_000), Attempt(1))
        await provider.aclose()

    assert caught.value.reason == "smtp_connection_lost"


async def test_mails_share_a_kept_connection() -> None:
    """Mail after mail on one connection, each to its one recipient, dots stuffed, line ends right."""
    script = SmtpScript()
    texts = ["one", ".\n..two\n.", "\r.\r\nMAIL FROM:<e@x>\r\n.\r\n", "smörgås\n.\n"]

    results = await send(script, *[a_mail(text) for text in texts])

    assert results == ["250 kept"] * 4
    assert script.connections == 1
    assert script.commands.count(b"RCPT TO:<reader@example.org>") == 4
    assert len(script.messages) == 4
    assert script.messages[1].partition(b"\r\n\r\n")[2] == b"..\r\n...two\r\n..\r\n.\r\n"
    assert not any(b"\n" in part.replace(b"\r\n", b"") for part in script.messages)


async def test_a_refused_recipient_does_not_cost_the_connection() -> None:
    """After a 550 the transaction is reset and the next mail goes on over the same connection."""
    script = SmtpScript(once={"RCPT": b"550 unknown"})

    refused, accepted = await send(script, a_mail(), a_mail())

    assert isinstance(refused, PermanentDeliveryError)
    assert accepted == "250 kept"
    assert script.connections == 1
    assert b"RSET" in script.commands


@pytest.mark.parametrize("farewell", [DROP, b"421 too many messages"])
async def test_a_kept_connection_the_server_ended_is_replaced_once(farewell: bytes) -> None:
    """A session that was closed while idle costs a connection, not an attempt."""
    script = SmtpScript()
    async with raw_server(script.session) as server:
        provider = EmailProvider(replace(SETTINGS, port=server.port))
        first = await provider.send(a_mail(), Attempt(1))
        script.once["MAIL"] = farewell
        second = await provider.send(a_mail(), Attempt(1))
        await provider.aclose()

    assert (first.text, second.text) == ("250 kept", "250 kept")
    assert script.connections == 2
    assert len(script.messages) == 2


async def test_a_connection_carries_a_hundred_messages() -> None:
    """Then another one is opened, before the server ends it."""
    script = SmtpScript()

    results = await send(script, *[a_mail() for _ in range(150)], settings=replace(SETTINGS, timeout_s=5.0))

    assert results == ["250 kept"] * 150
    assert script.connections == 2


async def test_connections_are_bounded() -> None:
    """No more connections than configured, however many mails at once."""
    script = SmtpScript()
    async with raw_server(script.session) as server:
        provider = EmailProvider(replace(SETTINGS, port=server.port, timeout_s=5.0))
        await asyncio.gather(*(provider.send(a_mail(), Attempt(1)) for _ in range(40)))
        await provider.aclose()

    assert script.connections <= 3
    assert len(script.messages) == 40


async def test_without_starttls_nothing_goes_out_in_the_clear() -> None:
    """Where TLS is required and not offered, the server sees no sender, recipient or message."""
    script = SmtpScript()

    (error,) = await send(script, settings=replace(SETTINGS, tls=SmtpTls.STARTTLS))

    assert isinstance(error, TransientDeliveryError)
    assert error.reason == "tls_failed"
    assert {command[:4] for command in script.commands} <= {b"EHLO", b"QUIT"}


async def test_a_refused_login_is_transient() -> None:
    """A wrong password is ours to mend: the mail must not be given up for it."""
    script = SmtpScript(replies={"EHLO": b"250-test\r\n250 AUTH PLAIN", "AUTH": b"535 no"})

    (error,) = await send(script, settings=replace(SETTINGS, user="u", password="p"))

    assert isinstance(error, TransientDeliveryError)
    assert error.reason == "smtp_login_refused"


async def test_a_server_certificate_nobody_vouches_for_is_transient() -> None:
    """A handshake that fails ends the call before anything is said."""
    script = SmtpScript(replies={"EHLO": b"250-test\r\n250 STARTTLS", "STAR": b"220 go"})
    context = ssl.create_default_context()

    async with raw_server(script.session) as server:
        provider = EmailProvider(replace(SETTINGS, port=server.port, tls=SmtpTls.STARTTLS), tls=context)
        with pytest.raises(TransientDeliveryError):
            await provider.send(a_mail(), Attempt(1))
        await provider.aclose()

    assert script.messages == []
