"""Destinations over the API: listed, filtered, shown with each consumer's part."""

from dataclasses import replace
from typing import Any
from urllib.parse import quote
from uuid import UUID

import orjson
import pytest
from flask.testing import FlaskClient

from api_service.destination_answers import DestinationDetailSchema, DestinationSchema, SeenByOneSchema
from shared.db import destinations
from shared.db.destinations import Report
from shared.model import BreakerState
from tests.servers import Database

PATH = "/api/v1/destinations"
DOWN = Report("https://a.example:443", "webhook", BreakerState.OPEN, 0, 1, 2, 12, 9, "http_503", 60.0)
MAIL = Report("mail.example:587", "email", BreakerState.CLOSED, 3, 20, 0, 90, 0, None, None)


@pytest.fixture(autouse=True)
def reports(database: Database) -> None:
    """Two consumers, a receiver that is down, a mail server that works, and another receiver."""
    up = replace(DOWN, breaker=BreakerState.CLOSED, failures=1, probe_in_s=None)
    with database.connect() as conn:
        destinations.report(conn, UUID(int=1), [DOWN, MAIL])
        destinations.report(conn, UUID(int=2), [up, replace(up, destination="https://b.example:443")])


def get(client: FlaskClient, path: str) -> dict[str, Any]:
    response = client.get(path)
    assert response.status_code == 200, response.data
    found: dict[str, Any] = orjson.loads(response.data)
    return found


def test_a_receiver_that_is_down_is_found_and_shown(client: FlaskClient) -> None:
    """By its breaker; its page says why, since when, and when it is asked again, for each consumer."""
    [listed] = get(client, f"{PATH}?breaker=open")["data"]
    shown = get(client, listed["href"])

    assert set(listed) == set(DestinationSchema().fields)
    assert set(shown) == set(DestinationDetailSchema().fields)
    assert {key: shown[key] for key in listed} == listed
    assert (shown["destination"], shown["last_reason"], shown["waiting"]) == ("https://a.example:443", "http_503", 4)
    assert (shown["calls"], shown["failures"], shown["consumer_count"]) == (24, 10, 2)
    assert [one["breaker"] for one in shown["consumers"]] == ["open", "closed"]
    assert all(set(one) == set(SeenByOneSchema().fields) for one in shown["consumers"])


def test_destinations_are_listed_page_by_page_and_filtered(client: FlaskClient) -> None:
    """By name; each filter alone."""
    page = get(client, f"{PATH}?limit=2")
    rest = get(client, f"{PATH}?limit=2&cursor={page['next_cursor']}")

    names = [one["destination"] for one in page["data"] + rest["data"]]
    assert names == ["https://a.example:443", "https://b.example:443", "mail.example:587"]
    assert (page["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    assert [one["destination"] for one in get(client, f"{PATH}?channel=EMAIL")["data"]] == ["mail.example:587"]
    assert len(get(client, f"{PATH}?breaker=closed")["data"]) == 2
    named = get(client, f"{PATH}?destination={quote('https://b.example:443', safe='')}")["data"]
    assert [one["destination"] for one in named] == ["https://b.example:443"]


@pytest.mark.parametrize("name", ["https://a.example:443", "https%3A%2F%2Fa.example%3A443"])
def test_a_name_is_taken_encoded_or_as_it_is(client: FlaskClient, name: str) -> None:
    """Two slashes in a row are part of it."""
    assert get(client, f"{PATH}/{name}")["destination"] == "https://a.example:443"


@pytest.mark.parametrize("name", ["https%3A%2F%2Fc.example%3A443", "%00", "a%FF"])
def test_an_unknown_destination_is_not_found(client: FlaskClient, name: str) -> None:
    """Whatever its name is made of."""
    assert client.get(f"{PATH}/{name}").status_code == 404


@pytest.mark.parametrize(
    ("query", "parameter"),
    [
        ("breaker=ajar", "breaker"),
        ("channel=pigeon", "channel"),
        ("limit=0", "limit"),
        ("cursor=bm9uc2Vuc2U", "cursor"),
        ("cursor=bw", "cursor"),
        ("state=open", "state"),
        ("destination=", "destination"),
    ],
)
def test_a_faulty_query_is_refused_by_name(client: FlaskClient, query: str, parameter: str) -> None:
    """A filter with a typing error never lists everything instead."""
    response = client.get(f"{PATH}?{query}")

    assert response.status_code == 400
    assert [error["parameter"] for error in orjson.loads(response.data)["errors"]] == [parameter]
