"""The audit log by the API: what an admin changes is noted with it, who it was, and never a secret."""

import threading
import time
from collections.abc import Callable
from dataclasses import replace
from ipaddress import ip_network
from typing import Any

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient

from api_service import auditing
from api_service.actions import Action, EntityType
from api_service.audit_log_answers import AuditLogSchema
from api_service.callers import Scope
from api_service.clients import TrustedProxies
from api_service.routes import sender_domains
from api_service.routing import scope_of
from api_service.services import EXTENSION, Services
from shared.db import audit, dlq_retry_steps
from shared.db.audit import ActorKind, Entry
from shared.model import uuid7
from tests.integration.api_service.tenants import (
    OPERATOR,
    ClientOf,
    Things,
    accepted,
    body_of,
    claim,
    dead_letter_of,
    furnish,
    state,
)
from tests.integration.dlq_consumer.dead_letters import many_failed, pass_time
from tests.servers import Database

PATH = "/api/v1/audit-logs"
LETTERS = "/api/v1/dead-letters"
ENDPOINTS = "/api/v1/endpoints"
KEYS, USERS, DOMAINS = "/api/v1/api-keys", "/api/v1/users", "/api/v1/sender-domains"
Do = Callable[[FlaskClient, Things], Any]
CANARY = "canary-4711"


def post(path: str, body: Any = None) -> Do:
    """Post a body to a path in which `{things}` are filled in."""
    return lambda client, things: client.post(path.format(things=things), json=body)


