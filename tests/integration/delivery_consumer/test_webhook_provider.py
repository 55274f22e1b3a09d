"""What the webhook provider makes of everything a receiver may do, over real sockets."""

import asyncio
import json
from collections.abc import Awaitable, Callable
from dataclasses import replace
from ipaddress import ip_network

import httpx
import pytest
import standardwebhooks

from delivery_consumer.errors import (
    DeliveryError,
    PermanentDeliveryError,
    TransientDeliveryError,
    UnknownOutcomeError,
)
from delivery_consumer.providers import Attempt
from delivery_consumer.providers.connecting import Connector, ForbiddenAddressError
from delivery_consumer.providers.transport import OriginTransport
from delivery_consumer.providers.webhook import WebhookProvider
from delivery_consumer.settings import WebhookSettings
from shared.model import Channel, uuid7
from shared.records import Record
from tests.integration.delivery_consumer.parts import OK, SECRET, RawServer, Session, raw_server, read_request

SETTINGS = WebhookSettings((SECRET,), 1.0, (ip_network("127.0.0.0/8"),), 50)
Writer = asyncio.StreamWriter


def a_record(port: int, **fields: object) -> Record:
    """A webhook notification for a local port."""
    base = Record(
        str(uuid7()), "default", Channel.WEBHOOK, f"http://127.0.0.1:{port}/hook", "Hello", "2026-01-02T03:04:05Z"
    )
    return replace(base, **fields)  # type: ignore[arg-type]


async def send(
    session: Session, settings: WebhookSettings = SETTINGS, count: int = 1
) -> tuple[RawServer, list[object]]:
    """Send a few notifications one after another to a scripted receiver; receipts or errors come back."""
    provider = WebhookProvider(settings)
    results: list[object] = []
    async with raw_server(session) as server:
        for number in range(count):
            try:
                results.append((await provider.send(a_record(server.port), Attempt(number + 1))).text)
            except DeliveryError as error:
                results.append(error)
        await provider.aclose()
    return server, results


def answering(answer: bytes) -> Session:
    """A receiver that reads a request and writes these bytes, again and again."""

    async def session(reader: asyncio.StreamReader, writer: Writer) -> None:
        while True:
            await read_request(reader)
            writer.write(answer)

    return session


def after_request(then: Callable[[Writer], Awaitable[None]]) -> Session:
    """A receiver that reads a whole request first."""

    async def session(reader: asyncio.StreamReader, writer: Writer) -> None:
        await read_request(reader)
        await then(writer)

    return session


def status(code: int, *headers: str, body: bytes = b"") -> bytes:
    """An HTTP answer."""
    lines = [f"HTTP/1.1 {code} X", f"Content-Length: {len(body)}", *headers, "", ""]
    return "\r\n".join(lines).encode() + body


@pytest.mark.parametrize(
    ("answer", "kind", "reason", "retry_after_s"),
    [
        (status(400), PermanentDeliveryError, "http_400", None),
        (status(401), PermanentDeliveryError, "http_401", None),
        (status(404), PermanentDeliveryError, "http_404", None),
        (status(410), PermanentDeliveryError, "http_410", None),
        (status(301, "Location: http://127.0.0.1:1/"), PermanentDeliveryError, "http_301", None),
        (status(308, "Location: http://127.0.0.1:1/"), PermanentDeliveryError, "http_308", None),
        (status(408), TransientDeliveryError, "http_408", None),
        (status(425), TransientDeliveryError, "http_425", None),
        (status(429, "Retry-After: 7"), TransientDeliveryError, "http_429", 7.0),
        (status(429, "Retry-After: -7"), TransientDeliveryError, "http_429", None),
        (status(500), TransientDeliveryError, "http_500", None),
        (status(503, "Retry-After: 999999999999999999"), TransientDeliveryError, "http_503", 86400.0),
        (status(503, "Retry-After: soon"), TransientDeliveryError, "http_503", None),
        (status(503, "Retry-After: Wed, 21 Oct 2015 07:28:00 GMT"), TransientDeliveryError, "http_503", None),
        (b"SSH-2.0-OpenSSH_9.6\r\n\r\n", UnknownOutcomeError, "bad_response", None),
        (b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 40_000 + b"\r\n", UnknownOutcomeError, "bad_response", None),
    ],
)
async def test_each_answer_has_its_meaning(
    answer: bytes, kind: type[DeliveryError], reason: str, retry_after_s: float | None
) -> None:
    """Refusals are transient or permanent by their code; what is no answer is unknown."""
    _, (error,) = await send(answering(answer))

    assert type(error) is kind
    assert (error.reason, error.retry_after_s) == (reason, retry_after_s)


