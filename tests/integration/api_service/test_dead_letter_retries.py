"""Bulk retries by the API: previewed, created, followed, cancelled; and each step taken as a dlq_consumer would."""

from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from api_service.dead_letter_answers import (
    BulkRetryAnswerSchema,
    BulkRetryPreviewSchema,
    BulkRetrySummarySchema,
)
from shared.db import dlq_retry_steps
from shared.model import uuid7
from tests.integration.dlq_consumer.dead_letters import end_retrying, many_failed, pass_time
from tests.servers import Database

PATH = "/api/v1/dead-letters/retry"
LIST = "/api/v1/dead-letters/retries"
FINGERPRINT = "transient|https://example.com|http_503"
FILTER = {"fingerprint": FINGERPRINT}


def body_of(response: Any, status: int) -> dict[str, Any]:
    """The body of a response with this status."""
    assert response.status_code == status, response.data
    body: dict[str, Any] = orjson.loads(response.data)
    return body


def failed(database: Database, count: int, **fields: Any) -> list[str]:
    """Add dead letters that failed; return their ids."""
    with database.connect() as conn:
        return [str(one) for one in many_failed(conn, count, **fields)]


def execute(database: Database, *, outcome: str | None = None) -> None:
    """Take every bulk retry a step further, and end what it sent."""
    with database.connect() as conn:
        pass_time(conn, 5)
        for retry_id in dlq_retry_steps.open_ids(conn):
            dlq_retry_steps.settle(conn, retry_id)
            dlq_retry_steps.send(conn, retry_id)
        if outcome:
            end_retrying(conn, outcome)
        for retry_id in dlq_retry_steps.open_ids(conn):
            dlq_retry_steps.settle(conn, retry_id)


def state(database: Database) -> list[Any]:
    """Everything a dry run must leave as it was."""
    tables = ("dlq_messages", "dlq_retries", "dlq_actions", "outbox", "notifications")
    with database.connect() as conn:
        return [conn.execute(f"SELECT * FROM {table} ORDER BY 1").fetchall() for table in tables]


def test_a_dry_run_says_what_it_would_take_and_changes_nothing(client: FlaskClient, database: Database) -> None:
    """It is what happens unless a person says otherwise."""
    ids = failed(database, 12)
    failed(database, 2, reason="http_404", failure_class="permanent")
    with database.connect() as conn:
        conn.execute("UPDATE dlq_messages SET notification_id = NULL WHERE id = %s", (ids[0],))
    before = state(database)

    found = body_of(client.post(PATH, json={"filter": {"channel": "WEBHOOK"}}), 200)

    assert set(found) == set(BulkRetryPreviewSchema().fields)
    assert (found["dry_run"], found["filter"]) == (True, {"channel": "webhook"})
    assert (found["matched"], found["cannot_be_sent"]) == (13, 1)
    assert found["dead_letter_ids"] == sorted(found["dead_letter_ids"], key=found["dead_letter_ids"].index)
    assert (found["dead_letter_ids"][:1], len(found["dead_letter_ids"])) == ([ids[1]], 10)
    assert [(group["fingerprint"], group["count"]) for group in found["groups"]] == [
        (FINGERPRINT, 11),
        ("permanent|https://example.com|http_404", 2),
    ]
    assert state(database) == before


def test_a_retry_by_filter_is_stored_and_can_be_followed_to_its_end(client: FlaskClient, database: Database) -> None:
    """202 and where to look; the letters name it, and it counts them."""
    ids = failed(database, 5)
    asked = {"filter": FILTER, "dry_run": False, "canary": 2, "rate_per_s": 100, "by": "ada", "note": "mended"}

    response = client.post(PATH, json=asked)
    created = body_of(response, 202)
    execute(database, outcome="sent")
    half = body_of(client.get(created["href"]), 200)
    for _ in range(4):
        execute(database, outcome="sent")
    done = body_of(client.get(created["href"]), 200)

    assert response.headers["Location"] == created["href"] == f"{LIST}/{created['id']}"
    assert set(created) == set(BulkRetrySummarySchema().fields)
    assert (created["status"], created["matched"], created["retried"]) == ("canary", 5, 0)
    assert (created["by"], created["note"], created["filter"]) == ("ada", "mended", FILTER)
    assert (half["status"], half["sent"]) == ("running", 2)
    assert set(done) == set(BulkRetryAnswerSchema().fields)
    assert (done["status"], done["retried"], done["sent"], done["failed"], done["failures"]) == ("done", 5, 5, 0, [])
    letter = body_of(client.get(f"/api/v1/dead-letters/{ids[0]}"), 200)
    assert (letter["retry_id"], letter["resolution"]) == (created["id"], "sent")
    [action] = letter["actions"]
    assert (action["action"], action["by"], action["note"]) == ("retried_by_filter", "ada", "mended")
    assert (action["retry_id"], action["outcome"], action["attempt"]) == (created["id"], "sent", 2)