CHANGES: dict[tuple[str, str], tuple[Do, Action, bool]] = {
    ("POST", f"{LETTERS}/<uuid:dead_letter_id>/retry"): (
        post(LETTERS + "/{things.dead_letters[0]}/retry"), Action.DEAD_LETTER_RETRIED, False),
    ("POST", f"{LETTERS}/<uuid:dead_letter_id>/discard"): (
        post(LETTERS + "/{things.dead_letters[0]}/discard", {"reason": CANARY}), Action.DEAD_LETTER_DISCARDED, True),
    ("POST", f"{LETTERS}/retry"): (
        post(LETTERS + "/retry", {"filter": {"reason": "http_503"}, "dry_run": False, "note": CANARY}),
        Action.BULK_RETRY_CREATED, False),
    ("POST", f"{LETTERS}/retries/<uuid:retry_id>/cancel"): (
        post(LETTERS + "/retries/{things.retries[0]}/cancel", {"note": CANARY}), Action.BULK_RETRY_CANCELLED, True),
    ("POST", "/api/v1/suppressions"): (
        post("/api/v1/suppressions", {"channel": "email", "recipient": f"{CANARY}@example.com"}),
        Action.SUPPRESSION_ADDED, True),
    ("POST", "/api/v1/suppressions/<uuid:suppression_id>/lift"): (
        post("/api/v1/suppressions/{things.suppressions[0]}/lift"), Action.SUPPRESSION_LIFTED, True),
    ("POST", ENDPOINTS): (
        post(ENDPOINTS, {
            "url": f"https://example.com/{CANARY}", "description": CANARY, "headers": {"Authorization": CANARY}}),
        Action.ENDPOINT_CREATED, False),
    ("PATCH", f"{ENDPOINTS}/<endpoint>"): (
        lambda client, things: client.patch(f"{ENDPOINTS}/{things.endpoints[0]}", json={
            "url": f"https://example.com/{CANARY}", "headers": {"X-Key": CANARY}, "rate_per_s": 5}),
        Action.ENDPOINT_CHANGED, False),
    ("DELETE", f"{ENDPOINTS}/<endpoint>"): (
        lambda client, things: client.delete(f"{ENDPOINTS}/{things.endpoints[0]}"), Action.ENDPOINT_DELETED, True),
    ("POST", f"{ENDPOINTS}/<endpoint>/disable"): (
        post(ENDPOINTS + "/{things.endpoints[0]}/disable", {"note": CANARY}), Action.ENDPOINT_DISABLED, True),
    ("POST", f"{ENDPOINTS}/<endpoint>/resume"): (
        post(ENDPOINTS + "/{things.endpoints[1]}/resume"), Action.ENDPOINT_RESUMED, True),
    ("POST", f"{ENDPOINTS}/<endpoint>/secrets/rotate"): (
        post(ENDPOINTS + "/{things.endpoints[0]}/secrets/rotate"), Action.SIGNING_SECRET_ROTATED, False),
    ("POST", "/api/v1/signing-secret/rotate"): (
        post("/api/v1/signing-secret/rotate"), Action.SIGNING_SECRET_ROTATED, False),
    ("POST", KEYS): (post(KEYS, {"name": CANARY, "scopes": ["send"]}), Action.API_KEY_CREATED, False),
    ("POST", f"{KEYS}/<key_id>/rotate"): (post(KEYS + "/{things.keys[0]}/rotate"), Action.API_KEY_ROTATED, False),
    ("POST", f"{KEYS}/<key_id>/revoke"): (post(KEYS + "/{things.keys[0]}/revoke"), Action.API_KEY_REVOKED, True),
    ("POST", f"{USERS}/<uuid:user_id>/role"): (
        post(USERS + "/{things.users[0]}/role", {"role": "admin"}), Action.USER_ROLE_SET, True),
    ("POST", f"{USERS}/<uuid:user_id>/disable"): (
        post(USERS + "/{things.users[0]}/disable"), Action.USER_DISABLED, True),
    ("POST", f"{USERS}/<uuid:user_id>/enable"): (
        post(USERS + "/{things.users[1]}/enable"), Action.USER_ENABLED, True),
    ("POST", DOMAINS): (post(DOMAINS, {"domain": "new.example.com"}), Action.SENDER_DOMAIN_ADDED, True),
    ("POST", f"{DOMAINS}/<domain>/verify"): (
        post(DOMAINS + "/{things.sender_domains[0]}/verify"), Action.SENDER_DOMAIN_VERIFIED, True),
    ("DELETE", f"{DOMAINS}/<domain>"): (
        lambda client, things: client.delete(f"{DOMAINS}/{things.sender_domains[0]}"),
        Action.SENDER_DOMAIN_DELETED, True),
}  # fmt: skip
"""How each operation is done, what it is noted as, and whether saying so again changes nothing."""
NOT_NOTED = {("POST", f"{ENDPOINTS}/<endpoint>/test")}
"""It changes nothing: the notification it sends tells of itself."""


