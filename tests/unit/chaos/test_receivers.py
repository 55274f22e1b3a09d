"""The receivers: what came is written down before the answer, and whether its signature is right."""

import base64
import time
from pathlib import Path
from typing import Any

import orjson
import pytest

from delivery_consumer.providers.mime import build_message
from delivery_consumer.providers.signing import signature
from infra.local.http_server import Request
from tests.chaos.config import Config
from tests.chaos.hooks import Hooks
from tests.chaos.ledger import Ledger, read
from tests.chaos.load import digest
from tests.chaos.smtp import MailServer

KEY = b"0123456789abcdef0123456789abcdef"
CONFIG = Config(
    seed=1, api_url="", hooks_port=20_000, smtp_port=0, secret="whsec_" + base64.b64encode(KEY).decode(), api_key="",
    began_at=0.0, ends_at=0.0, heal_at=float("inf"), rate=1.0, producers=1,
)  # fmt: skip
DATA = {"id": "n1", "subject": None, "message": "0-1-2 hello", "payload": {"b": 1, "a": 2}, "metadata": {}}


def request(*, at: int, **changes: str) -> Request:
    body = orjson.dumps({"type": "notification", "timestamp": "now", "data": DATA})
    headers = {
        "webhook-id": "n1",
        "webhook-timestamp": str(at),
        "webhook-signature": signature([KEY], webhook_id="n1", timestamp=at, body=body),
        "notification-attempt": "2",
    }
    return Request("POST", "/in", {}, headers | changes, body)


def received(tmp_path: Path, came: Request, behaviours: dict[str, str]) -> tuple[str, dict[str, Any]]:
    with Ledger(tmp_path / "hooks.jsonl") as ledger:
        answer = Hooks(CONFIG, behaviours, ledger).receive(came, "127.31.0.1")
        return answer, next(iter(read(tmp_path / "hooks.jsonl")))


def test_a_delivery_is_written_down_as_it_was_asked_for(tmp_path: Path) -> None:
    answer, entry = received(tmp_path, request(at=int(time.time())), {})

    assert answer == entry["ans"] == "200"
    assert entry["h"] == digest(None, "0-1-2 hello", {"a": 2, "b": 1}, None)
    assert (entry["id"], entry["a"], entry["tok"], entry["s"]) == ("n1", 2, "0-1-2", "ok")
    assert entry["to"] == "http://127.31.0.1:20000/in"


@pytest.mark.parametrize(
    ("came", "verdict"),
    [
        (request(at=int(time.time()) - 3600), "stale"),
        (request(at=int(time.time()), **{"webhook-id": "n2"}), "wrong"),
        (request(at=int(time.time()) - 3600, **{"webhook-id": "n2"}), "wrong"),
        (request(at=int(time.time()), **{"webhook-signature": ""}), "wrong"),
    ],
)
def test_a_signature_is_ok_or_stale_or_wrong(tmp_path: Path, came: Request, verdict: str) -> None:
    assert received(tmp_path, came, {})[1]["s"] == verdict


@pytest.mark.parametrize(("behaviour", "answer"), [("redirect", "302"), ("gone", "410"), ("slow", "200:")])
def test_a_destination_answers_as_it_behaves(tmp_path: Path, behaviour: str, answer: str) -> None:
    came = request(at=int(time.time()))

    assert received(tmp_path, came, {"127.31.0.1": behaviour})[0].startswith(answer)


@pytest.mark.parametrize("text", ["0-1-2 plain", "0-1-2 äöü 通知", "0-1-2 " + "x" * 1200])
def test_mail_has_the_content_that_was_asked_for(tmp_path: Path, text: str) -> None:
    message = build_message(
        notification_id="n1", sender_name="", sender="a@example.org", recipient="b@example.org",
        subject="Subject 通知", text=text, created_at="2030-01-31T09:00:00.000Z", extra={},
    )  # fmt: skip
    with Ledger(tmp_path / "smtp.jsonl") as ledger:
        MailServer(CONFIG, ledger).receive(message, "b@example.org", "250")
        entry = next(iter(read(tmp_path / "smtp.jsonl")))

    assert entry["h"] == digest("Subject 通知", text, None, None)
    assert (entry["id"], entry["mid"], entry["tok"]) == ("n1", "n1", "0-1-2")
