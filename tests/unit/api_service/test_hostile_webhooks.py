"""What the door refuses of a webhook, each row of the list of hostile inputs by its number."""

import asyncio
import contextlib

import httpx
import pytest
from flask.testing import FlaskClient

from api_service.representations import _without_credentials
from delivery_consumer.errors import PermanentDeliveryError
from delivery_consumer.providers import Attempt
from shared.webhook_addresses import is_forbidden
from tests.unit.delivery_consumer.test_webhook import a_notification, provider

PATH = "/api/v1/notifications"


def refused(client: FlaskClient, **fields: object) -> bool:
    """Say whether a webhook is answered 400."""
    body = {"channel": "webhook", "recipient": "https://shop.example/hook", "message": "Hi"} | fields
    return client.post(PATH, json=body).status_code == 400


@pytest.mark.parametrize(
    "url",
    ["file:///etc/passwd", "gopher://shop.example:70/", "unix:/run/docker.sock", "//shop.example/hook", "/hook",
     "http:shop.example", "http://user:pass@shop.example/", "http://user@shop.example/", "http://127.0.0.1#@shop.example/",
     "http://shop.example\\@127.0.0.1/", "http://shop.example:22/", "http://shop.example:25/", "http://127.0.0.1:5432/",
     "https://shop.example:6379/", "http://shop.example:0/", "http://shop.example:99999/", "http://shop.example:/",
     "http://shop.example/a\r\nX: y", "http://shop.example/a\nb", "http://shop.example/\x00", "http://shop.example/ b",
     "http://[fe80::1%25lo]/", "http://[::1/", "http://%31%32%37.1/", "http://shop..example/", "ftp://shop.example/"],
)  # fmt: skip
def test_row_48_urls_that_are_no_web_address(client: FlaskClient, url: str) -> None:
    """Refused at the door; behind it they are refused again, or judged by what they resolve to."""
    assert refused(client, recipient=url)


@pytest.mark.parametrize("port", [22, 25, 5432])
def test_row_48_ports_that_speak_no_http_are_refused_behind_the_door_too(port: int) -> None:
    """Whatever came in by another way, such as an endpoint from an earlier release."""
    assert is_forbidden("1.1.1.1", port)


@pytest.mark.parametrize(
    "name",
    ["Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", "Keep-Alive", "TE", "Trailer",
     "Upgrade", "Expect", "Via", "Cookie", "Forwarded", "X-Forwarded-For", "Proxy-Authorization", "Sec-Fetch-Mode",
     "webhook-id", "Webhook-Signature", "WEBHOOK-TIMESTAMP", "traceparent", "notification-attempt", "User-Agent",
     "X A", "X:A", "X-A\r\nHost", ""],
)  # fmt: skip
def test_row_50_custom_headers_that_are_ours(client: FlaskClient, name: str) -> None:
    """Refused at the door; behind it they are left out, or the webhook is refused."""
    sent: list[httpx.Request] = []

    def keep(request: httpx.Request) -> httpx.Response:
        sent.append(request)
        return httpx.Response(200)

    assert refused(client, headers={name: "forged"})
    with contextlib.suppress(PermanentDeliveryError):
        asyncio.run(provider(keep).send(a_notification(headers={name: "forged"}), Attempt(1)))

    assert [value for request in sent for value in request.headers.values() if value == "forged"] == []


def test_row_50_credentials_are_not_shown() -> None:
    """An Authorization is sent along, and hidden in every answer."""
    assert _without_credentials({"Authorization": "Bearer x", "X-Api-Key": "k", "X-Shop": "7"}) == {
        "Authorization": "(hidden)",
        "X-Api-Key": "(hidden)",
        "X-Shop": "7",
    }