@pytest.fixture(autouse=True)
def dns_has_every_record(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever domain is verified is the tenant's."""
    monkeypatch.setattr(sender_domains, "_look_for", lambda _one: None)


@pytest.fixture
def acme(client_of: ClientOf) -> FlaskClient:
    """A client of the tenant acme."""
    return client_of("acme")


@pytest.fixture
def things(acme: FlaskClient, database: Database) -> Things:
    """What the tenant acme has; its second endpoint is disabled."""
    made = furnish(acme, database, "acme")
    body_of(acme.post(f"{ENDPOINTS}/{made.endpoints[1]}/disable"))
    return made


def rows(database: Database) -> list[Any]:
    with database.connect() as conn:
        return conn.execute("SELECT * FROM audit_log ORDER BY seq").fetchall()


def listed(client: FlaskClient, query: str = "") -> list[dict[str, Any]]:
    found: list[dict[str, Any]] = body_of(client.get(f"{PATH}?{query}"))["data"]
    return found


def test_no_operation_of_an_admin_is_left_out(app: Flask) -> None:
    """Who adds one that changes something says here what is noted of it."""
    rules = [rule for rule in app.url_map.iter_rules() if rule.rule.startswith(("/api/", "/auth/"))]
    found = {
        (method, rule.rule)
        for rule in rules
        for method in (rule.methods or set()) & {"POST", "PUT", "PATCH", "DELETE"}
        if scope_of(method, rule.rule) is Scope.ADMIN
    }

    assert found == CHANGES.keys() | NOT_NOTED


@pytest.mark.parametrize("operation", CHANGES, ids=" ".join)
def test_a_change_is_noted_with_who_it_was_and_from_where(
    acme: FlaskClient, database: Database, things: Things, operation: tuple[str, str]
) -> None:
    """In one row, which holds no secret and nothing a person typed; a repeat that changes nothing is none."""
    do, action, repeats = CHANGES[operation]
    before = rows(database)

    answer = do(acme, things)
    noted = rows(database)[len(before) :]
    [row] = listed(acme, f"action={action}&limit=1")
    do(acme, things)

    assert answer.status_code in (200, 201, 202, 204), answer.data
    assert [one[0] for one in noted] == [row["seq"]]
    assert set(row) == set(AuditLogSchema().fields)
    assert row["actor"] == {"kind": "key", "id": "key-of-acme", "name": "acme's key"}
    assert (row["action"], row["entity_type"], row["tenant_id"]) == (action, action.entity_type, "acme")
    assert (row["address"], row["user_agent"][:9]) == ("127.0.0.1", "Werkzeug/")
    assert row["request_id"] == answer.headers["X-Request-ID"]
    assert CANARY not in repr(noted)
    assert "whsec_" not in repr(noted)
    if repeats:
        assert len(rows(database)) == len(before) + 1


@pytest.mark.parametrize("operation", [one for one in CHANGES if CHANGES[one][2]], ids=" ".join)
def test_what_two_do_at_once_is_noted_once(
    client_of: ClientOf, database: Database, things: Things, operation: tuple[str, str]
) -> None:
    """Whoever comes second waits, and finds it done as a repeat does."""
    do, before = CHANGES[operation][0], rows(database)
    answers: list[int] = []
    threads = [
        threading.Thread(target=lambda: answers.append(do(client_of("acme"), things).status_code)) for _ in range(2)
    ]

    with database.connect() as conn:
        conn.execute("SELECT FROM audit_head FOR UPDATE")  # the first has done it, and cannot note it yet
        for one in threads:
            one.start()
        until_two_wait(database)
    for one in threads:
        one.join()

    assert len(rows(database)) == len(before) + 1
    assert sorted(answers) in ([200, 200], [204, 404])


def until_two_wait(database: Database) -> None:
    """Return once two sessions of the API wait for a lock."""
    query = """
        SELECT count(*) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'api_service' AND wait_event_type = 'Lock'
    """
    deadline = time.monotonic() + 1.5  # less than their lock_timeout
    with database.connect(autocommit=True) as conn:
        while conn.execute(query).fetchone() != (2,):
            assert time.monotonic() < deadline
            time.sleep(0.01)


def test_row_18_the_address_noted_is_not_the_clients_to_say(app: Flask, acme: FlaskClient) -> None:
    """What it forwards itself is nothing; what a trusted proxy says is noted."""
    suppress = {"channel": "email", "recipient": "ada@example.com"}
    parts: Services = app.extensions[EXTENSION]
    proxies = TrustedProxies([ip_network("127.0.0.1/32")])

    acme.post("/api/v1/suppressions", json=suppress, headers={"X-Forwarded-For": "203.0.113.66"})
    app.extensions[EXTENSION] = replace(parts, proxies=proxies)
    acme.post(
        "/api/v1/suppressions",
        json=suppress | {"recipient": "eve@example.com"},
        headers={"X-Forwarded-For": "203.0.113.66, 198.51.100.7"},
    )

    assert [row["address"] for row in listed(acme)] == ["198.51.100.7", "127.0.0.1"]


@pytest.mark.parametrize("operation", CHANGES, ids=" ".join)
def test_what_cannot_be_noted_is_not_done(
    acme: FlaskClient, database: Database, things: Things, operation: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A change and its row are one transaction."""

    def stumble(*_: Any) -> None:
        raise ZeroDivisionError

    before = state(database)
    monkeypatch.setattr(auditing, "entry", stumble)

    assert CHANGES[operation][0](acme, things).status_code == 500
    assert state(database) == before


def test_what_is_refused_is_not_noted(acme: FlaskClient, database: Database, things: Things) -> None:
    """Nothing was done: unknown ids, wrong states, bad bodies, a dry run."""
    before = rows(database)

    answers = [
        acme.post(f"{LETTERS}/{uuid7()}/retry"),
        acme.post(f"{LETTERS}/{things.dead_letters[0]}/discard", json={}),
        acme.post(f"{LETTERS}/retry", json={"filter": {"reason": "http_503"}}),
        acme.post("/api/v1/suppressions", json={"channel": "email", "recipient": "x"}),
        acme.post(f"/api/v1/suppressions/{uuid7()}/lift"),
        acme.post(f"{ENDPOINTS}/ep_{uuid7().hex}/disable"),
        acme.delete(f"{ENDPOINTS}/ep_{uuid7().hex}"),
    ]

    assert [answer.status_code for answer in answers] == [404, 400, 200, 400, 404, 404, 404]
    assert rows(database) == before


def test_a_bulk_retry_is_one_row_however_many_it_takes(acme: FlaskClient, database: Database) -> None:
    """Writers take turns by one lock: thousands of rows would keep everybody waiting."""
    with database.connect() as conn:
        many_failed(conn, 50, tenant_id="acme")
    asked = {"filter": {"failure_class": "transient"}, "dry_run": False, "canary": 0, "rate_per_s": 1000}

    created = body_of(acme.post(f"{LETTERS}/retry", json=asked), 202)
    with database.connect() as conn:
        for _ in range(5):
            pass_time(conn, 5)
            dlq_retry_steps.send(conn, dlq_retry_steps.open_ids(conn)[0])

    [row] = listed(acme)
    assert (row["action"], row["entity_id"], len(rows(database))) == ("bulk_retry.created", created["id"], 1)
    assert row["after"] == {
        "filter": {"failure_class": "transient"},
        "rate_per_s": 1000.0,
        "canary": 0,
        "matched": 50,
        "by": "acme's key",
    }


def test_states_before_and_after_are_told(acme: FlaskClient, things: Things) -> None:
    """Of a URL its origin alone: its path may be as good as a password."""
    endpoint = things.endpoints[0]
    changed = {"url": "https://new.example.com/s3cret", "headers": {"X-Key": "v"}, "rate_per_s": 5, "description": "d"}

    body_of(acme.patch(f"{ENDPOINTS}/{endpoint}", json=changed))
    body_of(acme.post(f"{LETTERS}/{things.dead_letters[0]}/discard", json={"reason": "gone", "by": "ann"}))

    letter, change = listed(acme, "limit=2")
    assert (letter["before"], letter["after"]) == (
        {"status": "failed"},
        {"status": "resolved", "retry_count": 0, "by": "ann"},
    )
    assert change["entity_id"] == endpoint
    assert change["before"] == {
        "url": "https://hooks.acme.example.com:443", "header_names": [], "rate_per_s": None, "timeout_s": None,
    }  # fmt: skip
    assert change["after"] == {
        "url": "https://new.example.com:443", "header_names": ["X-Key"], "rate_per_s": 5.0, "timeout_s": None,
        "changed": ["description", "headers", "rate_per_s", "url"],
    }  # fmt: skip


def test_what_a_client_says_of_itself_is_bounded(acme: FlaskClient) -> None:
    """And printable: rows are shown to people."""
    asked = {"channel": "email", "recipient": "ada@example.com"}

    body_of(acme.post("/api/v1/suppressions", json=asked, headers={"User-Agent": "a\x1b[31m\x9b" + "b" * 5000}))

    [row] = listed(acme)
    assert row["user_agent"] == "a?[31m?" + "b" * 193


def test_the_log_is_listed_by_filters_page_by_page(acme: FlaskClient, things: Things) -> None:
    """Newest first."""
    whole = listed(acme, "limit=250")
    page = body_of(acme.get(f"{PATH}?limit=3"))
    rest = body_of(acme.get(f"{PATH}?limit=250&cursor={page['next_cursor']}"))

    assert [one["seq"] for one in whole] == sorted((one["seq"] for one in whole), reverse=True)
    assert page["data"] + rest["data"] == whole
    assert (page["has_more"], rest["has_more"], rest["next_cursor"]) == (True, False, None)
    for name, value in (("action", "suppression.added"), ("entity_type", "endpoint"), ("entity_id", things.retries[0])):
        assert listed(acme, f"{name}={value}") == [one for one in whole if one[name] == value] != []
    assert listed(acme, "actor=key-of-acme") == whole[:50]
    assert listed(acme, "actor=key-of-b") == []
    at = whole[2]["at"]
    assert listed(acme, f"from={at}") == whole[:3]
    assert listed(acme, f"to={at}") == whole[3:]


@pytest.mark.parametrize(
    "query",
    ["action=x", "entity_type='; --", "actor=%00", "entity_id=a b", "from=yesterday", "until=2030", "cursor=x", "id=1"],
)
def test_what_is_asked_wrongly_is_named(acme: FlaskClient, query: str) -> None:
    """A filter with a typing error would list everything."""
    answer = body_of(acme.get(f"{PATH}?{query}"), 400)

    assert answer["errors"][0]["parameter"] == query.partition("=")[0]


def test_operators_see_what_belongs_to_no_tenant(client_of: ClientOf, database: Database) -> None:
    """Commands for the whole installation; of tenants, everybody sees their own alone."""
    with database.connect() as conn:
        conn.execute("INSERT INTO tenants (id, name, is_operator) VALUES (%s, 'us', true)", (OPERATOR,))
        for tenant_id in (audit.OF_NO_TENANT, "acme", OPERATOR):
            who = (tenant_id, ActorKind.COMMAND, "root@host", "root")
            audit.append(conn, Entry(*who, "suppression.lifted", "suppression", tenant_id or "all"))

    seen = {name: [one["entity_id"] for one in listed(client_of(name))] for name in (OPERATOR, "acme", "b-ltd")}

    assert seen == {OPERATOR: [OPERATOR, "all"], "acme": ["acme"], "b-ltd": []}
    assert listed(client_of(OPERATOR))[1]["tenant_id"] is None


def test_who_decides_is_the_caller_unless_said(acme: FlaskClient, database: Database) -> None:
    """A name in the body is kept as it is given; the audit log has the caller all the same."""
    ids = [accepted(acme, {"channel": "webhook", "recipient": "https://example.com/h"}) for _ in range(2)]
    claim(database, [])
    letters = [dead_letter_of(database, one, "acme") for one in ids]

    silent = body_of(acme.post(f"{LETTERS}/{letters[0]}/retry"), 202)
    named = body_of(acme.post(f"{LETTERS}/{letters[1]}/retry", json={"by": "ann"}), 202)

    assert [one["actions"][0]["by"] for one in (silent, named)] == ["acme's key", "ann"]
    assert {one["actor"]["id"] for one in listed(acme)} == {"key-of-acme"}


def test_every_word_of_the_log_is_on_the_page() -> None:
    """docs/operations.md says of each action what its row holds."""
    from tests.dockerfiles import REPOSITORY  # noqa: PLC0415

    page = (REPOSITORY / "docs/operations.md").read_text()

    assert [one for one in Action if f"`{one}`" not in page] == []
    assert {one.entity_type for one in Action} == set(EntityType)
    assert orjson.dumps(Action.ENDPOINT_CREATED) == b'"endpoint.created"'