def test_a_stopped_retry_says_what_failed(client: FlaskClient, database: Database) -> None:
    """By cause, with examples; it cannot be cancelled any more."""
    ids = failed(database, 5)
    created = body_of(client.post(PATH, json={"filter": FILTER, "dry_run": False, "canary": 1}), 202)

    execute(database, outcome="failed")

    stopped = body_of(client.get(created["href"]), 200)
    assert (stopped["status"], stopped["stop_reason"], stopped["failed"]) == ("stopped", "canary_failed", 1)
    assert stopped["failures"] == [{"fingerprint": FINGERPRINT, "count": 1, "example_ids": [ids[0]]}]
    refused = body_of(client.post(f"{created['href']}/cancel"), 409)
    assert (refused["code"], refused["state"]) == ("wrong_state", "stopped")


def test_a_cancelled_retry_says_who_and_why(client: FlaskClient, database: Database) -> None:
    """Saying so again changes nothing."""
    failed(database, 5)
    created = body_of(client.post(PATH, json={"filter": FILTER, "dry_run": False}), 202)

    first = body_of(client.post(f"{created['href']}/cancel", json={"by": "ada", "note": "too early"}), 200)
    again = body_of(client.post(f"{created['href']}/cancel", json={"by": "bob"}), 200)

    assert set(first) == set(BulkRetryAnswerSchema().fields)
    assert (first["status"], first["ended_by"], first["ended_note"]) == ("cancelled", "ada", "too early")
    assert again == first


def test_bulk_retries_are_listed_page_by_page(client: FlaskClient, database: Database) -> None:
    """Newest first, by status."""
    failed(database, 1)
    made = [body_of(client.post(PATH, json={"filter": FILTER, "dry_run": False}), 202)["id"] for _ in range(3)]
    client.post(f"{LIST}/{made[0]}/cancel")

    page = body_of(client.get(f"{LIST}?limit=2"), 200)
    rest = body_of(client.get(f"{LIST}?limit=2&cursor={page['next_cursor']}"), 200)

    assert [one["id"] for one in page["data"] + rest["data"]] == made[::-1]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert [one["id"] for one in body_of(client.get(f"{LIST}?status=cancelled"), 200)["data"]] == [made[0]]
    assert client.get(f"{LIST}?cursor=zzz").status_code == 400


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({}, "/filter"),
        ({"filter": None}, "/filter"),
        ({"filter": []}, "/filter"),
        ({"filter": {}}, "/filter"),
        ({"filter": {"reason": ""}}, "/filter/reason"),
        ({"filter": {"reason": 1}}, "/filter/reason"),
        ({"filter": {"failure_class": "bad_luck"}}, "/filter/failure_class"),
        ({"filter": {"channel": "pigeon"}}, "/filter/channel"),
        ({"filter": {"destination": "d" * 5000}}, "/filter/destination"),
        ({"filter": {"failed_from": "yesterday"}}, "/filter/failed_from"),
        (
            {"filter": {"failed_from": "2030-01-02T00:00:00Z", "failed_to": "2030-01-01T00:00:00Z"}},
            "/filter/failed_to",
        ),
        ({"filter": {"status": "failed"}}, "/filter/status"),
        ({"filter": FILTER, "dry_run": "false"}, "/dry_run"),
        ({"filter": FILTER, "dry_run": 0}, "/dry_run"),
        ({"filter": FILTER, "rate_per_s": 0.05}, "/rate_per_s"),
        ({"filter": FILTER, "rate_per_s": 1001}, "/rate_per_s"),
        ({"filter": FILTER, "rate_per_s": True}, "/rate_per_s"),
        ({"filter": FILTER, "rate_per_s": "10"}, "/rate_per_s"),
        ({"filter": FILTER, "canary": 101}, "/canary"),
        ({"filter": FILTER, "canary": -1}, "/canary"),
        ({"filter": FILTER, "canary": 1.5}, "/canary"),
        ({"filter": FILTER, "by": ""}, "/by"),
        ({"filter": FILTER, "note": "n" * 501}, "/note"),
        ({"filter": FILTER, "limit": 3}, "/limit"),
        ([], ""),
    ],
)
def test_what_is_wrong_is_named_and_nothing_is_stored(
    client: FlaskClient, database: Database, body: Any, pointer: str
) -> None:
    """A filter that was not understood must not take everything."""
    if isinstance(body, dict):
        body = {"dry_run": False} | body

    response = client.post(PATH, json=body)

    assert [error["pointer"] for error in body_of(response, 400)["errors"]] == [pointer]
    with database.connect() as conn:
        assert conn.execute("SELECT count(*) FROM dlq_retries").fetchall() == [(0,)]


def test_an_unknown_bulk_retry_is_not_found(client: FlaskClient) -> None:
    """Whatever is asked of it."""
    path = f"{LIST}/{uuid7()}"

    assert [client.get(path).status_code, client.post(f"{path}/cancel").status_code] == [404, 404]
