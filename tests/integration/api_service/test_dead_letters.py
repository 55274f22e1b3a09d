"""Dead letters: listed, shown whole, sent again, discarded."""

from typing import Any
from uuid import UUID

import orjson
import pytest
from flask.testing import FlaskClient

from api_service.dead_letter_answers import (
    DeadLetterDetailSchema,
    DeadLetterGroupSchema,
    DeadLetterGroupsSchema,
    DeadLetterSchema,
    DeadLetterWithActionsSchema,
)
from shared.db import dlq_messages, notifications
from shared.db.dlq_messages import Tracked
from shared.db.notifications import Ended, Ticket
from shared.model import FailureClass, Outcome, uuid7
from tests.servers import Database

PATH = "/api/v1/dead-letters"
OWNER = UUID(int=7)


def get(client: FlaskClient, path: str) -> dict[str, Any]:
    response = client.get(path)
    assert response.status_code == 200, response.data
    found: dict[str, Any] = orjson.loads(response.data)
    return found


def a_dead_letter(client: FlaskClient, database: Database, failure_class: FailureClass = FailureClass.TRANSIENT) -> str:
    """Let a notification fail, and its dead letter be tracked; return the dead letter's id."""
    body: dict[str, Any] = {"channel": "webhook", "recipient": "https://example.com/h", "message": "hello"}
    body["headers"] = {"Authorization": "Bearer hush", "X-Region": "eu"}
    notification_id = UUID(orjson.loads(client.post("/api/v1/notifications", json=body).data)["id"])
    with database.connect() as conn:
        notifications.claim(conn, [Ticket(notification_id, 1)], owner=OWNER, lease_s=30)
        ended = Ended(notification_id, 1, Outcome.TRANSIENT, "http_503", destination="https://example.com")
        notifications.write_back(conn, [ended], owner=OWNER, dlq_topic="notifications.dlq")
        [(value,)] = conn.execute("SELECT record FROM notifications WHERE id = %s", (notification_id,)).fetchall()
        dlq_messages.track(conn, [tracked(notification_id, value, failure_class, offset=1)])
        found = dlq_messages.find_id(conn, notification_id)
    return str(found)


def tracked(notification_id: UUID | None, value: bytes, failure_class: FailureClass, *, offset: int) -> Tracked:
    return Tracked(
        tenant_id="default",
        notification_id=notification_id,
        channel="webhook" if notification_id else None,
        attempt=1 if notification_id else 0,
        message_key=b"key",
        original_payload=value,
        headers={"attempt": "1"},
        topic="notifications.webhook",
        partition=0,
        offset=offset,
        failure_class=failure_class,
        reason="http_503",
        destination="https://example.com",
        error_message="503 Service Unavailable",
        retry_in_s=60 if notification_id else None,
        rest_reason=None,
    )


def poison(database: Database) -> str:
    """Track bytes that nobody can decode; return the dead letter's id."""
    with database.connect() as conn:
        dlq_messages.track(conn, [tracked(None, b"\xff\xfe", FailureClass.POISON, offset=9)])
        [(found,)] = conn.execute("SELECT id FROM dlq_messages WHERE failure_class = 'poison'").fetchall()
    return str(found)


def status_of(client: FlaskClient, letter: dict[str, Any]) -> str:
    return str(get(client, letter["notification_href"])["status"])


def test_a_dead_letter_is_shown_with_what_led_to_it(client: FlaskClient, database: Database) -> None:
    """The record's bytes as they were, each attempt, and the way to the notification and back."""
    letter_id = a_dead_letter(client, database)

    letter = get(client, f"{PATH}/{letter_id}")

    assert (letter["status"], letter["reason"], letter["message_key"]) == ("failed", "http_503", "key")
    assert orjson.loads(letter["original_payload"]["data"])["message"] == "hello"
    assert [one["outcome"] for one in letter["attempts"]] == ["transient"]
    assert get(client, letter["notification_href"])["dead_letter"] == {"id": letter_id, "href": letter["href"]}
    assert set(letter) == set(DeadLetterDetailSchema().fields)


def test_credentials_are_hidden_in_a_dead_letter_too(client: FlaskClient, database: Database) -> None:
    """As in the notification; what is stored, and is sent by a retry, is unchanged."""
    letter_id = a_dead_letter(client, database)

    response = client.get(f"{PATH}/{letter_id}")

    assert b"hush" not in response.data
    payload = orjson.loads(orjson.loads(response.data)["original_payload"]["data"])
    assert payload["headers"] == {"Authorization": "(hidden)", "X-Region": "eu"}
    with database.connect() as conn:
        [(stored,)] = conn.execute("SELECT original_payload FROM dlq_messages").fetchall()
    assert b"Bearer hush" in stored


