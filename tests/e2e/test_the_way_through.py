"""One POST becomes a mail or a signed webhook; a failure becomes a dead letter that is retried and resolved."""

import time
from datetime import UTC, datetime, timedelta

import httpx

from tests.e2e.conftest import Client, until


def test_mail_is_sent_and_its_attempt_recorded(client: Client) -> None:
    """The shortest way: accepted, readable in the mailbox, shown as sent with one attempt."""
    id_ = client.accept(channel="email", recipient="ada@example.org", subject="Grüße", message="hello ☂")

    shown = client.wait_for(id_, "sent")

    mails = httpx.get(client.stack.urls["mail"] + "/messages", params={"notification_id": id_}, trust_env=False).json()
    assert [mail["subject"] for mail in mails["data"]] == ["Grüße"]
    assert [(a["attempt"], a["outcome"]) for a in shown["attempts"]] == [(1, "accepted")]


def test_webhook_is_sent_once_with_a_signature_its_receiver_verifies(client: Client) -> None:
    """The body carries message, payload and metadata; the id is in webhook-id."""
    id_ = client.accept(
        channel="webhook", recipient=client.hook("signed"), message="paid", payload={"order": 7}, metadata={"a": 1}
    )

    client.wait_for(id_, "sent")

    (received,) = client.receiver("/received", path="/hooks/signed")["data"]
    assert (received["id"], received["signature"], received["attempt"]) == (id_, "ok", "1")


def test_dead_letter_is_retried_when_due_and_resolved(client: Client) -> None:
    """A receiver that is down, and comes back."""
    client.behave(path="/hooks/down", status=503)
    id_ = client.accept(channel="webhook", recipient=client.hook("down"), message="are you there?")
    client.wait_for(id_, "failed")
    until(lambda: bool(dead_letters(client, id_)), timeout_s=10, what="a dead letter")
    httpx.delete(client.stack.urls["receiver"] + "/behaviour", params={"path": "/hooks/down"}, trust_env=False)

    shown = client.wait_for(id_, "sent")

    (letter,) = dead_letters(client, id_)
    assert (letter["status"], letter["resolution"], letter["failure_class"]) == ("resolved", "sent", "transient")
    assert [attempt["outcome"] for attempt in shown["attempts"]][-1] == "accepted"
    assert letter["retry_count"] == len(shown["attempts"]) - 1


def test_permanent_failure_rests_until_a_person_replays_it(client: Client) -> None:
    """A 404 is not tried again by itself; a replay is one attempt, and resolves the dead letter."""
    client.behave(path="/hooks/gone", status=404)
    id_ = client.accept(channel="webhook", recipient=client.hook("gone"), message="hello")
    client.wait_for(id_, "failed")
    until(lambda: bool(dead_letters(client, id_)), timeout_s=10, what="a dead letter")
    (letter,) = dead_letters(client, id_)
    assert (letter["failure_class"], letter["retry_at"], letter["rest_reason"]) == ("permanent", None, "permanent")
    httpx.delete(client.stack.urls["receiver"] + "/behaviour", params={"path": "/hooks/gone"}, trust_env=False)

    client.http.post(f"/api/v1/dead-letters/{letter['id']}/retry").raise_for_status()

    assert len(client.wait_for(id_, "sent")["attempts"]) == 2


def test_cancelled_one_never_arrives_and_a_sent_one_cannot_be_cancelled(client: Client) -> None:
    """I13: 200 means never; after that it is too late the answer is 409 with the state."""
    later = (datetime.now(UTC) + timedelta(seconds=2)).isoformat()
    cancelled = client.accept(
        channel="webhook", recipient=client.hook("cancelled"), message="not this", scheduled_for=later
    )
    sent = client.accept(channel="webhook", recipient=client.hook("too-late"), message="this")
    client.wait_for(sent, "sent")

    first = client.http.post(f"/api/v1/notifications/{cancelled}/cancel")
    again = client.http.delete(f"/api/v1/notifications/{cancelled}")
    too_late = client.http.post(f"/api/v1/notifications/{sent}/cancel")
    time.sleep(3)  # until after it would have been sent

    assert (first.status_code, again.status_code, too_late.status_code) == (200, 200, 409)
    assert too_late.json()["state"] == "sent"
    assert client.receiver("/stats", path="/hooks/cancelled")["received"] == 0
    assert client.show(cancelled)["status"] == "cancelled"


def test_scheduled_one_is_not_early_and_an_expired_one_never_sent(client: Client) -> None:
    """I14: no attempt before scheduled_for, none after expires_at."""
    due = datetime.now(UTC) + timedelta(seconds=2)
    scheduled = client.accept(
        channel="webhook", recipient=client.hook("later"), message="later", scheduled_for=due.isoformat()
    )
    delivery = client.stack.services["delivery_consumer"]
    delivery.pause()
    try:
        expiring = client.accept(channel="webhook", recipient=client.hook("late"), message="late", expires_in=1)
        time.sleep(1.5)
    finally:
        delivery.resume()

    client.wait_for(expiring, "expired")
    client.wait_for(scheduled, "sent")

    (received,) = client.receiver("/received", path="/hooks/later")["data"]
    assert received["received_at"] >= due.timestamp()
    assert client.receiver("/stats", path="/hooks/late")["received"] == 0


def test_one_ordering_key_arrives_in_order_one_at_a_time(client: Client) -> None:
    """I12: a slow receiver sees a key's notifications in the order they were accepted."""
    client.behave(path="/hooks/ordered", status=200, delay_s=0.01)
    ids = client.accept_many(
        [
            {"channel": "webhook", "recipient": client.hook("ordered"), "message": str(n), "ordering_key": "k"}
            for n in range(100)
        ]
    )

    until(lambda: client.counts(ids) == {"sent": 100}, timeout_s=30, what="all 100 sent")

    received = client.receiver("/received", path="/hooks/ordered", limit=1000)["data"]
    assert [one["id"] for one in reversed(received)] == ids


def dead_letters(client: Client, id_: str) -> list[dict[str, object]]:
    """The dead letters of a notification."""
    found = client.http.get("/api/v1/dead-letters", params={"limit": 250}).raise_for_status().json()["data"]
    return [letter for letter in found if letter["notification_id"] == id_]
