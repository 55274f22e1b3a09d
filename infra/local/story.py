"""The demo's chapters: what a client of the running stack does, and what it then sees at the receiving end.

Nothing here looks inside the services. A promise is judged by the API's answers, the mailbox and the receiver.
"""

import secrets
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, TypeVar

import httpx

from infra.local.processes import ManagedProcess

BATCHES, BATCH_SIZE = 10, 1_000
NOTIFICATIONS = "/api/v1/notifications"
DEAD_LETTERS = "/api/v1/dead-letters"
_WAIT_S = 30.0
_BATCH_WAIT_S = 100.0
# After the last expected delivery: long enough for a double one, or one that was cancelled, to show up.
_SETTLE_S = 2.0
_MAIL_TEXT = "Your order 4711 has left our warehouse: 2 × tea, 1 × Brötchen."


T = TypeVar("T")


class UnmetError(Exception):
    """Something expected did not happen in time, or was not as expected."""


@dataclass(frozen=True)
class Promise:
    """One promise, and what was seen of it."""

    text: str
    held: bool
    seen: str


@dataclass(frozen=True)
class Chapter:
    """One part of the story: what it is about, and what plays it."""

    title: str
    play: Callable[[], Sequence[Promise]]


class Story:
    """Plays the chapters against a running stack."""

    def __init__(self, urls: dict[str, str], delivery: ManagedProcess, show: Callable[[int, int], None]) -> None:
        self._api = httpx.Client(base_url=urls["api"], timeout=30.0, trust_env=False)
        self._mail = httpx.Client(base_url=urls["mail"], timeout=10.0, trust_env=False)
        self._receiver = httpx.Client(base_url=urls["receiver"], timeout=10.0, trust_env=False)
        self._hooks = urls["receiver"] + "/hooks/"
        self._delivery = delivery
        self._show = show  # takes how many of the batch are accepted, and how many delivered

    def chapters(self) -> list[Chapter]:
        """The story in its order."""
        return [
            Chapter("A mail", self.mail),
            Chapter("A webhook, signed", self.webhook),
            Chapter("The same request twice", self.same_request_twice),
            Chapter("A receiver that is down", self.receiver_down),
            Chapter("A change of mind", self.cancel),
            Chapter("Not now, but later", self.schedule),
            Chapter("Too late to be of use", self.expire),
            Chapter(f"A batch of {BATCHES * BATCH_SIZE:,}", self.batch),
        ]

    def mail(self) -> list[Promise]:
        """A mail is sent and read back from the mailbox."""
        sent = self._post(channel="email", recipient="ada@example.org", subject="On its way ✓", message=_MAIL_TEXT)
        self._wait_for_status(sent["id"], "sent")
        found = self._get(self._mail, "/messages", notification_id=sent["id"])["data"]
        text = self._get(self._mail, f"/messages/{found[0]['n']}")["text"] if found else ""
        as_written = bool(found) and found[0]["subject"] == "On its way ✓" and _MAIL_TEXT in text
        held = len(found) == 1 and as_written
        return [
            Promise(
                "A mail arrives once, as it was written",
                held,
                f"{len(found)} in the mailbox, {len(text)} characters read back",
            )
        ]

    def webhook(self) -> list[Promise]:
        """A webhook arrives with a signature that its receiver can verify."""
        sent = self._post_webhook("orders", "Order 4711 was paid", payload={"order": 4711, "amount": "12.50"})
        self._wait_for_status(sent["id"], "sent")
        [*found] = self._received("orders", sent["id"])
        held = len(found) == 1 and found[0]["signature"] == "ok"
        seen = f"{len(found)} received, signature {found[0]['signature'] if found else 'never seen'}"
        return [Promise("A webhook arrives once, with a signature its receiver verifies", held, seen)]

    def same_request_twice(self) -> list[Promise]:
        """A client that got no answer sends its request again under the same Idempotency-Key."""
        key = {"Idempotency-Key": f"demo-{secrets.token_hex(8)}"}
        body = {"channel": "webhook", "recipient": self._hooks + "twice", "message": "Once, please"}
        first, second = (self._api.post(NOTIFICATIONS, json=body, headers=key) for _ in range(2))
        ids = {answer.raise_for_status().json()["id"] for answer in (first, second)}
        replayed = second.headers.get("Idempotent-Replayed") == "true"
        for one in ids:
            self._wait_for_status(one, "sent")
        delivered = self._get(self._receiver, "/stats", path="/hooks/twice")["accepted"]
        held = len(ids) == 1 and replayed and delivered == 1
        seen = f"2 requests, {len(ids)} notification, {delivered} delivery"
        return [Promise("The same request sent twice is one notification", held, seen)]

    def receiver_down(self) -> list[Promise]:
        """A receiver answers 503 until it is mended; the dead letter is retried when due, and resolved."""
        self._behave(path="/hooks/down", status=503)
        sent = self._post_webhook("down", "Are you there?")
        self._wait_for_status(sent["id"], "failed")
        letter = self._wait_for(lambda: self._dead_letter(sent["id"]), "a dead letter")
        refused = self._get(self._receiver, "/stats", path="/hooks/down")["refused"]
        self._receiver.delete("/behaviour", params={"path": "/hooks/down"}).raise_for_status()
        self._wait_for_status(sent["id"], "sent")
        resolved = self._wait_for(lambda: self._dead_letter(sent["id"], status="resolved"), "its dead letter resolved")
        stats = self._get(self._receiver, "/stats", path="/hooks/down")
        return [
            Promise(
                "What a receiver refuses is kept as a dead letter",
                letter is not None and refused >= 1,
                f"{refused} requests answered 503, status failed, 1 dead letter",
            ),
            Promise(
                "It is sent again when due, under the same id, and resolved",
                resolved is not None and stats["accepted"] == 1 and stats["distinct"] == 1,
                f"{stats['accepted']} accepted after {stats['refused']} refused, one webhook-id, dead letter resolved",
            ),
        ]

    def cancel(self) -> list[Promise]:
        """A scheduled notification is cancelled before its time; one that has been sent cannot be."""
        planned = self._post_webhook("cancelled", "Never mind", scheduled_for=_in(2.0))
        cancelled = self._api.post(f"{NOTIFICATIONS}/{planned['id']}/cancel")
        sent = self._post_webhook("orders", "Too quick for you")
        self._wait_for_status(sent["id"], "sent")
        refused = self._api.post(f"{NOTIFICATIONS}/{sent['id']}/cancel")
        time.sleep(2.0 + _SETTLE_S)
        status = self._status(planned["id"])
        arrived = len(self._received("cancelled", planned["id"]))
        return [
            Promise(
                "What was cancelled is never sent",
                cancelled.status_code == 200 and arrived == 0 and status == "cancelled",
                f"cancel answered {cancelled.status_code}, {arrived} arrived, status {status}",
            ),
            Promise(
                "A cancel that comes too late says so",
                refused.status_code == 409,
                f"cancel after delivery answered {refused.status_code}",
            ),
        ]

    def schedule(self) -> list[Promise]:
        """A scheduled notification waits for its time."""
        due = datetime.now(UTC) + timedelta(seconds=3)
        planned = self._post_webhook("scheduled", "It is time", scheduled_for=due.isoformat())
        self._wait_for_status(planned["id"], "sent")
        [*found] = self._received("scheduled", planned["id"])
        late_s = found[0]["received_at"] - due.timestamp() if found else float("nan")
        held = len(found) == 1 and late_s >= 0
        return [
            Promise("A scheduled one does not come early", held, f"{len(found)} arrived, {late_s:+.2f} s from its time")
        ]

    def expire(self) -> list[Promise]:
        """The delivery consumer is stopped while a notification expires; it must not send it afterwards."""
        self._delivery.pause()
        try:
            sent = self._post_webhook("expired", "Your code is 123456", expires_in=1)
            time.sleep(2.0)
        finally:
            self._delivery.resume()
        self._wait_for_status(sent["id"], "expired")
        time.sleep(_SETTLE_S)
        arrived = len(self._received("expired", sent["id"]))
        return [Promise("What has expired is never sent", arrived == 0, f"expired after 1 s, {arrived} arrived")]

    def batch(self) -> list[Promise]:
        """Ten requests of 1,000 notifications each; every one must arrive, and none twice."""
        accepted: set[str] = set()
        began = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            pending = [pool.submit(self._post_batch, number) for number in range(BATCHES)]
            while (delivered := self._delivered()) < BATCHES * BATCH_SIZE:
                accepted = {one for done in pending if done.done() for one in done.result()}
                self._show(len(accepted), delivered)
                if time.monotonic() - began > _BATCH_WAIT_S:
                    break
                time.sleep(0.2)
            took_s = time.monotonic() - began
            accepted = {one for done in pending for one in done.result()}
        time.sleep(_SETTLE_S)
        self._show(len(accepted), self._delivered())
        return [*self._judge_batch(accepted, took_s)]

    def _judge_batch(self, accepted: set[str], took_s: float) -> Iterator[Promise]:
        answer = self._receiver.get("/ids", params={"path": "/hooks/batch"}).raise_for_status()
        received = set(answer.text.split())
        lost, unknown = accepted - received, received - accepted
        stats = self._get(self._receiver, "/stats", path="/hooks/batch")
        expected = BATCHES * BATCH_SIZE
        pace = f"{took_s:.1f} s ({len(received) / took_s:,.0f}/s)"
        yield Promise(
            f"Of {expected:,} accepted, none is lost",
            len(accepted) == expected and not lost,
            f"{len(accepted):,} accepted, {len(received):,} arrived in {pace}, {len(lost)} lost",
        )
        yield Promise(
            "None arrives twice, and none that nobody sent",
            stats["duplicate_count"] == 0 and not unknown and not stats["without_id"],
            f"{stats['duplicate_count']} doubled, {len(unknown)} unknown",
        )

    def _post_batch(self, number: int) -> list[str]:
        items = [
            {
                "channel": "webhook",
                "recipient": self._hooks + "batch",
                "message": f"Statement {number * BATCH_SIZE + i} is ready",
                "payload": {"statement": number * BATCH_SIZE + i},
            }
            for i in range(BATCH_SIZE)
        ]
        answer = self._api.post(f"{NOTIFICATIONS}/batch", json=items).raise_for_status().json()
        return [one["id"] for one in answer["notifications"]]

    def _delivered(self) -> int:
        return int(self._get(self._receiver, "/stats", path="/hooks/batch")["distinct"])

    def _post(self, **body: Any) -> dict[str, Any]:
        answer = self._api.post(NOTIFICATIONS, json=body)
        if answer.status_code != 202:
            raise UnmetError(f"the API answered {answer.status_code}: {answer.text[:200]}")
        accepted: dict[str, Any] = answer.json()
        return accepted

    def _post_webhook(self, hook: str, message: str, **body: Any) -> dict[str, Any]:
        return self._post(channel="webhook", recipient=self._hooks + hook, message=message, **body)

    def _status(self, notification_id: str) -> str:
        return str(self._get(self._api, f"{NOTIFICATIONS}/{notification_id}")["status"])

    def _wait_for_status(self, notification_id: str, status: str) -> None:
        self._wait_for(
            lambda: self._status(notification_id) == status,
            f"status {status}",
            now=lambda: f", it is {self._status(notification_id)}",
        )

    def _dead_letter(self, notification_id: str, **filters: str) -> dict[str, Any] | None:
        letters = self._get(self._api, DEAD_LETTERS, **filters)["data"]
        return next((letter for letter in letters if letter["notification_id"] == notification_id), None)

    def _received(self, hook: str, notification_id: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = self._get(self._receiver, "/received", path=f"/hooks/{hook}", id=notification_id)[
            "data"
        ]
        return found

    def _behave(self, **behaviour: Any) -> None:
        self._receiver.post("/behaviour", json=behaviour).raise_for_status()

    @staticmethod
    def _get(client: httpx.Client, at: str, /, **parameters: str) -> dict[str, Any]:
        answer = client.get(at, params=parameters)
        answer.raise_for_status()
        content: dict[str, Any] = answer.json()
        return content

    @staticmethod
    def _wait_for(look: Callable[[], T | None], what: str, *, now: Callable[[], str] = str) -> T:
        """Return the first true value of `look`. Raises UnmetError when there was none in time."""
        deadline = time.monotonic() + _WAIT_S
        while not (found := look()):
            if time.monotonic() > deadline:
                raise UnmetError(f"{what} was not seen within {_WAIT_S:.0f} s{now()}")
            time.sleep(0.1)
        return found


def _in(seconds: float) -> str:
    return (datetime.now(UTC) + timedelta(seconds=seconds)).isoformat()
