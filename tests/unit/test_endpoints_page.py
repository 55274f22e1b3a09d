"""The receiver that docs/endpoints.md shows works: with the library it names, on requests signed as ours are."""

import base64
import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from delivery_consumer.providers.signing import signature

PAGE = Path(__file__).resolve().parents[2] / "docs" / "endpoints.md"
KEY, OLD_KEY = bytes(range(32)), bytes(range(32, 64))
ID = "01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00"
BODY = orjson.dumps({"type": "notification", "data": {"message": "order.shipped", "payload": {"order": 4711}}})


@pytest.fixture
def handled() -> list[Any]:
    """What the receiver has handled."""
    return []


@pytest.fixture
def receiver(handled: list[Any]) -> FlaskClient:
    """The page's receiver, with a secret in place of the dots and what it leaves to its reader."""
    [code] = re.findall(r"(?s)```python\n(.*?)```", PAGE.read_text(encoding="utf-8"))
    seen: set[str] = set()
    names: dict[str, Any] = {
        "__name__": __name__,
        "first_time": lambda id_: id_ not in seen and not seen.add(id_),  # type: ignore[func-returns-value]
        "handle": lambda *what: handled.append(what),
    }
    assert "whsec_…" in code
    exec(code.replace("whsec_…", f"whsec_{base64.b64encode(KEY).decode()}"), names)
    client: FlaskClient = names["app"].test_client()
    return client


def posted(receiver: FlaskClient, *keys: bytes, ago: timedelta = timedelta(0), body: bytes = BODY) -> int:
    """Post what is signed as our webhooks are."""
    timestamp = int((datetime.now(UTC) - ago).timestamp())
    headers = {
        "webhook-id": ID,
        "webhook-timestamp": str(timestamp),
        "webhook-signature": signature(keys, webhook_id=ID, timestamp=timestamp, body=BODY),
    }
    return receiver.post("/hooks/orders", data=body, headers=headers, content_type="application/json").status_code


def test_it_takes_what_is_signed_by_its_secret_once(receiver: FlaskClient, handled: list[Any]) -> None:
    """While another one is rotated out too; a repeat is answered and not handled."""
    assert [posted(receiver, KEY), posted(receiver, OLD_KEY, KEY), posted(receiver, KEY, OLD_KEY)] == [204] * 3
    assert handled == [("order.shipped", {"order": 4711})]


def test_it_refuses_anything_else(receiver: FlaskClient, handled: list[Any]) -> None:
    """Another secret, another body, one kept for later."""
    refused = [
        posted(receiver, OLD_KEY),
        posted(receiver, KEY, body=BODY.replace(b"4711", b"4712")),
        posted(receiver, KEY, ago=timedelta(minutes=6)),
    ]

    assert refused == [401] * 3
    assert handled == []
