"""What every provider must do, whatever it speaks. A new channel adds a `Case` and passes these tests unchanged."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from ipaddress import ip_network

import pytest

from delivery_consumer.errors import DeliveryError, PermanentDeliveryError, TransientDeliveryError, UnknownOutcomeError
from delivery_consumer.providers import Attempt, Provider
from delivery_consumer.providers.email import EmailProvider
from delivery_consumer.providers.webhook import WebhookProvider
from delivery_consumer.settings import EmailSettings, SmtpTls, WebhookSettings
from shared.model import Channel, uuid7
from shared.records import Record
from tests.integration.delivery_consumer.parts import (
    OK,
    SECRET,
    SILENCE,
    RawServer,
    Session,
    SmtpScript,
    raw_server,
    read_request,
)

TIMEOUT_S = 0.6


@dataclass(frozen=True)
class Case:
    """A provider, and servers for it: one that accepts, one that is silent at once, one that is after all was sent."""

    channel: Channel
    make: Callable[[int], Provider]
    recipient: Callable[[int], str]
    bad_recipient: str
    accepting: Callable[[list[bytes]], Session]
    silent_at_the_end: Session


def a_webhook(port: int) -> Provider:
    """The webhook provider."""
    del port
    return WebhookProvider(WebhookSettings((SECRET,), TIMEOUT_S, (ip_network("127.0.0.0/8"),), 50))


def a_mailer(port: int) -> Provider:
    """The e-mail provider."""
    return EmailProvider(
        EmailSettings("127.0.0.1", port, None, None, "Shop", "shop@example.org", SmtpTls.OFF, TIMEOUT_S, 3)
    )


def http_accepting(bodies: list[bytes]) -> Session:
    """Take every request."""

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            headers, body = await read_request(reader)
            bodies.append(headers["webhook-id"].encode() + b"\n" + body)
            writer.write(OK)

    return session


def smtp_accepting(bodies: list[bytes]) -> Session:
    """Take every mail."""
    return SmtpScript(messages=bodies).session


async def silence(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Read whatever comes and say nothing."""
    while await reader.read(65536):
        pass


CASES = [
    Case(
        Channel.WEBHOOK, a_webhook, lambda port: f"http://127.0.0.1:{port}/hook?token=s3cret", "not a url",
        http_accepting, silence,
    ),
    Case(
        Channel.EMAIL, a_mailer, lambda _: "reader@example.org", "a@x, b@x", smtp_accepting,
        SmtpScript(replies={"DOT": SILENCE}).session,
    ),
]  # fmt: skip


@pytest.fixture(params=CASES, ids=lambda case: str(case.channel))
def case(request: pytest.FixtureRequest) -> Case:
    """Each provider in turn."""
    made: Case = request.param
    return made


@contextlib.asynccontextmanager
async def serving(case: Case, session: Session) -> AsyncIterator[tuple[Provider, Record, RawServer]]:
    """A provider, a record for it and its server."""
    async with raw_server(session) as server:
        provider = case.make(server.port)
        record = Record(
            str(uuid7()), "default", case.channel, case.recipient(server.port), "Hällo", "2026-01-02T03:04:05Z",
            subject="Hi",
        )  # fmt: skip
        try:
            yield provider, record, server
        finally:
            await provider.aclose()


async def test_a_yes_is_a_receipt(case: Case) -> None:
    """One message taken, one receipt that says something."""
    taken: list[bytes] = []
    async with serving(case, case.accepting(taken)) as (provider, record, _):
        receipt = await provider.send(record, Attempt(1))

    assert receipt.text
    assert len(taken) == 1


async def test_each_attempt_carries_the_same_identity_and_content(case: Case) -> None:
    """A receiver can drop what it has had before."""
    taken: list[bytes] = []
    async with serving(case, case.accepting(taken)) as (provider, record, _):
        for number in (1, 2, 3):
            await provider.send(record, Attempt(number))

    assert record.id.encode() in taken[0]
    assert len(set(taken)) == 1


async def test_silence_after_everything_was_sent_is_unknown_and_in_time(case: Case) -> None:
    """The provider's own deadline ends the call."""
    loop = asyncio.get_running_loop()
    async with serving(case, case.silent_at_the_end) as (provider, record, _):
        began_at = loop.time()
        with pytest.raises(UnknownOutcomeError):
            await provider.send(record, Attempt(1))

        assert loop.time() - began_at < provider.timeout_s * 1.5


async def test_a_server_that_is_away_is_transient(case: Case) -> None:
    """Nothing was sent."""
    async with raw_server(silence) as server:
        port = server.port
    provider = case.make(port)
    record = Record(str(uuid7()), "default", case.channel, case.recipient(port), "Hi", "2026-01-02T03:04:05Z")

    with pytest.raises(TransientDeliveryError):
        await provider.send(record, Attempt(1))
    await provider.aclose()


async def test_a_recipient_nothing_can_be_sent_to_is_permanent(case: Case) -> None:
    """Said before anything is opened."""
    async with serving(case, silence) as (provider, record, server):
        with pytest.raises(PermanentDeliveryError):
            provider.place(replace(record, recipient=case.bad_recipient))

    assert server.connections == 0


async def test_destinations_and_reasons_hold_no_user_data(case: Case) -> None:
    """They go to logs, metrics and dead letters."""
    async with serving(case, case.silent_at_the_end) as (provider, record, _):
        try:
            await provider.send(record, Attempt(1))
        except DeliveryError as error:
            assert error.reason.replace("_", "").isalnum()
        place = provider.place(record)
        assert place is not None
        shown = place.destination

    assert not any(part in shown for part in ("s3cret", "token", "reader", "hook"))


async def test_calls_side_by_side_do_not_mix(case: Case) -> None:
    """Thirty notifications at once, each taken once."""
    taken: list[bytes] = []
    async with serving(case, case.accepting(taken)) as (provider, record, _):
        records = [replace(record, id=str(uuid7())) for _ in range(30)]
        await asyncio.gather(*(provider.send(one, Attempt(1)) for one in records))

    assert len(taken) == 30
    assert all(sum(one.id.encode() in body for body in taken) == 1 for one in records)


async def test_a_cancelled_call_leaves_nothing_behind(case: Case) -> None:
    """The next call works, and closing does not hang."""
    taken: list[bytes] = []
    async with serving(case, case.silent_at_the_end) as (provider, record, _):
        call = asyncio.create_task(provider.send(record, Attempt(1)))
        await asyncio.sleep(0.05)
        call.cancel()
        await asyncio.wait([call])
        assert call.cancelled()

    async with serving(case, case.accepting(taken)) as (provider, record, _):
        for _ in range(10):
            call = asyncio.create_task(provider.send(record, Attempt(1)))
            await asyncio.sleep(0)
            call.cancel()
            await asyncio.wait([call])
        assert (await provider.send(record, Attempt(1))).text