def test_dead_letters_are_listed_page_by_page_and_filtered(client: FlaskClient, database: Database) -> None:
    """Newest first, without payloads; a failure class tells a dead URL from a broken pipeline."""
    ids = [a_dead_letter(client, database) for _ in range(3)] + [poison(database)]

    page = get(client, f"{PATH}?limit=3")
    rest = get(client, f"{PATH}?limit=3&cursor={page['next_cursor']}")

    assert [one["id"] for one in page["data"] + rest["data"]] == ids[::-1]
    assert (page["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    assert set(page["data"][0]) == set(DeadLetterSchema().fields)
    assert [one["id"] for one in get(client, f"{PATH}?failure_class=POISON")["data"]] == [ids[3]]
    assert len(get(client, f"{PATH}?channel=webhook&status=failed")["data"]) == 3
    assert len(get(client, f"{PATH}?fingerprint={page['data'][1]['fingerprint']}")["data"]) == 3
    assert get(client, f"{PATH}?status=resolved")["data"] == []


def test_a_dead_letter_is_sent_again_once(client: FlaskClient, database: Database) -> None:
    """As the next attempt; while that is on its way a second word is refused."""
    letter_id = a_dead_letter(client, database)

    first, second = client.post(f"{PATH}/{letter_id}/retry"), client.post(f"{PATH}/{letter_id}/retry")

    letter = orjson.loads(first.data)
    assert (first.status_code, letter["status"], letter["retry_count"]) == (202, "retrying", 1)
    assert status_of(client, letter) == "pending"
    assert (second.status_code, orjson.loads(second.data)["state"]) == (409, "retrying")
    with database.connect() as conn:
        attempts = conn.execute("SELECT headers ->> 'attempt' FROM outbox WHERE topic = 'notifications.webhook'")
        assert [row[0] for row in attempts] == ["1", "2"]


def test_a_dead_letter_is_discarded_for_a_reason(client: FlaskClient, database: Database) -> None:
    """It rests for good; saying so again changes nothing, sending it again is refused."""
    letter_id = a_dead_letter(client, database)

    answers = [client.post(f"{PATH}/{letter_id}/discard", json={"reason": reason}) for reason in ("gone", "again")]

    letter = orjson.loads(answers[1].data)
    assert [answer.status_code for answer in answers] == [200, 200]
    assert (letter["status"], letter["resolution"], letter["resolution_note"]) == ("resolved", "discarded", "gone")
    retry = client.post(f"{PATH}/{letter_id}/retry")
    assert (retry.status_code, orjson.loads(retry.data)["state"]) == (409, "resolved")


def test_who_did_what_and_why_is_kept(client: FlaskClient, database: Database) -> None:
    """Each action with its person, in order; what was refused is none."""
    letter_id = a_dead_letter(client, database)
    client.post(f"{PATH}/{letter_id}/retry", json={"by": "ada", "note": "they mended it"})
    refused = client.post(f"{PATH}/{letter_id}/retry", json={"by": "bob"})
    fail_again(database)
    client.post(f"{PATH}/{letter_id}/retry")
    fail_again(database)

    discarded = client.post(f"{PATH}/{letter_id}/discard", json={"reason": "customer left", "by": "ada"})

    answer = orjson.loads(discarded.data)
    assert (refused.status_code, answer["resolved_by"]) == (409, "ada")
    assert set(answer) == set(DeadLetterWithActionsSchema().fields)
    assert [(one["action"], one["by"], one["note"], one["attempt"]) for one in answer["actions"]] == [
        ("retried", "ada", "they mended it", 2),
        ("retried", "api", None, 3),
        ("discarded", "ada", "customer left", None),
    ]
    assert get(client, f"{PATH}/{letter_id}")["actions"] == answer["actions"]


def fail_again(database: Database) -> None:
    """Let the retry of the one dead letter fail."""
    with database.connect() as conn:
        conn.execute("UPDATE notifications SET status = 'failed'")
        conn.execute("UPDATE dlq_messages SET status = 'failed', attempt = attempt + 1")


@pytest.mark.parametrize(
    ("body", "pointer"), [({"by": 1}, "/by"), ({"note": ""}, "/note"), ({"reason": "x"}, "/reason"), ([], "")]
)
def test_a_retry_that_says_something_wrong_changes_nothing(
    client: FlaskClient, database: Database, body: Any, pointer: str
) -> None:
    """Its body is optional, not arbitrary."""
    letter_id = a_dead_letter(client, database)

    response = client.post(f"{PATH}/{letter_id}/retry", json=body)

    assert response.status_code == 400
    assert [error["pointer"] for error in orjson.loads(response.data)["errors"]] == [pointer]
    assert get(client, f"{PATH}/{letter_id}")["status"] == "failed"


def test_dead_letters_are_counted_by_cause(client: FlaskClient, database: Database) -> None:
    """The largest group first; what is tried again by itself is told from what waits for a person."""
    ids = [a_dead_letter(client, database) for _ in range(3)] + [poison(database)]
    with database.connect() as conn:
        conn.execute("UPDATE dlq_messages SET retry_at = NULL WHERE id = %s", (ids[0],))

    found = get(client, f"{PATH}/groups")
    first, second = found["data"]
    one = get(client, f"{PATH}/groups?limit=1")

    assert (found["groups"], found["has_more"], one["groups"], one["has_more"]) == (2, False, 2, True)
    assert set(found) == set(DeadLetterGroupsSchema().fields)
    assert set(first) == set(DeadLetterGroupSchema().fields)
    assert first["fingerprint"] == "transient|https://example.com|http_503"
    assert (first["failure_class"], first["destination"], first["reason"]) == (
        "transient",
        "https://example.com",
        "http_503",
    )
    assert (first["count"], first["retrying"], first["at_rest"]) == (3, 2, 1)
    assert first["example_ids"] == ids[2::-1]
    assert first["first_failed_at"] < first["last_failed_at"] < first["next_retry_at"]
    assert (second["failure_class"], second["count"], second["next_retry_at"]) == ("poison", 1, None)
    assert [group["count"] for group in get(client, f"{PATH}/groups?channel=webhook")["data"]] == [3]
    assert [group["count"] for group in get(client, f"{PATH}/groups?failure_class=poison")["data"]] == [1]
    assert get(client, f"{PATH}/groups?status=retrying")["data"] == []
    assert client.get(f"{PATH}/groups?status=resolved").status_code == 400


def test_a_retrying_dead_letter_cannot_be_discarded(client: FlaskClient, database: Database) -> None:
    """Its attempt is on its way: cancel the notification instead."""
    letter_id = a_dead_letter(client, database)
    client.post(f"{PATH}/{letter_id}/retry")

    response = client.post(f"{PATH}/{letter_id}/discard", json={"reason": "late"})

    assert (response.status_code, orjson.loads(response.data)["state"]) == (409, "retrying")


def test_bytes_nobody_can_decode_are_shown_but_not_sent(client: FlaskClient, database: Database) -> None:
    """They name no notification; a person can look at them and discard them."""
    letter_id = poison(database)

    shown, retry = get(client, f"{PATH}/{letter_id}"), client.post(f"{PATH}/{letter_id}/retry")

    assert shown["original_payload"] == {"encoding": "base64", "data": "//4="}
    assert (shown["notification_href"], shown["attempts"]) == (None, [])
    assert retry.status_code == 409
    assert "decoded" in orjson.loads(retry.data)["detail"]
    assert client.post(f"{PATH}/{letter_id}/discard", json={"reason": "not ours"}).status_code == 200


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/reason"),
        ({"reason": ""}, "/reason"),
        ({"reason": "a" * 501}, "/reason"),
        ({"reason": 1}, "/reason"),
        ({"reason": "x", "by": ""}, "/by"),
        ({"reason": "x", "by": "b" * 101}, "/by"),
        ({"reason": "x", "by": "line\nbreak"}, "/by"),
        ({"reason": "x", "who": "me"}, "/who"),
        ([], ""),
    ],
)
def test_a_discard_without_a_reason_changes_nothing(
    client: FlaskClient, database: Database, body: Any, pointer: str
) -> None:
    """The field is named, the dead letter stays."""
    letter_id = a_dead_letter(client, database)

    response = client.post(f"{PATH}/{letter_id}/discard", json=body)

    assert response.status_code == 400
    assert [error["pointer"] for error in orjson.loads(response.data)["errors"]] == [pointer]
    assert get(client, f"{PATH}/{letter_id}")["status"] == "failed"


def test_an_unknown_dead_letter_is_not_found(client: FlaskClient) -> None:
    """Whatever is asked of it."""
    path = f"{PATH}/{uuid7()}"

    answers = [client.get(path), client.post(f"{path}/retry"), client.post(f"{path}/discard", json={"reason": "x"})]

    assert [answer.status_code for answer in answers] == [404, 404, 404]
