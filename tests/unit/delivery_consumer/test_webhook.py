"""The webhook provider without a network: httpx's mock transport answers."""

from collections.abc import Callable, Sequence
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from delivery_consumer.errors import PermanentDeliveryError, TransientDeliveryError, UnknownOutcomeError
from delivery_consumer.providers import Attempt, Place, Receipt
from delivery_consumer.providers.connecting import ForbiddenAddressError, NoAnswerError, NotSentError
from delivery_consumer.providers.transport import Answer, Target
from delivery_consumer.providers.webhook import MAX_RETRY_AFTER_S, WebhookProvider, retry_after_s
from delivery_consumer.settings import WebhookSettings
from shared.model import Channel
from shared.records import Record

NOW = 1_767_323_045.0  # 2026-01-02 03:04:05 UTC


def a_notification(**fields: Any) -> Record:
    """A webhook notification; keywords replace its fields."""
    values: dict[str, Any] = {
        "id": "0190b5a4-7c1e-7000-8000-000000000000",
        "tenant_id": "default",
        "channel": Channel.WEBHOOK,
        "recipient": "https://example.org/hook",
        "message": "Hello",
        "created_at": "2026-01-02T03:04:05Z",
    }
    return Record(**values | fields)


class Handled:
    """Posts to a function that takes an httpx.Request and returns an httpx.Response."""

    def __init__(self, handler: Callable[[httpx.Request], httpx.Response]) -> None:
        self._handler = handler

    async def post(
        self,
        target: Target,
        headers: Sequence[tuple[bytes, bytes]],
        body: bytes,
        *,
        tenant_id: str = "",
        timeout_s: float | None = None,
    ) -> Answer:
        """Post."""
        scheme, host, port = target.origin
        url = httpx.URL(scheme=scheme, host=host, port=port, raw_path=target.path)
        response = self._handler(httpx.Request("POST", url, headers=list(headers), content=body))
        return Answer(response.status_code, [(n.lower(), v) for n, v in response.headers.raw], response.content)

    async def aclose(self) -> None:
        """Nothing is open."""


def provider(handler: Any) -> WebhookProvider:
    """A provider whose requests go to `handler`."""
    settings = WebhookSettings((b"k" * 32,), 15, (), 50)
    return WebhookProvider(settings, transport=Handled(handler), now=lambda: NOW)


def webhook_answering(status: int, **headers: str) -> WebhookProvider:
    """A provider whose receiver answers the same to all."""
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return provider(lambda _: httpx.Response(status, headers=named))


async def test_busy_receiver_is_transient_and_names_its_own_delay() -> None:
    """A 503 is worth another attempt, no sooner than the receiver asked."""
    with pytest.raises(TransientDeliveryError) as caught:
        await webhook_answering(503, retry_after="30").send(a_notification(), Attempt(1))

    assert (caught.value.reason, caught.value.retry_after_s) == ("http_503", 30.0)


async def test_payload_that_cannot_be_written_again_is_permanent() -> None:
    """JSON may be read four times as deep as it may be written; no attempt will ever change that."""
    payload: dict[str, Any] = {}
    for _ in range(300):
        payload = {"a": payload}

    with pytest.raises(PermanentDeliveryError, match="bad_payload"):
        await webhook_answering(200).send(a_notification(payload=payload), Attempt(1))


@pytest.mark.parametrize("status", [200, 201, 202, 204, 226, 299])
async def test_any_2xx_is_a_yes(status: int) -> None:
    """The receipt is the status."""
    assert await webhook_answering(status).send(a_notification(), Attempt(1)) == Receipt(f"http_{status}")


@pytest.mark.parametrize(
    ("raised", "expected"),
    [
        (NotSentError("connect_refused"), TransientDeliveryError),
        (ForbiddenAddressError("address_forbidden"), PermanentDeliveryError),
        (NoAnswerError("answer_timeout"), UnknownOutcomeError),
    ],
)
async def test_what_the_transport_saw_decides(raised: Exception, expected: type[Exception]) -> None:
    """Not sent, not allowed, not answered."""

    def fail(_: httpx.Request) -> httpx.Response:
        raise raised

    with pytest.raises(expected, match=str(raised)):
        await provider(fail).send(a_notification(), Attempt(1))


