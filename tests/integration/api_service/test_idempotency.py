"""One key, one notification: repeats get the first answer, whenever and however they come."""

from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient
from werkzeug.datastructures import Headers

from api_service.idempotency import keyed_request
from tests.integration.api_service.conftest import counts
from tests.servers import Database

PATH = "/api/v1/notifications"
EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}
KEY = {"Idempotency-Key": "order-4711"}


def test_a_repeat_gets_the_stored_answer(client: FlaskClient, database: Database) -> None:
    """Status, body and Location alike, marked as a replay; blanks and the order of names make no difference."""
    first = client.post(PATH, json=EMAIL, headers=KEY)

    again = client.post(
        "/api/notifications",
        data=orjson.dumps(dict(reversed(EMAIL.items())), option=orjson.OPT_INDENT_2),
        content_type="application/json",
        headers=KEY,
    )

    assert (again.status_code, again.data) == (first.status_code, first.data)
    assert again.headers["Location"] == first.headers["Location"]
    assert ("Idempotent-Replayed" in first.headers, again.headers["Idempotent-Replayed"]) == (False, "true")
    assert counts(database) == {"notifications": 1, "outbox": 1, "outbox_due": 0, "idempotency_keys": 1}


def test_a_key_used_for_another_request_is_refused(client: FlaskClient, database: Database) -> None:
    """Another body, or another path."""
    client.post(PATH, json=EMAIL, headers=KEY)

    other_body = client.post(PATH, json=EMAIL | {"message": "bye"}, headers=KEY)
    other_path = client.post(f"{PATH}/batch", json=[EMAIL], headers=KEY)

    assert [other_body.status_code, other_path.status_code] == [422, 422]
    assert orjson.loads(other_body.data)["code"] == "idempotency_key_reused"
    assert counts(database)["notifications"] == 1


def test_a_repeat_is_answered_though_it_would_be_refused_by_now(client: FlaskClient, database: Database) -> None:
    """The instant it named may have passed since: that does not undo what was accepted."""
    body = EMAIL | {"scheduled_for": (datetime.now(UTC) + timedelta(hours=1)).isoformat()}
    first = client.post(PATH, json=body, headers=KEY)
    stale = EMAIL | {"scheduled_for": "2001-01-01T00:00:00Z"}
    fresh = client.post(PATH, json=stale, headers={"Idempotency-Key": "another"})
    with database.connect() as conn:  # an hour later, as far as the request can tell
        keyed = keyed_request(Headers(KEY), f"POST {PATH}", stale, tenant_id="default")
        assert keyed is not None
        conn.execute("UPDATE idempotency_keys SET request_sha256 = %s", (keyed.sha256,))

    again = client.post(PATH, json=stale, headers=KEY)

    assert fresh.status_code == 400
    assert (again.status_code, again.data) == (202, first.data)


def test_sixteen_at_once_are_one(client: FlaskClient, database: Database) -> None:
    """One notification, one answer."""
    app = client.application

    def post(_: int) -> Any:
        return app.test_client().post(PATH, json=EMAIL, headers=KEY)

    with ThreadPoolExecutor(16) as threads:
        answers = list(threads.map(post, range(16)))

    assert {answer.status_code for answer in answers} == {202}
    assert len({answer.data for answer in answers}) == 1
    assert sum("Idempotent-Replayed" in answer.headers for answer in answers) == 15
    assert counts(database) == {"notifications": 1, "outbox": 1, "outbox_due": 0, "idempotency_keys": 1}


def test_while_the_first_is_running_a_repeat_is_told_to_wait(client: FlaskClient, database: Database) -> None:
    """409 with Retry-After; nothing is written."""
    with database.connect() as first:
        first.execute(
            "INSERT INTO idempotency_keys (tenant_id, key, request_sha256, response_status, response_body)"
            " VALUES ('default', 'order-4711', sha256('x'), 202, '')"
        )

        response = client.post(PATH, json=EMAIL, headers=KEY)
        first.rollback()

    assert (response.status_code, response.headers["Retry-After"]) == (409, "1")
    assert orjson.loads(response.data)["code"] == "request_in_progress"
    assert client.post(PATH, json=EMAIL, headers=KEY).status_code == 202
    assert counts(database)["notifications"] == 1


@pytest.mark.parametrize("table", ["outbox", "idempotency_keys"])
def test_a_wait_for_anything_but_the_key_is_no_earlier_request(
    client: FlaskClient, database: Database, table: str
) -> None:
    """503 then, as without a key: 409 would claim that somebody else is at work on this request."""
    with database.connect() as conn:
        conn.execute(f"LOCK TABLE {table}")
        response = client.post(PATH, json=EMAIL, headers=KEY)
        conn.rollback()

    assert (response.status_code, orjson.loads(response.data)["code"]) == (503, "database_unavailable")
    assert client.post(PATH, json=EMAIL, headers=KEY).status_code == 202
    assert counts(database)["notifications"] == 1


@pytest.mark.parametrize("query", ["", "?atomic=false"])
def test_a_batch_is_repeated_as_a_whole(client: FlaskClient, database: Database, query: str) -> None:
    """With its result per item, where it has some."""
    batch = [EMAIL, EMAIL | {"message": "" if query else "bye"}]
    first = client.post(f"{PATH}/batch{query}", json=batch, headers=KEY)

    again = client.post(f"{PATH}/batch{query}", json=batch, headers=KEY)
    otherwise = client.post(f"{PATH}/batch?atomic={'true' if query else 'false'}", json=batch, headers=KEY)

    assert (first.status_code, again.status_code, again.data) == (202, 202, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"
    assert otherwise.status_code == 422
    assert counts(database)["notifications"] == (1 if query else 2)
