"""Showing, listing and cancelling notifications."""

from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import orjson
import pytest
from flask.testing import FlaskClient

from api_service.answer_schemas import NotificationSchema, NotificationSummarySchema
from api_service.paging import Cursors
from shared.db import notifications
from shared.db.notifications import Ended, Ticket
from shared.model import Outcome, uuid7
from tests.servers import Database

PATH = "/api/v1/notifications"
EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello", "subject": "s"}
WEBHOOK = {"channel": "webhook", "recipient": "https://example.com/h", "message": "hello"}
OWNER = UUID(int=7)


def send(client: FlaskClient, **body: Any) -> str:
    response = client.post(PATH, json=EMAIL | body)
    assert response.status_code == 202, response.data
    return str(orjson.loads(response.data)["id"])


def get(client: FlaskClient, path: str) -> dict[str, Any]:
    response = client.get(path)
    assert response.status_code == 200, response.data
    found: dict[str, Any] = orjson.loads(response.data)
    return found


def claim(database: Database, notification_id: str) -> None:
    with database.connect() as conn:
        assert notifications.claim(conn, [Ticket(UUID(notification_id), 1)], owner=OWNER, lease_s=30)


def end(database: Database, notification_id: str, outcome: Outcome) -> None:
    ended = Ended(UUID(notification_id), 1, outcome, "http_503", destination="https://example.com", receipt="250 ok")
    with database.connect() as conn:
        assert notifications.write_back(conn, [ended], owner=OWNER, dlq_topic="notifications.dlq") == 1


def test_a_notification_is_shown_with_its_timeline(client: FlaskClient, database: Database) -> None:
    """Its content, where it stands, and each attempt."""
    notification_id = send(client, metadata={"order": 7}, headers={"X-Token": "secret"}, ordering_key="k")
    claim(database, notification_id)
    end(database, notification_id, Outcome.ACCEPTED)

    shown = get(client, f"{PATH}/{notification_id}")

    assert (shown["id"], shown["status"], shown["attempt"]) == (notification_id, "sent", 1)
    assert (shown["message"], shown["subject"], shown["metadata"]) == ("hello", "s", {"order": 7})
    assert shown["headers"] == {"X-Token": "(hidden)"}
    [attempt] = shown["attempts"]
    assert (attempt["attempt"], attempt["outcome"], attempt["receipt"]) == (1, "accepted", "250 ok")
    assert attempt["began_at"] <= attempt["ended_at"]
    assert shown["dead_letter"] is None
    assert set(shown) <= set(NotificationSchema().fields)


@pytest.mark.parametrize("method", ["get", "delete"])
def test_an_unknown_notification_is_not_found(client: FlaskClient, method: str) -> None:
    """Whatever is asked of it."""
    response = getattr(client, method)(f"{PATH}/{uuid7()}")

    assert (response.status_code, orjson.loads(response.data)["code"]) == (404, "not_found")
    assert client.post(f"{PATH}/{uuid7()}/cancel").status_code == 404


def test_the_list_is_walked_page_by_page(client: FlaskClient) -> None:
    """Newest first; each once; the last page says that it is the last."""
    ids = [send(client) for _ in range(7)]

    seen, cursor = [], ""
    for expected in (3, 3, 1):
        page = get(client, f"{PATH}?limit=3{cursor}")
        assert len(page["data"]) == expected
        assert set(page["data"][0]) == set(NotificationSummarySchema().fields)
        seen += [one["id"] for one in page["data"]]
        assert page["has_more"] == (page["next_cursor"] is not None) == (expected == 3)
        cursor = f"&cursor={page['next_cursor']}"

    assert seen == ids[::-1]


def test_the_list_reads_no_content(client: FlaskClient, database: Database) -> None:
    """It shows none, and a page of large ones would fill the memory."""
    notification_id = send(client)
    with database.connect(autocommit=True) as conn:
        conn.execute("ALTER TABLE notifications RENAME COLUMN record TO out_of_reach")

    assert [one["id"] for one in get(client, PATH)["data"]] == [notification_id]


def test_a_full_last_page_is_the_last(client: FlaskClient) -> None:
    """No empty page follows."""
    for _ in range(2):
        send(client)

    assert get(client, f"{PATH}?limit=2")["has_more"] is False


def test_the_list_is_filtered(client: FlaskClient, database: Database) -> None:
    """By status, channel and recipient, in any case; alone and together."""
    sent, pending = send(client), send(client, recipient="bob@example.com")
    hook = orjson.loads(client.post(PATH, json=WEBHOOK).data)["id"]
    claim(database, sent)
    end(database, sent, Outcome.ACCEPTED)

    def ids(query: str) -> list[str]:
        return [one["id"] for one in get(client, f"{PATH}?{query}")["data"]]

    assert ids("status=SENT") == [sent]
    assert ids("status=pending") == [hook, pending]
    assert ids("channel=webhook") == [hook]
    assert ids("recipient=bob@example.com") == [pending]
    assert ids("recipient=bob@example.com&status=sent") == []


def test_the_list_is_bounded_by_time(client: FlaskClient) -> None:
    """`from` belongs to it, `to` does not; a cursor goes on within the same bounds."""
    first, second = send(client), send(client)
    at = get(client, f"{PATH}/{second}")["created_at"].replace("+00:00", "Z")

    def ids(query: str) -> list[str]:
        return [one["id"] for one in get(client, f"{PATH}?{query}")["data"]]

    assert second in ids(f"from={at}")
    assert second not in ids(f"to={at}")
    assert ids(f"to={at}&cursor={Cursors('notification', 'default').of_id(UUID(first))}") == []
    assert ids("from=0001-01-01T00:00:00Z") == [second, first]


@pytest.mark.parametrize("how", ["cancel", "delete"])
def test_what_is_not_claimed_can_be_cancelled_again_and_again(client: FlaskClient, how: str) -> None:
    """200 each time: after it no attempt begins."""
    notification_id = send(client)

    def cancel() -> Any:
        if how == "delete":
            return client.delete(f"{PATH}/{notification_id}")
        return client.post(f"{PATH}/{notification_id}/cancel")

    answers = [cancel(), cancel()]

    assert [answer.status_code for answer in answers] == [200, 200]
    assert orjson.loads(answers[1].data)["status"] == "cancelled"


@pytest.mark.parametrize(
    ("outcome", "state"), [(None, "processing"), (Outcome.ACCEPTED, "sent"), (Outcome.PERMANENT, "failed")]
)
def test_what_is_claimed_cannot_be_cancelled(
    client: FlaskClient, database: Database, outcome: Outcome | None, state: str
) -> None:
    """409 says how far it has come."""
    notification_id = send(client)
    claim(database, notification_id)
    if outcome:
        end(database, notification_id, outcome)

    response = client.delete(f"{PATH}/{notification_id}")

    assert response.status_code == 409
    assert (orjson.loads(response.data)["code"], orjson.loads(response.data)["state"]) == ("wrong_state", state)


def test_a_scheduled_one_can_be_cancelled(client: FlaskClient) -> None:
    """It was never anywhere near an attempt."""
    notification_id = send(client, scheduled_for=(datetime.now(UTC) + timedelta(hours=1)).isoformat())

    assert orjson.loads(client.delete(f"{PATH}/{notification_id}").data)["status"] == "cancelled"
