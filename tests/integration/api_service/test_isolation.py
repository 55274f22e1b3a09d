"""Two tenants at one API: whatever one of them asks, the other's things are as if they were not there."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient

from api_service import wsgi
from api_service.paging import Cursors
from api_service.routing import scope_of
from api_service.settings import read_settings
from shared.model import uuid7
from shared.settings import Environment
from tests.integration.api_service.conftest import OPEN, SECRETS_KEYS
from tests.integration.api_service.tenants import NOTIFICATIONS, ClientOf, Things, accepted, body_of, furnish, state
from tests.servers import Database

INJECTION = "'; DROP TABLE notifications; --"
SAME_IDS = {"X-Request-ID": "r-1", "X-Correlation-ID": "c-1"}
VOLATILE = {"date", "ratelimit", "x-ratelimit-remaining", "x-ratelimit-reset"}
"""Headers that say when something was asked, or how often, and not of what."""
BODIES: dict[str, Any] = {"discard": {"reason": "r"}, "role": {"role": "admin"}, "PATCH": {"rate_per_s": 5}}
"""What an operation needs to be understood, by the end of its path or by its method."""


@pytest.fixture(params=["api_service", None], ids=["bound", "unbound"])
def app(request: pytest.FixtureRequest, database: Database, tmp_path: Path) -> Iterator[Flask]:
    """The API, as its role, and as the owner, whom row-level security does not bind: each query names its tenant.

    Without limits: these tests ask for more in a second than anybody may.
    """
    url = database.dsn_of(request.param) if request.param else database.dsn
    environ = OPEN | {"DATABASE_URL": url, "SECRETS_KEYS": SECRETS_KEYS, "ENABLE_RATE_LIMITING": "false"}
    app = wsgi.build(read_settings(Environment(environ)), tmp_path)
    yield app
    wsgi.close(app)


@pytest.fixture
def a(client_of: ClientOf) -> FlaskClient:
    """A client of the tenant that asks."""
    return client_of("a")


@pytest.fixture
def b(client_of: ClientOf) -> FlaskClient:
    """A client of the tenant that is asked for."""
    return client_of("b")


@pytest.fixture
def of_b(b: FlaskClient, database: Database) -> Things:
    """What the tenant b has."""
    return furnish(b, database, "b")


def operations(app: Flask, *, with_id: bool) -> list[tuple[str, str]]:
    """Method and rule of each operation that needs a scope, about one thing or about many."""
    return sorted(
        (method, rule.rule)
        for rule in app.url_map.iter_rules()
        if rule.rule.startswith("/api/") and bool(rule.arguments) is with_id
        for method in (rule.methods or set()) - {"OPTIONS", "HEAD"}
        if scope_of(method, rule.rule) is not None
    )


def ids_of(things: Things) -> dict[str, list[str]]:
    """What stands in a rule for each kind of id, and ids of that kind."""
    return {
        "<uuid:notification_id>": [things.pending[0], things.failed[0], things.held[0]],
        "<uuid:dead_letter_id>": things.dead_letters[:1],
        "<uuid:retry_id>": things.retries[:1],
        "<uuid:suppression_id>": things.suppressions[:1],
        "<endpoint>": things.endpoints[:1],
        "<domain>": things.sender_domains[:1],
        "<key_id>": things.keys[:1],
        "<uuid:user_id>": things.users[:1],
        "<path:destination>": [quote(things.destination, safe="")],
    }


def kind_of(rule: str, kinds: dict[str, list[str]]) -> str:
    """Return which kind of id a rule takes."""
    found = [kind for kind in kinds if kind in rule]
    assert found, f"{rule}: what has another tenant of this? furnish() makes it, ids_of() names it"
    return found[0]


UNKNOWN = {
    "<endpoint>": f"ep_{uuid7().hex}",
    "<domain>": "unknown.example.com",
    "<key_id>": uuid7().hex[16:],
    "<path:destination>": quote("https://unknown.example.com:443", safe=""),
}


def asked(client: FlaskClient, method: str, path: str) -> tuple[int, list[tuple[str, str]], bytes]:
    """All that an answer consists of."""
    body = BODIES.get(path.rsplit("/", 1)[1]) or BODIES.get(method)
    response = client.open(path, method=method, json=body, headers=SAME_IDS)
    headers = [(name, value) for name, value in response.headers if name.lower() not in VOLATILE]
    return response.status_code, sorted(headers), response.data


def test_row_28_another_tenants_id_is_answered_as_an_unknown_one(
    app: Flask, a: FlaskClient, b: FlaskClient, of_b: Things, database: Database
) -> None:
    """404, byte for byte, whatever is asked of it; and nothing of the other tenant is changed."""
    before = state(database)
    kinds, tried = ids_of(of_b), 0

    for method, rule in operations(app, with_id=True):
        kind = kind_of(rule, kinds)
        unknown = asked(a, method, rule.replace(kind, UNKNOWN.get(kind, str(uuid7()))))
        for id_ in kinds[kind]:
            assert asked(a, method, rule.replace(kind, id_)) == unknown, (method, rule)
            tried += 1
        assert unknown[0] == 404, (method, rule)

    assert tried > 20
    assert state(database) == before


def test_row_28_its_own_tenant_finds_each_of_them(app: Flask, b: FlaskClient, of_b: Things) -> None:
    """Or the test above would hold of nothing."""
    kinds = ids_of(of_b)
    for method, rule in operations(app, with_id=True):
        if method == "GET":
            kind = kind_of(rule, kinds)
            for id_ in kinds[kind]:
                assert asked(b, method, rule.replace(kind, id_))[0] == 200, (method, rule)


def test_row_28_lists_and_counts_are_those_of_one_tenant(
    app: Flask, a: FlaskClient, b: FlaskClient, database: Database
) -> None:
    """The same bytes as before the other had anything."""
    lists = [rule for method, rule in operations(app, with_id=False) if method == "GET"]
    filters = {"filter": {"failure_class": "transient"}}

    def seen() -> list[Any]:
        counted = body_of(a.post("/api/v1/dead-letters/retry", json=filters))
        return [counted, *(asked(a, "GET", rule) for rule in lists)]

    before = seen()
    things = furnish(b, database, "b")
    after = seen()

    assert after == before
    assert {status for status, *_ in after[1:]} == {200}
    assert after[0]["matched"] == 0
    for recipient in ("ada@b.example.com", "https://hooks.b.example.com/in", things.endpoints[0]):
        for path in (NOTIFICATIONS, "/api/v1/suppressions"):
            assert body_of(a.get(path, query_string={"recipient": recipient}))["data"] == []
    assert body_of(a.get("/api/v1/dead-letters", query_string={"fingerprint": things.fingerprint}))["data"] == []
    assert body_of(a.get("/api/v1/audit-logs", query_string={"entity_id": things.endpoints[0]}))["data"] == []


def test_row_28_a_bulk_retry_takes_its_own_tenants_letters(a: FlaskClient, of_b: Things, database: Database) -> None:
    """Whatever the filter names."""
    asked_for = {"filter": {"fingerprint": of_b.fingerprint}, "dry_run": False}

    assert body_of(a.post("/api/v1/dead-letters/retry", json=asked_for), 202)["matched"] == 0


def test_row_29_no_parameter_names_a_tenant(app: Flask, a: FlaskClient, of_b: Things) -> None:
    """400 for what no operation takes: nobody may believe that it was heard."""
    for method, rule in operations(app, with_id=False) + operations(app, with_id=True):
        path = rule
        for kind, ids in ids_of(of_b).items():
            path = path.replace(kind, ids[0])
        for name in ("tenant_id", "tenant", "sort", "order_by", "filter"):
            response = a.open(path, method=method, query_string={name: "b"}, json={})
            answer = body_of(response, 400)
            assert [error["parameter"] for error in answer["errors"]] == [name], (method, rule)


def test_row_29_a_filter_is_no_sql(app: Flask, a: FlaskClient, of_b: Things, database: Database) -> None:
    """400, naming the parameter, for each that there is."""
    before = state(database)
    tried = 0
    for name, rule in parameters(app, a):
        response = a.get(rule, query_string={name: INJECTION})
        assert [error["parameter"] for error in body_of(response, 400)["errors"]] == [name], rule
        tried += 1

    assert tried > 25
    assert state(database) == before


def parameters(app: Flask, client: FlaskClient) -> list[tuple[str, str]]:
    """Each query parameter with the rule of its operation, as the document names them."""
    document = body_of(client.get("/openapi.json"))
    return [
        (parameter["name"], rule)
        for method, rule in operations(app, with_id=False)
        if method == "GET"
        for parameter in document["paths"][rule]["get"].get("parameters", ())
        if parameter["in"] == "query"
    ]


def test_row_29_a_cursor_of_another_tenant_is_none(app: Flask, a: FlaskClient, b: FlaskClient, of_b: Things) -> None:
    """400, though its own tenant goes on by it."""
    lists = {rule for name, rule in parameters(app, a) if name == "cursor"}
    for rule in lists - {"/api/v1/destinations"}:
        cursor = body_of(b.get(rule, query_string={"limit": 1}))["next_cursor"]
        assert cursor, rule
        assert b.get(rule, query_string={"cursor": cursor}).status_code == 200, rule
        answer = body_of(a.get(rule, query_string={"cursor": cursor}), 400)
        assert [error["code"] for error in answer["errors"]] == ["invalid_cursor"], rule
    other = Cursors("destination", "b").of_text("https://hooks.b.example.com:443")
    assert a.get("/api/v1/destinations", query_string={"cursor": other}).status_code == 400


@pytest.mark.parametrize("way", ["", "/batch"])
def test_row_30_one_key_in_two_tenants_is_two_requests(
    a: FlaskClient, b: FlaskClient, database: Database, way: str
) -> None:
    """Neither is answered with the other's notification, nor refused for the other's body."""
    headers = {"Idempotency-Key": "order-4711"}

    def send(client: FlaskClient, message: str) -> Any:
        body = {"channel": "email", "recipient": "ada@example.com", "message": message}
        return client.post(f"{NOTIFICATIONS}{way}", json=[body] if way else body, headers=headers)

    first, second = send(a, "one"), send(b, "two")
    repeats = send(a, "one"), send(b, "two")

    assert [one.status_code for one in (first, second, *repeats)] == [202] * 4
    assert [one.data for one in repeats] == [first.data, second.data]
    with database.connect() as conn:
        tenants = conn.execute("SELECT tenant_id FROM notifications ORDER BY tenant_id").fetchall()
    assert tenants == [("a",), ("b",)]


@pytest.mark.parametrize("way", ["direct", "flask", "batch", "apart"])
def test_row_31_another_tenants_endpoint_is_refused(
    a: FlaskClient, b: FlaskClient, of_b: Things, database: Database, way: str
) -> None:
    """As one that does not exist, whichever way it comes and whoever has just used it."""
    accepted(b, {"channel": "webhook", "endpoint": of_b.endpoints[0]})
    before = state(database)

    def send(endpoint: str) -> Any:
        body = {"channel": "webhook", "endpoint": endpoint, "message": "hello"}
        if way in ("direct", "flask"):
            kind = "application/json" if way == "direct" else "application/vnd.a+json"
            return a.post(NOTIFICATIONS, data=orjson.dumps(body), content_type=kind, headers=SAME_IDS)
        query = {"atomic": "false"} if way == "apart" else {}
        return a.post(f"{NOTIFICATIONS}/batch", json=[body], query_string=query, headers=SAME_IDS)

    theirs, unknown = send(of_b.endpoints[0]), send(UNKNOWN["<endpoint>"])

    assert (theirs.status_code, theirs.data) == (400, unknown.data)
    [error] = body_of(theirs, 400)["errors"]
    assert (error["pointer"].removeprefix("/0"), error["code"]) == ("/endpoint", "unknown_endpoint")
    assert state(database) == before


def test_row_31_what_one_tenant_suppresses_is_sent_by_the_other(a: FlaskClient, of_b: Things) -> None:
    """A recipient belongs to nobody."""
    id_ = accepted(a, {"channel": "email", "recipient": "gone@b.example.com"})

    assert body_of(a.get(f"{NOTIFICATIONS}/{id_}"))["status"] == "pending"