async def test_a_request_is_signed_complete_and_cannot_be_overridden() -> None:
    """The reference library accepts the signature; custom headers arrive, ours stay ours."""
    seen: list[tuple[dict[str, str], bytes]] = []

    async def session(reader: asyncio.StreamReader, writer: Writer) -> None:
        seen.append(await read_request(reader))
        writer.write(OK)

    provider = WebhookProvider(replace(SETTINGS, secrets=(b"n" * 32, SECRET)))
    async with raw_server(session) as server:
        own = {"X-Shop": "7", "Webhook-Id": "forged", "content-length": "1", "HOST": "evil", "User-Agent": "evil"}
        record = a_record(server.port, headers=own, payload={"a": [1]}, subject="Hi", metadata={"k": "v"})
        receipt = await provider.send(record, Attempt(3, "00-abc-def-01"))
        await provider.aclose()

    headers, body = seen[0]
    assert receipt.text == "http_200"
    assert headers[""] == "POST /hook HTTP/1.1"
    assert headers["host"] == f"127.0.0.1:{server.port}"
    assert headers["x-shop"] == "7"
    assert headers["webhook-id"] == record.id
    assert headers["notification-attempt"] == "3"
    assert headers["traceparent"] == "00-abc-def-01"
    assert headers["user-agent"].startswith("notification-pipeline/")
    assert "cookie" not in headers
    for key in (SECRET, b"n" * 32):
        assert standardwebhooks.Webhook(key).verify(body, headers)["data"]["id"] == record.id
    assert json.loads(body) == {
        "type": "notification",
        "timestamp": "2026-01-02T03:04:05Z",
        "data": {"id": record.id, "subject": "Hi", "message": "Hello", "payload": {"a": [1]}, "metadata": {"k": "v"}},
    }


async def test_connections_are_kept_and_cookies_are_not() -> None:
    """One connection carries request after request; what Set-Cookie said is not sent back."""
    requests: list[dict[str, str]] = []

    async def session(reader: asyncio.StreamReader, writer: Writer) -> None:
        while True:
            headers, _ = await read_request(reader)
            requests.append(headers)
            writer.write(status(200, "Set-Cookie: a=b", body=b"x" * 3000))

    server, results = await send(session, count=5)

    assert results == ["http_200"] * 5
    assert server.connections == 1
    assert all("cookie" not in headers for headers in requests)


async def test_a_kept_connection_that_was_closed_meanwhile_is_replaced() -> None:
    """A receiver that closes after each answer, unannounced, is met closing once at most; then it is known for that."""

    async def once(reader: asyncio.StreamReader, writer: Writer) -> None:
        await read_request(reader)
        writer.write(OK)
        await writer.drain()

    server, results = await send(once, count=20)

    failures = [result for result in results if result != "http_200"]
    assert [getattr(failure, "reason", failure) for failure in failures] in ([], ["no_answer"])
    assert server.connections >= 19


@pytest.mark.parametrize(
    ("then", "reason"),
    [("abort", "no_answer"), ("silence", "answer_timeout"), ("drip", "answer_timeout"), ("continue", "bad_response")],
)
async def test_no_answer_after_the_body_is_unknown_and_in_time(then: str, reason: str) -> None:
    """Reset, silence, drip and endless 100-continue after the last byte: unknown, within the deadline or sooner."""

    async def act(writer: Writer) -> None:
        if then == "silence":
            await asyncio.Event().wait()
        if then == "drip":
            writer.write(b"HTTP/1.1 200 OK\r\nX: ")
        while then in ("drip", "continue"):
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n" if then == "continue" else b"x")
            await asyncio.sleep(0.1)

    loop = asyncio.get_running_loop()
    began_at = loop.time()
    _, (error,) = await send(after_request(act))

    assert type(error) is UnknownOutcomeError
    assert error.reason == reason
    assert loop.time() - began_at < 1.5


async def test_a_receiver_that_does_not_read_is_transient() -> None:
    """What never left as a whole cannot have been acted on."""

    async def deaf(reader: asyncio.StreamReader, writer: Writer) -> None:
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.Event().wait()

    provider = WebhookProvider(SETTINGS)
    async with raw_server(deaf) as server:
        with pytest.raises(TransientDeliveryError) as caught:
            await provider.send(a_record(server.port, message="x" * 20_000_000), Attempt(1))
        await provider.aclose()

    assert caught.value.reason == "write_timeout"


