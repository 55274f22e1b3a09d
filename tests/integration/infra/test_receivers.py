"""The mail sink and the webhook receiver as processes: what they take, show, and refuse."""

import base64
import smtplib
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

import httpx
import pytest
from standardwebhooks import Webhook

from infra.local.ports import free_port
from infra.local.processes import Supervisor

SECRET = "whsec_" + base64.b64encode(b"s" * 32).decode()
MAIL = (
    "From: shop@example.org\r\nTo: {to}\r\nSubject: =?utf-8?q?T=C3=A4glich?= <script>alert(1)</script>\r\n"
    "Message-ID: <{id}@example.org>\r\nX-Notification-Id: {id}\r\n\r\nHello <b>{id}</b>\r\n"
)


@dataclass(frozen=True)
class Sink:
    """A running mail sink."""

    smtp_port: int
    http: httpx.Client

    def send(self, notification_id: str, to: str = "ada@example.org") -> None:
        with smtplib.SMTP("127.0.0.1", self.smtp_port, timeout=3) as client:
            client.sendmail("shop@example.org", [to], MAIL.format(id=notification_id, to=to).encode())


@pytest.fixture(scope="module")
def supervisor(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Supervisor]:
    """Ends the receivers with this module."""
    with Supervisor(tmp_path_factory.mktemp("receivers")) as supervisor:
        yield supervisor


@pytest.fixture(scope="module")
def sink_process(supervisor: Supervisor) -> Iterator[Sink]:
    """One sink for this module."""
    smtp_port, http_port = free_port(), free_port()
    ports = [f"--smtp-port={smtp_port}", f"--http-port={http_port}"]
    process = supervisor.process("sink", [sys.executable, "-m", "infra.local.smtp_sink", *ports]).start()
    process.wait_healthy(f"http://127.0.0.1:{http_port}/health/ready")
    with httpx.Client(base_url=f"http://127.0.0.1:{http_port}", trust_env=False) as client:
        yield Sink(smtp_port, client)


@pytest.fixture
def sink(sink_process: Sink) -> Sink:
    """The sink, empty and well-behaved."""
    sink_process.http.delete("/messages")
    sink_process.http.delete("/behaviour")
    return sink_process


@pytest.fixture(scope="module")
def receiver_process(supervisor: Supervisor) -> Iterator[httpx.Client]:
    """One receiver for this module."""
    port = free_port()
    command = [sys.executable, "-m", "infra.local.webhook_receiver", f"--port={port}"]
    process = supervisor.process("receiver", command, env={"WEBHOOK_SECRETS": SECRET}, cwd=Path.cwd()).start()
    process.wait_healthy(f"http://127.0.0.1:{port}/health/ready")
    with httpx.Client(base_url=f"http://127.0.0.1:{port}", trust_env=False, timeout=5) as client:
        yield client


@pytest.fixture
def receiver(receiver_process: httpx.Client) -> httpx.Client:
    """The receiver, empty and well-behaved."""
    receiver_process.delete("/received")
    receiver_process.delete("/behaviour")
    return receiver_process


def deliver(receiver: httpx.Client, hook: str, notification_id: str, *, secret: str = SECRET) -> httpx.Response:
    body = '{"type":"notification"}'
    now = datetime.now(UTC)
    headers = {
        "webhook-id": notification_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(secret).sign(notification_id, now, body),
        "notification-attempt": "1",
    }
    return receiver.post(f"/hooks/{hook}", content=body, headers=headers)


def test_mail_is_found_by_notification_and_by_recipient(sink: Sink) -> None:
    """With its subject decoded and its text readable."""
    sink.send("n1")
    sink.send("n2", to="grace@example.org")

    by_id = sink.http.get("/messages", params={"notification_id": "n1"}).json()["data"]
    by_recipient = sink.http.get("/messages", params={"to": "Grace@example.org"}).json()["data"]
    whole = sink.http.get(f"/messages/{by_id[0]['n']}").json()

    assert [mail["notification_id"] for mail in by_id + by_recipient] == ["n1", "n2"]
    assert by_id[0]["subject"].startswith("Täglich")
    assert whole["text"].strip() == "Hello <b>n1</b>"
    assert sink.http.get("/messages/999999").status_code == 404


def test_the_page_shows_mail_and_runs_none_of_it(sink: Sink) -> None:
    """Subject and text are strangers' words."""
    sink.send("n1")

    page = sink.http.get("/")

    assert "&lt;script&gt;alert(1)" in page.text
    assert "<script" not in page.text
    assert "<b>" not in page.text
    assert page.headers["content-security-policy"].startswith("default-src 'none'")


def test_the_page_counts_in_words(sink: Sink) -> None:
    """Mail that came twice is worth a word only where there is any."""
    pages = [sink.http.get("/").text]
    for notification_id in ("n1", "n2", "n2"):
        sink.send(notification_id)
        pages.append(sink.http.get("/").text)

    sentences = [page.partition("<p>")[2].partition("</p>")[0] for page in pages]

    assert sentences == [
        "Nothing yet. Messages are kept in memory only, until this sink ends.",
        "1 message.",
        "2 messages, the newest first.",
        "3 messages, the newest first; 1 notification came more than once.",
    ]


def test_a_browser_that_asks_for_an_icon_is_told_there_is_none(sink: Sink) -> None:
    """An answer without content has no length; the connection goes on."""
    icon, page = sink.http.get("/favicon.ico"), sink.http.get("/")

    assert (icon.status_code, icon.content, "content-length" in icon.headers) == (204, b"", False)
    assert page.status_code == 200


