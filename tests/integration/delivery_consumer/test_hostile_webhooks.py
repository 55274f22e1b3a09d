"""What a webhook does not let itself be led to, on real sockets; rows of the list of hostile inputs by number."""

import asyncio
import contextlib
from dataclasses import replace

import pytest
import standardwebhooks

from delivery_consumer.providers import Attempt
from delivery_consumer.providers.signing import signature
from delivery_consumer.providers.webhook import WebhookProvider
from tests.integration.delivery_consumer.parts import OK, SECRET, Session, raw_server, read_request
from tests.integration.delivery_consumer.test_webhook_provider import SETTINGS, a_record

Requests = list[tuple[dict[str, str], bytes]]


def keeping(requests: Requests) -> Session:
    """A receiver that remembers what it was sent."""

    async def session(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError):
            while True:
                requests.append(await read_request(reader))
                writer.write(OK)

    return session


@pytest.mark.parametrize("name", ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "ALL_PROXY", "all_proxy"])
async def test_row_49_proxy_variables_are_ignored(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the environment says about proxies leads no webhook anywhere, and hands its content to nobody."""
    arrived: Requests = []
    at_proxy: Requests = []
    async with raw_server(keeping(arrived)) as receiver, raw_server(keeping(at_proxy)) as proxy:
        monkeypatch.setenv(name, f"http://127.0.0.1:{proxy.port}")
        provider = WebhookProvider(SETTINGS)
        await provider.send(a_record(receiver.port), Attempt(1))
        await provider.aclose()

    assert (len(arrived), proxy.connections) == (1, 0)


async def test_row_51_signatures_are_those_of_standard_webhooks() -> None:
    """Over the exact bytes that were sent, by each secret, at the time of the attempt; its library accepts them."""
    requests: Requests = []
    clock = [1_800_000_000.0]
    older, newer = SECRET, b"n" * 32
    async with raw_server(keeping(requests)) as server:
        record = a_record(server.port, payload={"ü": [1, None]}, subject="Grüße")
        rotating = WebhookProvider(replace(SETTINGS, secrets=(newer, older)), now=lambda: clock[0])
        await rotating.send(record, Attempt(1))
        clock[0] += 60
        await rotating.send(record, Attempt(2))
        rotated = WebhookProvider(replace(SETTINGS, secrets=(newer,)), now=lambda: clock[0])
        await rotated.send(record, Attempt(3))
        for provider in (rotating, rotated):
            await provider.aclose()

    (first, body), (second, again), (last, _) = requests
    assert body == again
    assert (first["webhook-timestamp"], second["webhook-timestamp"]) == ("1800000000", "1800000060")
    for headers in (first, second, last):
        assert headers["webhook-id"] == record.id
        stamp = int(headers["webhook-timestamp"])
        signed = headers["webhook-signature"].split(" ")
        keys = (newer,) if headers is last else (newer, older)
        assert signed == [signature([key], webhook_id=record.id, timestamp=stamp, body=body) for key in keys]
    with pytest.raises(ValueError, match="dot"):
        signature([SECRET], webhook_id="a.b", timestamp=1, body=body)


async def test_row_51_the_reference_library_accepts_what_arrives() -> None:
    """With either secret while rotating; with the old one no more afterwards."""
    requests: Requests = []
    older, newer = SECRET, b"n" * 32
    async with raw_server(keeping(requests)) as server:
        for secrets in ((newer, older), (newer,)):
            provider = WebhookProvider(replace(SETTINGS, secrets=secrets))
            await provider.send(a_record(server.port), Attempt(1))
            await provider.aclose()

    (rotating, body), (rotated, later) = requests
    for key in (newer, older):
        assert standardwebhooks.Webhook(key).verify(body, rotating)["type"] == "notification"
    assert standardwebhooks.Webhook(newer).verify(later, rotated)["type"] == "notification"
    with pytest.raises(standardwebhooks.WebhookVerificationError):
        standardwebhooks.Webhook(older).verify(later, rotated)