async def test_an_endless_body_after_a_yes_is_a_yes() -> None:
    """The status line is the answer; at most 64 KiB of what follows is read."""
    sent = 0

    async def flood(writer: Writer) -> None:
        nonlocal sent
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000000000\r\n\r\n")
        while True:
            writer.write(b"x" * 65536)
            sent += 65536
            await writer.drain()

    _, results = await send(after_request(flood))

    assert results == ["http_200"]
    assert sent < 16_000_000


async def test_garbage_after_a_yes_is_a_yes() -> None:
    """A body that breaks off changes nothing about the status."""
    _, results = await send(answering(b"HTTP/1.1 202 Accepted\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n"), count=2)

    assert results == ["http_202", "http_202"]


async def test_nobody_listening_is_transient() -> None:
    """Connection refused."""
    provider = WebhookProvider(SETTINGS)
    async with raw_server(answering(OK)) as server:
        port = server.port
    with pytest.raises(TransientDeliveryError) as caught:
        await provider.send(a_record(port), Attempt(1))
    await provider.aclose()

    assert caught.value.reason == "connect_refused"


async def test_plain_text_where_tls_is_expected_is_transient() -> None:
    """A handshake that fails says nothing about the notification."""
    provider = WebhookProvider(SETTINGS)
    async with raw_server(answering(OK)) as server:

        async def babble(reader: asyncio.StreamReader, writer: Writer) -> None:
            writer.write(b"hello, this is no TLS\r\n")
            await asyncio.Event().wait()

        async with raw_server(babble) as other:
            with pytest.raises(TransientDeliveryError) as caught:
                await provider.send(a_record(0, recipient=f"https://127.0.0.1:{other.port}/"), Attempt(1))
        await provider.aclose()

    assert caught.value.reason == "tls_failed"
    assert server.connections == 0


@pytest.mark.parametrize(
    "host", ["127.0.0.1", "localhost", "127.1", "2130706433", "0x7f000001", "[::1]", "[::ffff:127.0.0.1]"]
)
async def test_loopback_is_out_of_reach_however_it_is_written(host: str) -> None:
    """Without an exemption no spelling of loopback gets a single connection."""
    provider = WebhookProvider(replace(SETTINGS, allowed_networks=()))
    async with raw_server(answering(OK)) as server:
        with pytest.raises(PermanentDeliveryError) as caught:
            await provider.send(a_record(0, recipient=f"http://{host}:{server.port}/"), Attempt(1))
        await provider.aclose()

    assert caught.value.reason == "address_forbidden"
    assert server.connections == 0


async def test_many_at_once_share_a_bounded_number_of_connections() -> None:
    """As many connections as calls at once, and they are used again."""
    provider = WebhookProvider(SETTINGS)
    async with raw_server(answering(OK)) as server:
        for _ in range(3):
            await asyncio.gather(*(provider.send(a_record(server.port), Attempt(1)) for _ in range(20)))
        await provider.aclose()

    assert server.connections <= 20


@pytest.mark.parametrize("then", ["abort", "silence"])
async def test_an_answer_given_before_the_body_was_read_counts(then: str) -> None:
    """A receiver that refuses by the head, and takes no more of the body, has answered."""

    async def refuse(reader: asyncio.StreamReader, writer: Writer) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(status(413, "Connection: close"))
        await writer.drain()
        reader._transport.pause_reading()  # type: ignore[attr-defined]
        await asyncio.sleep(0.2 if then == "abort" else 10)

    provider = WebhookProvider(SETTINGS)
    async with raw_server(refuse) as server:
        with pytest.raises(PermanentDeliveryError, match="http_413"):
            await provider.send(a_record(server.port, payload={"x": "y" * 20_000_000}), Attempt(1))
    await provider.aclose()


async def test_an_httpx_client_on_the_transport_is_guarded_too() -> None:
    """For providers of other channels: httpx's requests and answers, our connections."""
    async with raw_server(answering(status(200, "x-answer: yes", body=b"fine"))) as server:
        url = f"http://127.0.0.1:{server.port}/send?to=me"
        guarded = httpx.AsyncClient(transport=OriginTransport(Connector(), timeout_s=1.0))
        allowed = httpx.AsyncClient(
            transport=OriginTransport(Connector(allowed=SETTINGS.allowed_networks), timeout_s=1.0)
        )
        async with guarded, allowed:
            with pytest.raises(ForbiddenAddressError):
                await guarded.post(url, json={"to": "me"})
            answers = [await allowed.post(url, json={"to": "me"}) for _ in range(2)]

    assert [(answer.status_code, answer.text, answer.headers["x-answer"]) for answer in answers] == [
        (200, "fine", "yes")
    ] * 2
    assert server.connections == 1
