"""Suppressions over the API: added by hand, found, lifted; what is held goes on."""

from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from api_service.answer_schemas import HeldSchema
from api_service.suppression_answers import SuppressionDetailSchema, SuppressionSchema
from api_service.suppression_documents import SUPPRESS_EXAMPLE
from shared.db import suppressions
from shared.model import uuid7
from tests.servers import Database

PATH = "/api/v1/suppressions"
EMAIL = {"channel": "email", "recipient": "ada@example.com"}


def ask(client: FlaskClient, path: str, body: Any = None, *, status: int = 200) -> dict[str, Any]:
    """POST where there is a body, GET else."""
    response = client.get(path) if body is None else client.post(path, json=body)
    assert response.status_code == status, response.data
    found: dict[str, Any] = orjson.loads(response.data)
    return found


def a_held_one(client: FlaskClient, database: Database, suppression: dict[str, Any]) -> str:
    """Accept a notification and hold it, as the claim does; return its path."""
    recipient = {"channel": suppression["channel"], "recipient": suppression["recipient"]}
    accepted = ask(client, "/api/v1/notifications", recipient | {"message": "hello"}, status=202)
    with database.connect() as conn:
        conn.execute("UPDATE notifications SET status = 'suppressed' WHERE id = %s", (accepted["id"],))
        conn.execute("DELETE FROM outbox WHERE notification_id = %s", (accepted["id"],))
        conn.execute("INSERT INTO outbox_held VALUES (%s, %s)", (accepted["id"], suppression["id"]))
    return f"/api/v1/notifications/{accepted['id']}"


def test_a_recipient_is_suppressed_by_hand_once(client: FlaskClient) -> None:
    """With a note and a name; saying so again answers with what is there."""
    first = ask(client, PATH, SUPPRESS_EXAMPLE)
    again = ask(client, PATH, SUPPRESS_EXAMPLE | {"reason_note": "another", "by": "bob"})

    assert set(first) == set(SuppressionDetailSchema().fields)
    assert (first["reason"], first["detail"], first["created_by"]) == ("manual", "asked for no more mail", "ann")
    assert (first["active"], first["held"], first["notification_href"]) == (True, 0, None)
    assert again == first
    assert ask(client, first["href"]) == first


def test_a_recipient_is_stored_as_a_notification_stores_it(client: FlaskClient) -> None:
    """Or it would hold nothing back: domains in ASCII and lower case."""
    suppressed = ask(client, PATH, {"channel": "EMAIL", "recipient": "Ada@BÜCHER.example"})

    accepted = ask(
        client,
        "/api/v1/notifications",
        {"channel": "email", "recipient": "Ada@BÜCHER.example", "message": "x"},
        status=202,
    )

    assert suppressed["recipient"] == ask(client, f"/api/v1/notifications/{accepted['id']}")["recipient"]
    assert suppressed["created_by"] == "api"


def test_what_is_held_says_why_and_goes_on_once_it_is_lifted(client: FlaskClient, database: Database) -> None:
    """The notification names its suppression, which counts it; lifting twice is lifting once."""
    suppressed = ask(client, PATH, EMAIL)
    path = a_held_one(client, database, suppressed)
    held = ask(client, path)

    lifted = ask(client, f"{suppressed['href']}/lift", {"by": "cleo"})
    again = client.post(f"{suppressed['href']}/lift")
    with database.connect() as conn:
        resumed = suppressions.resume_held(conn, limit=10)

    assert set(held["suppression"]) == set(HeldSchema().fields)
    assert held["suppression"] == {"id": suppressed["id"], "reason": "manual", "href": suppressed["href"]}
    assert (lifted["active"], lifted["lifted_by"], lifted["held"]) == (False, "cleo", 1)
    assert (again.status_code, orjson.loads(again.data)) == (200, lifted)
    assert resumed == 1
    shown = ask(client, path)
    assert (shown["status"], shown["suppression"]) == ("pending", None)
    assert ask(client, suppressed["href"])["held"] == 0


def test_a_lifted_one_can_be_suppressed_again(client: FlaskClient) -> None:
    """Under its id, in new words."""
    first = ask(client, PATH, EMAIL)
    ask(client, f"{first['href']}/lift", {})

    anew = ask(client, PATH, EMAIL | {"reason_note": "again"})

    assert (anew["id"], anew["active"], anew["detail"], anew["lifted_by"]) == (first["id"], True, "again", None)