def test_mail_that_came_twice_is_counted_as_a_duplicate(sink: Sink) -> None:
    """By its notification."""
    for notification_id in ("n1", "n2", "n2"):
        sink.send(notification_id)

    stats = sink.http.get("/stats").json()

    assert (stats["accepted"], stats["distinct"], stats["duplicates"]) == (3, 2, {"n2": 2})


def test_mail_is_deferred_rejected_and_taken_again_as_told(sink: Sink) -> None:
    """For one recipient, as often as said."""
    codes = []
    for mode in ("defer", "reject"):
        sink.http.post("/behaviour", json={"mode": mode, "for_recipient": "ada@example.org", "times": 1})
        with pytest.raises(smtplib.SMTPRecipientsRefused) as caught:
            sink.send("n1")
        codes += [code for code, _ in caught.value.recipients.values()]
    sink.send("n1")

    assert codes == [451, 550]
    assert sink.http.get("/stats").json()["accepted"] == 1
    assert sink.http.post("/behaviour", json={"mode": "slow"}).status_code == 400


@pytest.mark.parametrize("mode", ["drop", "hang"])
def test_mail_is_taken_and_its_sender_left_in_doubt(sink: Sink, mode: str) -> None:
    """The message is there although the sender saw no answer."""
    sink.http.post("/behaviour", json={"mode": mode, "times": 1})

    with pytest.raises((smtplib.SMTPServerDisconnected, TimeoutError)):
        sink.send("n1")

    assert [mail["outcome"] for mail in sink.http.get("/messages").json()["data"]] == [mode]


def test_a_signed_webhook_is_taken_and_a_forged_one_is_not(receiver: httpx.Client) -> None:
    """What was not signed by us is refused with 401 and counts as no delivery."""
    other = "whsec_" + base64.b64encode(b"o" * 32).decode()

    genuine, forged = deliver(receiver, "x", "n1"), deliver(receiver, "x", "n2", secret=other)
    received = receiver.get("/received").json()["data"]
    stats = receiver.get("/stats").json()

    assert (genuine.status_code, forged.status_code) == (200, 401)
    assert [(one["id"], one["signature"], one["outcome"]) for one in received] == [
        ("n2", "mismatch", "401"),
        ("n1", "ok", "200"),
    ]
    assert (stats["accepted"], stats["wrong_signatures"]) == (1, 1)


def test_a_receiver_is_told_the_secret_of_an_endpoint(receiver: httpx.Client) -> None:
    """By the answer that showed it, as curl sends it; what is no secret is refused and not repeated."""
    secret = "whsec_" + base64.b64encode(b"e" * 32).decode()
    form = {"Content-Type": "application/x-www-form-urlencoded"}

    before = deliver(receiver, "x", "n1", secret=secret)
    told = receiver.post("/secrets", content=f'{{"id": "ep_1", "secret": "{secret}"}}', headers=form)
    after = [deliver(receiver, "x", "n1", secret=known) for known in (secret, SECRET)]
    refused = [receiver.post("/secrets", content=body) for body in ('{"secret": null}', '{"secret": "whsec_*"}', "no")]

    assert (before.status_code, told.status_code, told.json()) == (401, 200, {"secrets": 2})
    assert [answer.status_code for answer in after] == [200, 200]
    assert [answer.status_code for answer in refused] == [400] * 3
    assert "whsec_*" not in refused[1].text


def test_deliveries_are_counted_by_path_and_id(receiver: httpx.Client) -> None:
    """Duplicates are those accepted twice; the ids can be had."""
    for hook, notification_id in [("x", "n1"), ("x", "n1"), ("x", "n2"), ("y", "n3")]:
        deliver(receiver, hook, notification_id)

    stats = receiver.get("/stats", params={"path": "/hooks/x"}).json()

    assert (stats["accepted"], stats["distinct"], stats["duplicates"]) == (3, 2, {"n1": 2})
    assert receiver.get("/ids", params={"path": "/hooks/x"}).text.split() == ["n1", "n2"]
    assert receiver.get("/received", params={"id": "n3"}).json()["data"][0]["path"] == "/hooks/y"


def test_a_receiver_fails_late_resets_and_hangs_as_told(receiver: httpx.Client) -> None:
    """Each in its own way, on the wire."""
    receiver.post("/behaviour", json={"path": "/hooks/late", "status": 503, "delay_s": 0.3, "retry_after": 2})
    receiver.post("/behaviour", json={"path": "/hooks/reset", "mode": "reset"})
    receiver.post("/behaviour", json={"path": "/hooks/hang", "mode": "hang"})

    late = deliver(receiver, "late", "n1")
    with pytest.raises((httpx.ReadError, httpx.RemoteProtocolError)):
        deliver(receiver, "reset", "n2")
    with pytest.raises(httpx.ReadTimeout):
        receiver.post("/hooks/hang", content=b"", headers=_signed("n3"), timeout=0.3)

    assert (late.status_code, late.headers["retry-after"]) == (503, "2")
    assert late.elapsed.total_seconds() >= 0.3
    outcomes = {one["path"]: one["outcome"] for one in receiver.get("/received").json()["data"]}
    assert outcomes == {"/hooks/late": "503", "/hooks/reset": "reset", "/hooks/hang": "hang"}


def _signed(notification_id: str) -> dict[str, str]:
    now = datetime.now(UTC)
    return {
        "webhook-id": notification_id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": Webhook(SECRET).sign(notification_id, now, ""),
    }
