"""Row 19 of the hostile input: ids that are none, on every path that has one."""

import re
from collections.abc import Iterator
from typing import Any, cast

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api_service.services import EXTENSION, Services
from tests.unit.api_service.test_app import problem

NO_IDS = (
    *("x", "0", "-1", "1.0", "null", "%00", "%0d%0aX-Evil:%20x", "..", "%2e%2e%2f%2e%2e%2fetc%2fpasswd", "%252e%252e"),
    *(
        "'; DROP TABLE notifications; --",
        "*",
        "%25",
        "{id}",
        "%ff%fe",
        "%ed%a0%80",
        "०१९३०e2a-7c1e-7000-8f3a-5b6c7d8e9f00",
    ),
    *("01930e2a-7c1e-7000-8f3a-5b6c7d8e9f0g", "01930e2a7c1e70008f3a5b6c7d8e9f00x", "a" * 10_000, "ep_", "ep_x"),
    *("{01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00}", "urn:uuid:01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00"),
)
TEXT = "/api/v1/destinations/<path:destination>"
"""The one path whose last part is text, which is looked for as a parameter of a query."""


@pytest.fixture
def asked(app: Flask, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What was asked of the database."""
    asked: list[str] = []

    def run(*_: Any, **__: Any) -> Any:
        asked.append("asked")
        raise AssertionError("a query was made")

    monkeypatch.setattr(cast(Services, app.extensions[EXTENSION]).database, "run", run)
    return asked


def operations_with_ids(app: Flask) -> Iterator[tuple[str, str]]:
    """Method and rule of every operation with an id in its path."""
    for rule in app.url_map.iter_rules():
        if rule.arguments and rule.rule != TEXT:
            for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}:
                yield method, rule.rule


@pytest.mark.parametrize("name", NO_IDS)
def test_row_19_an_id_that_is_none_is_not_found(app: Flask, client: FlaskClient, asked: list[str], name: str) -> None:
    """404 like any unknown path, on each operation there is, and no query is made."""
    operations = list(operations_with_ids(app))
    assert len(operations) >= 11

    for method, rule in operations:
        path = re.sub(r"<[^>]+>", lambda _: name, rule)
        body = problem(client.open(path, method=method), 404, "not_found")
        assert len(name) < 3 or name not in str(body)
    assert asked == []


def test_row_19_an_id_that_could_be_one_is_looked_for(app: Flask, client: FlaskClient, asked: list[str]) -> None:
    """Or the test above would hold of anything."""
    answer = client.get("/api/v1/notifications/01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00")

    assert (answer.status_code, asked) == (500, ["asked"])
