"""The demo's chapters: what a client of the running stack does, and what it then sees at the receiving end.

Nothing here looks inside the services. A promise is judged by the API's answers, the mailbox and the receiver.
"""

import secrets
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from infra.local.clients import NOTIFICATIONS, Mailbox, Producer, Receiver, wait_for
from infra.local.processes import ManagedProcess

BATCHES, BATCH_SIZE = 10, 1_000
CRASH_BATCHES = 2
# After the last expected delivery: long enough for a double one, or one that was cancelled, to show up.
_SETTLE_S = 2.0
_BATCH_WAIT_S = 90.0
_STALLED_S = 15.0  # no delivery for this long: no more will come
_CRASH_WAIT_S = 60.0
_MAIL = {
    "channel": "email",
    "recipient": "ada@example.org",
    "subject": "On its way ✓",
    "message": "Your order 4711 has left our warehouse: 2 × tea, 1 × Brötchen.",
}


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
    play: Callable[[], Iterable[Promise]]


class Story:
    """Plays the chapters against a running stack.

    `show` is called with how many of the batch are accepted, and how many delivered.
    """

    def __init__(
        self,
        api: Producer,
        mailbox: Mailbox,
        receiver: Receiver,
        services: Mapping[str, ManagedProcess],
        show: Callable[[int, int], None],
    ) -> None:
        self._api = api
        self._mailbox = mailbox
        self._receiver = receiver
        self._services = services
        self._show = show

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
            Chapter(f"{BATCHES * BATCH_SIZE:,}, in batches of {BATCH_SIZE:,}", self.batch),
            Chapter(f"kill -9 in the middle of {CRASH_BATCHES * BATCH_SIZE:,} more", self.crash),
        ]

    def mail(self) -> Iterator[Promise]:
        """A mail is sent and read back from the mailbox."""
        sent = self._api.post(**_MAIL)
        self._api.wait_for_status(sent, "sent")
        found = self._mailbox.about(sent)
        as_written = [one for one in found if one["subject"] == _MAIL["subject"] and _MAIL["message"] in one["text"]]
        held = len(found) == len(as_written) == 1
        yield Promise("A mail arrives once, as it was written", held, f"{len(found)} in the mailbox, read back")

    def webhook(self) -> Iterator[Promise]:
        """A webhook arrives with a signature that its receiver can verify."""
        sent = self._post_webhook("orders", "Order 4711 was paid", payload={"order": 4711, "amount": "12.50"})
        self._api.wait_for_status(sent, "sent")
        signatures = [one["signature"] for one in self._receiver.received("orders", sent)]
        seen = f"{len(signatures)} received, signature {', '.join(signatures)}"
        yield Promise("A webhook arrives once, with a signature its receiver verifies", signatures == ["ok"], seen)

    def same_request_twice(self) -> Iterator[Promise]:
        """A client that got no answer sends its request again under the same Idempotency-Key."""
        key = {"Idempotency-Key": f"demo-{secrets.token_hex(8)}"}
        body = {"channel": "webhook", "recipient": self._receiver.url("twice"), "message": "Once, please"}
        first, second = (
            self._api.http.post(NOTIFICATIONS, json=body, headers=key).raise_for_status() for _ in range(2)
        )
        ids = {first.json()["id"], second.json()["id"]}
        for one in ids:
            self._api.wait_for_status(one, "sent")
        delivered = self._receiver.stats("twice")["accepted"]
        held = len(ids) == 1 and second.headers.get("Idempotent-Replayed") == "true" and delivered == 1
        seen = f"2 requests, {len(ids)} notification, {delivered} delivery"
        yield Promise("The same request sent twice is one notification", held, seen)

    def receiver_down(self) -> Iterator[Promise]:
        """A receiver answers 503 until it is mended; the dead letter is retried when due, and resolved."""
        self._receiver.fail("down", status=503)
        sent = self._post_webhook("down", "Are you there?")
        self._api.wait_for_status(sent, "failed")
        wait_for(lambda: self._api.dead_letter(sent), "a dead letter")
        refused = self._receiver.stats("down")["refused"]
        seen = f"{refused} requests answered 503, status failed, 1 dead letter"
        yield Promise("What a receiver refuses is kept as a dead letter", refused >= 1, seen)

        self._receiver.mend("down")
        self._api.wait_for_status(sent, "sent")
        wait_for(lambda: self._api.dead_letter(sent, status="resolved"), "its dead letter resolved")
        stats = self._receiver.stats("down")
        held = stats["accepted"] == stats["distinct"] == 1
        seen = f"{stats['accepted']} accepted after {stats['refused']} refused, one webhook-id, dead letter resolved"
        yield Promise("It is sent again when due, under the same id, and resolved", held, seen)

    def cancel(self) -> Iterator[Promise]:
        """A scheduled notification is cancelled before its time; one that has been sent cannot be."""
        due = datetime.now(UTC) + timedelta(seconds=2)
        planned = self._post_webhook("cancelled", "Never mind", scheduled_for=due.isoformat())
        answer = self._api.cancel(planned)
        sent = self._post_webhook("orders", "Too quick for you")
        self._api.wait_for_status(sent, "sent")
        too_late = self._api.cancel(sent)
        yield Promise("A cancel that comes too late says so", too_late == 409, f"after delivery: {too_late}")

        time.sleep(max(0.0, due.timestamp() - time.time()) + _SETTLE_S)
        arrived, status = len(self._receiver.received("cancelled", planned)), self._api.status(planned)
        held = answer == 200 and arrived == 0 and status == "cancelled"
        seen = f"cancel answered {answer}, {arrived} arrived, status {status}"
        yield Promise("What was cancelled is never sent", held, seen)

    def schedule(self) -> Iterator[Promise]:
        """A scheduled notification waits for its time."""
        due = datetime.now(UTC) + timedelta(seconds=3)
        planned = self._post_webhook("scheduled", "It is time", scheduled_for=due.isoformat())
        self._api.wait_for_status(planned, "sent")
        late_s = [one["received_at"] - due.timestamp() for one in self._receiver.received("scheduled", planned)]
        held = len(late_s) == 1 and late_s[0] >= 0
        seen = f"{len(late_s)} arrived, {', '.join(f'{s:+.2f} s' for s in late_s)} from its time"
        yield Promise("A scheduled one does not come early", held, seen)

    def expire(self) -> Iterator[Promise]:
        """The delivery consumer is stopped while a notification expires; it must not send it afterwards."""
        consumer = self._services["delivery_consumer"]
        consumer.pause()
        try:
            sent = self._post_webhook("expired", "Your code is 123456", expires_in=1)
            time.sleep(2.0)
        finally:
            consumer.resume()
        self._api.wait_for_status(sent, "expired")
        time.sleep(_SETTLE_S)
        arrived = len(self._receiver.received("expired", sent))
        yield Promise("What has expired is never sent", arrived == 0, f"expired after 1 s, {arrived} arrived")

    def batch(self) -> Iterator[Promise]:
        """Ten requests of 1,000 notifications each; every one must arrive, and none twice."""
        expected = BATCHES * BATCH_SIZE
        began = time.monotonic()
        with ThreadPoolExecutor(2) as pool:
            requests = [pool.submit(self._post_batch, "batch", number) for number in range(BATCHES)]
            self._watch(requests, expected)
            took_s = time.monotonic() - began
            accepted = {one for request in requests for one in request.result()}
        time.sleep(_SETTLE_S)
        received, stats = self._receiver.ids("batch"), self._receiver.stats("batch")
        self._show(len(accepted), len(received))
        lost, unknown = accepted - received, received - accepted
        pace = f"{took_s:.1f} s ({len(received) / took_s:,.0f}/s)"
        yield Promise(
            f"Of {expected:,} accepted, none is lost",
            len(accepted) == expected and not lost,
            f"{len(accepted):,} accepted, {len(received):,} arrived in {pace}, {len(lost)} lost",
        )
        yield Promise(
            "None arrives twice, and none that nobody sent",
            stats["accepted"] == len(received) and not unknown,
            f"{stats['accepted'] - len(received)} doubled, {len(unknown)} unknown",
        )

    def _watch(self, requests: list[Future[list[str]]], expected: int) -> None:
        """Show how far the batch is until all of it has arrived, or nothing arrives any more."""
        began = last_at = time.monotonic()
        last = 0
        while (delivered := self._receiver.stats("batch")["distinct"]) < expected:
            now = time.monotonic()
            if delivered != last:
                last, last_at = delivered, now
            if now - began > _BATCH_WAIT_S or now - last_at > _STALLED_S:
                return
            self._show(sum(len(request.result()) for request in requests if request.done()), delivered)
            time.sleep(0.2)

    def crash(self) -> Iterator[Promise]:
        """Relay and delivery consumer are killed while they work, and started again as an orchestrator would."""
        accepted = {one for number in range(CRASH_BATCHES) for one in self._post_batch("crash", number)}
        wait_for(lambda: self._receiver.stats("crash")["distinct"] >= len(accepted) // 10, "the first deliveries")
        victims = [self._services[name] for name in ("outbox_relay", "delivery_consumer")]
        for victim in victims:
            victim.kill()
        before = self._receiver.stats("crash")["distinct"]
        for victim in victims:
            victim.start()
        self._api.wait_until_at_rest(timeout_s=_CRASH_WAIT_S)
        received, doubled = self._receiver.ids("crash"), self._receiver.stats("crash")["duplicates"]
        yield Promise(
            "A crash of relay and consumer loses none",
            received == accepted,
            f"killed after {before:,}; {len(received):,} of {len(accepted):,} arrived",
        )
        unexplained = [one for one in doubled if "unknown" not in self._api.outcomes(one)]
        yield Promise(
            "Only what was under way may come twice, under its one id",
            not unexplained,
            f"{len(doubled)} came twice, {len(unexplained)} of them without an attempt recorded as unknown",
        )

    def _post_webhook(self, hook: str, message: str, **more: Any) -> str:
        return self._api.post(channel="webhook", recipient=self._receiver.url(hook), message=message, **more)

    def _post_batch(self, hook: str, number: int) -> list[str]:
        first = number * BATCH_SIZE
        return self._api.post_batch(
            [
                {
                    "channel": "webhook",
                    "recipient": self._receiver.url(hook),
                    "message": f"Statement {statement} is ready",
                    "payload": {"statement": statement},
                }
                for statement in range(first, first + BATCH_SIZE)
            ]
        )