def test_suppressions_are_listed_page_by_page_and_filtered(client: FlaskClient, database: Database) -> None:
    """Newest first; a rare reason is found behind many others."""
    made = [ask(client, PATH, EMAIL | {"recipient": f"{number}@example.com"}) for number in range(4)]
    hook = ask(client, PATH, {"channel": "webhook", "recipient": "https://example.com/h"})
    ask(client, f"{made[0]['href']}/lift", {})
    with database.connect() as conn:
        conn.execute("UPDATE suppressions SET reason = 'gone' WHERE id = %s", (hook["id"],))

    page = ask(client, f"{PATH}?limit=3")
    rest = ask(client, f"{PATH}?limit=3&cursor={page['next_cursor']}")

    assert [one["id"] for one in page["data"] + rest["data"]] == [one["id"] for one in [*made, hook]][::-1]
    assert (page["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    assert set(page["data"][0]) == set(SuppressionSchema().fields)
    for query, count in (
        ("reason=gone", 1),
        ("reason=MANUAL&limit=4", 4),
        ("reason=address_refused", 0),
        ("active=false", 1),
        ("active=true&channel=email", 3),
        ("recipient=2@example.com", 1),
        ("recipient=https://example.com/h", 1),
    ):
        found = ask(client, f"{PATH}?{query}")
        assert (query, len(found["data"]), found["has_more"]) == (query, count, False)
    first = ask(client, f"{PATH}?reason=manual&limit=1")
    assert (len(first["data"]), first["has_more"]) == (1, True)
    assert ask(client, f"{PATH}?reason=manual&limit=1&cursor={first['next_cursor']}")["data"][0]["id"] == made[2]["id"]


@pytest.mark.parametrize(
    ("body", "pointers"),
    [
        ({}, ["/channel", "/recipient"]),
        (EMAIL | {"recipient": "no address"}, ["/recipient"]),
        (EMAIL | {"channel": "webhook"}, ["/recipient"]),
        ({"channel": "webhook", "recipient": "https://user:hush@example.com/"}, ["/recipient"]),
        (EMAIL | {"channel": "pigeon"}, ["/channel"]),
        (EMAIL | {"reason_note": ""}, ["/reason_note"]),
        (EMAIL | {"reason_note": "a" * 501}, ["/reason_note"]),
        (EMAIL | {"by": "a\nb"}, ["/by"]),
        (EMAIL | {"recipient": "x", "by": 1}, ["/by", "/recipient"]),
        (EMAIL | {"reason": "gone"}, ["/reason"]),
        ([], [""]),
    ],
)
def test_a_faulty_suppression_is_refused_field_by_field(client: FlaskClient, body: Any, pointers: list[str]) -> None:
    """Each fault by its pointer; nothing is suppressed."""
    problem = ask(client, PATH, body, status=400)

    assert sorted(error["pointer"] for error in problem["errors"]) == pointers
    assert ask(client, PATH)["data"] == []


@pytest.mark.parametrize("body", [{"by": ""}, {"reason": "x"}, []])
def test_a_faulty_lift_lifts_nothing(client: FlaskClient, body: Any) -> None:
    """A body that is given is read strictly."""
    suppressed = ask(client, PATH, EMAIL)

    ask(client, f"{suppressed['href']}/lift", body, status=400)

    assert ask(client, suppressed["href"])["active"] is True


@pytest.mark.parametrize("query", ["active=yes", "reason=rude", "channel=x", "cursor=x", "cursor=bw", "id=1"])
def test_a_faulty_query_is_refused(client: FlaskClient, query: str) -> None:
    """By the name of its parameter."""
    problem = ask(client, f"{PATH}?{query}", status=400)

    assert [error["parameter"] for error in problem["errors"]] == [query.split("=", maxsplit=1)[0]]


def test_an_unknown_suppression_is_not_found(client: FlaskClient) -> None:
    """Whatever is asked of it."""
    path = f"{PATH}/{uuid7()}"

    assert [client.get(path).status_code, client.post(f"{path}/lift").status_code] == [404, 404]