async def test_attempts_differ_in_number_time_and_signature_only() -> None:
    """The id and the body's bytes are the same at every attempt."""
    clock, sent = [NOW], list[httpx.Request]()

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    one = WebhookProvider(WebhookSettings((b"k" * 32,), 15, (), 50), transport=Handled(keep), now=lambda: clock[0])
    record = a_notification(payload={"b": 1, "a": [None, 2.5]}, metadata={"ü": "é"})

    await one.send(record, Attempt(1))
    clock[0] += 60
    await one.send(record, Attempt(2))

    first, second = sent
    assert first.content == second.content
    different = {name for name in first.headers if first.headers[name] != second.headers[name]}
    assert different == {"webhook-timestamp", "webhook-signature", "notification-attempt"}


@pytest.mark.parametrize(
    "recipient",
    ["", "example.org", "ftp://example.org/", "file:///etc/passwd", "http://", "//example.org", "https://u:p@example.org/",
     "http://exa mple.org/", "http://example.org:99999/", "unix:/tmp/x", "http://[::1", "gopher://x:25/"],
)  # fmt: skip
def test_recipients_that_are_no_web_address_are_refused(recipient: str) -> None:
    """Before anything is resolved."""
    with pytest.raises(PermanentDeliveryError, match="bad_url"):
        webhook_answering(200).place(a_notification(recipient=recipient))


@pytest.mark.parametrize(
    ("recipient", "origin"),
    [("https://Example.org/a?token=secret", "https://example.org:443"), ("http://example.org:8080/", "http://example.org:8080"),
     ("https://bücher.example/", "https://xn--bcher-kva.example:443"), ("http://[2606:4700::1]/x", "http://[2606:4700::1]:80")],
)  # fmt: skip
def test_a_destination_is_an_origin(recipient: str, origin: str) -> None:
    """Scheme, host and port; path and query may hold secrets and stay out of logs."""
    assert webhook_answering(200).place(a_notification(recipient=recipient)) == Place(origin)


@pytest.mark.parametrize(
    "headers", [{"X-A": "b\r\nc: d"}, {"X-A\r\nB": "c"}, {"X-A": "\x00"}, {"X A": "b"}, {"": "b"}, {"X": 7}]
)
async def test_headers_that_would_break_the_request_are_refused(headers: dict[str, Any]) -> None:
    """Permanent: the same record would break it again."""
    with pytest.raises(PermanentDeliveryError, match="bad_header"):
        await webhook_answering(200).send(a_notification(headers=headers), Attempt(1))


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (None, None), ("", None), ("0", 0.0), ("120", 120.0), (" 5 ", 5.0), ("-1", None), ("1.5", None), ("1e3", None),
        ("9" * 400, MAX_RETRY_AFTER_S), ("86401", MAX_RETRY_AFTER_S), ("soon", None), ("٣", None),
        ("Fri, 02 Jan 2026 03:05:05 GMT", 60.0), ("Fri, 02 Jan 2026 03:04:04 GMT", None),
        ("Fri, 02 Jan 2099 03:04:05 GMT", MAX_RETRY_AFTER_S), ("Fri, 32 Jan 2026 03:04:05 GMT", None),
        ("Sunday, 06-Nov-94 08:49:37 GMT", None),
    ],
)  # fmt: skip
def test_retry_after(value: str | None, expected: float | None) -> None:
    """Seconds or an HTTP date, at most a day; what makes no sense is ignored."""
    assert retry_after_s(value, NOW) == expected


@given(st.text(max_size=60))
def test_no_retry_after_value_breaks_anything(value: str) -> None:
    """Whatever a receiver writes: nothing, or a number of seconds within a day."""
    delay_s = retry_after_s(value, NOW)

    assert delay_s is None or 0 <= delay_s <= MAX_RETRY_AFTER_S


@pytest.mark.parametrize(("status", "suppress"), [(410, "gone"), (404, None), (400, None), (301, None)])
async def test_only_410_says_that_the_endpoint_is_gone(status: int, suppress: str | None) -> None:
    """Standard Webhooks: 410 means that nothing more is to be sent there."""
    with pytest.raises(PermanentDeliveryError) as caught:
        await webhook_answering(status).send(a_notification(), Attempt(1))

    assert caught.value.suppress == suppress
