"""Floods meet their limits on the whole application, by both ways into it; whoever keeps to theirs does not notice."""

import dataclasses
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, cast
from wsgiref.types import WSGIEnvironment

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient
from psycopg_pool import ConnectionPool
from werkzeug.test import TestResponse

from api_service import api_keys, sending, wsgi
from api_service.app import create_app
from api_service.callers import Caller, CallerKind, Scope
from api_service.database import DatabaseUnavailableError
from api_service.idempotency import Answer
from api_service.limiting.limits import Limits
from api_service.limiting.memory import Memory
from api_service.limiting.policies import Texts
from api_service.problems import Problem
from api_service.services import EXTENSION, Services
from api_service.settings import read_settings
from shared.settings import Environment
from tests.unit.api_service.test_app import GOOD, PATH, problem

ONE = "01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00"
QUOTA = 10
CALLERS = {
    name: Caller(tenant, CallerKind.KEY, name, name, frozenset(Scope), daily_quota=quota)
    for name, tenant, quota in (("a1", "a", None), ("a2", "a", None), ("b1", "b", None), ("c1", "c", QUOTA))
}
FRONT, BEHIND = "application/json", "application/json;charset=utf-8"
"""What is served in front of Flask, and what by it."""
LEFT = ("RateLimit", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset")


class Gate:
    """Knows a caller by the name it says."""

    def caller(self, environ: WSGIEnvironment) -> Caller:
        """Return a caller. Raises Problem 401."""
        caller = CALLERS.get(environ.get("HTTP_X_API_KEY", ""))
        if caller is None:
            raise Problem("unauthorized", "say who you are")
        return caller

    def close(self) -> None:
        """Hold nothing."""


class Clock:
    """An instant that is set."""

    now = 1_700_000_000.0

    def __call__(self) -> float:
        return self.now


class Table:
    """Takes what is written, or does what it is told instead."""

    def __init__(self) -> None:
        self.rows = 0
        self.instead: Callable[[], Any] | None = None

    def run(self, work: Callable[[Any], Any], **_: Any) -> Any:
        """Do what Database.run does, as far as sending goes."""
        if self.instead:
            return self.instead()
        return work(None)

    def write(self, _conn: object, news: Any) -> None:
        """Write."""
        self.rows += len(news)


@pytest.fixture
def clock() -> Clock:
    """A clock that stands still."""
    return Clock()


@pytest.fixture
def table(monkeypatch: pytest.MonkeyPatch) -> Table:
    """Where notifications go."""
    table = Table()
    monkeypatch.setattr(sending, "write_once", table.write)
    return table


@pytest.fixture
def limited(tmp_path: Path, clock: Clock, table: Table, monkeypatch: pytest.MonkeyPatch) -> Iterator[Flask]:
    """An application that tells four keys of three tenants apart."""
    app = create_app(
        read_settings(Environment({"AUTH_MODE": "open", "BIND_HOST": "127.0.0.1", "TRUSTED_PROXIES": "10.0.0.1/32"})),
        ConnectionPool("", open=False),
        tmp_path,
    )
    parts = cast(Services, app.extensions[EXTENSION])
    limits = Limits(Texts(keys="100/second", tenants="120/second", addresses="5/minute"), Memory(), clock=clock)
    app.extensions[EXTENSION] = dataclasses.replace(parts, gate=Gate(), limits=limits)
    monkeypatch.setattr(parts.database, "run", table.run)
    yield app
    wsgi.close(app)


@pytest.fixture
def client(limited: Flask) -> FlaskClient:
    """A client of it."""
    return limited.test_client()


def send(client: FlaskClient, key: str, content_type: str = FRONT, **headers: str) -> TestResponse:
    """Send one notification as a key."""
    return client.post(PATH, data=orjson.dumps(GOOD), content_type=content_type, headers={"X-API-Key": key, **headers})


@pytest.mark.parametrize("content_type", [FRONT, BEHIND])
def test_row_65_a_tenant_that_floods_is_refused_and_others_are_not(client: FlaskClient, content_type: str) -> None:
    """By all of its keys together, with Retry-After; nothing of it is written, and another tenant is served."""
    answers = [send(client, ("a1", "a2")[number % 2], content_type) for number in range(300)]
    others = [send(client, "b1", content_type) for _ in range(100)]

    assert Counter(answer.status_code for answer in answers) == {202: 120, 429: 180}
    refusal = problem(answers[-1], 429, "rate_limited")
    assert refusal["violated-policies"] == ["tenant-1s"]
    assert int(answers[-1].headers["Retry-After"]) == refusal["retry_after_s"] == 2
    assert {answer.status_code for answer in others} == {202}
    assert others[-1].headers["RateLimit"] == '"key-1s";r=0;t=1'


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", f"{PATH}/{ONE}/cancel"),
        ("DELETE", f"{PATH}/{ONE}"),
        ("POST", f"/api/v1/dead-letters/{ONE}/retry"),
        ("POST", "/api/v1/dead-letters/retry"),
        ("POST", f"/api/v1/suppressions/{ONE}/lift"),
    ],
)
def test_row_66_floods_of_actions_are_limited(client: FlaskClient, table: Table, method: str, path: str) -> None:
    """A second's worth; the same key sends on meanwhile, and its tenant's other key acts."""

    def away() -> Any:
        raise DatabaseUnavailableError("no_connection")

    table.instead = away
    codes = Counter(client.open(path, method=method, headers={"X-API-Key": "a1"}).status_code for _ in range(99))
    other = client.open(path, method=method, headers={"X-API-Key": "a2"})
    table.instead = None

    assert codes[429] == 49
    assert other.status_code != 429
    assert send(client, "a1").status_code == 202


def test_a_request_is_counted_once_however_it_is_served(client: FlaskClient) -> None:
    """Also where it was begun in front of Flask and handed on, or ended there."""
    left = []
    for body in (orjson.dumps(GOOD), b"{", orjson.dumps(GOOD | {"priority": "medium"}), orjson.dumps(GOOD | {"x": 1})):
        answer = client.post(PATH, data=body, content_type=FRONT, headers={"X-API-Key": "a1"})
        left.append(answer.headers["X-RateLimit-Remaining"])

    assert left == ["99", "98", "97", "96"]


@pytest.mark.parametrize("content_type", [FRONT, BEHIND])
def test_whoever_guesses_keys_is_counted_by_address(client: FlaskClient, content_type: str) -> None:
    """As a proxy says it, not as the guesser does; who has a key is served from there all the same."""
    forged = {"X-Forwarded-For": "203.0.113.1"}

    answers = [send(client, f"guess {number}", content_type, **forged).status_code for number in range(8)]

    assert answers == [401] * 5 + [429] * 3
    assert send(client, "b1", content_type).status_code == 202
    behind_proxy = client.post(
        PATH, json=GOOD, headers={"X-Forwarded-For": "203.0.113.1"}, environ_overrides={"REMOTE_ADDR": "10.0.0.1"}
    )
    assert behind_proxy.status_code == 401


def test_a_flood_of_unknown_keys_is_looked_up_as_often_as_its_address_may_guess(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Then it costs PostgreSQL nothing; another address is looked up."""
    environ = {"AUTH_MODE": "keys", "RATE_LIMIT_ADDRESSES": "5/minute"}
    app = create_app(read_settings(Environment(environ)), ConnectionPool("", open=False), tmp_path)
    asked: list[object] = []
    monkeypatch.setattr(cast(Services, app.extensions[EXTENSION]).database, "run", asked.append)
    client = app.test_client()

    answers = [send(client, api_keys.make().text).status_code for _ in range(30)]
    looked_up = len(asked)
    elsewhere = client.get(PATH, headers={"X-API-Key": api_keys.make().text}, environ_overrides={"REMOTE_ADDR": "::2"})
    wsgi.close(app)

    assert (answers, looked_up) == ([401] * 5 + [429] * 25, 5)
    assert (elsewhere.status_code, len(asked)) == (401, 6)


def test_a_quota_counts_the_items_of_batches(client: FlaskClient, table: Table, clock: Clock) -> None:
    """What would go over it is refused whole; the day after there is a new one."""

    def batch(count: int) -> TestResponse:
        return client.post(f"{PATH}/batch", json=[GOOD] * count, headers={"X-API-Key": "c1"})

    assert [batch(count).status_code for count in (4, 7, 5, 1, 1)] == [202, 429, 202, 202, 429]
    assert table.rows == QUOTA
    refused = send(client, "c1")
    assert problem(refused, 429, "quota_used_up")["violated-policies"] == ["quota"]
    wait = int(refused.headers["Retry-After"])
    assert {name: refused.headers.getlist(name) for name in LEFT} == {
        "RateLimit": [f'"quota";r=0;t={wait}'],
        "X-RateLimit-Limit": [str(QUOTA)],
        "X-RateLimit-Remaining": ["0"],
        "X-RateLimit-Reset": [str(int(clock.now) + wait)],
    }
    clock.now += wait
    assert send(client, "c1").status_code == 202


def test_a_quota_pays_for_no_repeat(client: FlaskClient, table: Table, monkeypatch: pytest.MonkeyPatch) -> None:
    """The answer that a key has is given, even when nothing is left; a new key's is refused then."""
    stored: dict[str, Answer] = {}

    def once(_conn: object, keyed: Any, _news: Any, answer: Answer) -> Answer:
        if keyed.key in stored:
            return dataclasses.replace(stored[keyed.key], replayed=True)
        return stored.setdefault(keyed.key, answer)

    monkeypatch.setattr(sending, "accept_once", once)
    monkeypatch.setattr(sending, "find_answer", lambda _conn, keyed: stored.get(keyed.key))

    first = [send(client, "c1", **{"Idempotency-Key": f"k{number}"}).status_code for number in range(QUOTA - 1)]
    repeats = {send(client, "c1", **{"Idempotency-Key": "k0"}).status_code for _ in range(30)}
    last = send(client, "c1", **{"Idempotency-Key": "k9"})
    after = [send(client, "c1", **{"Idempotency-Key": key}).status_code for key in ("k0", "new")]

    assert (set(first), repeats, last.status_code) == ({202}, {202}, 202)
    assert after == [202, 429]


def test_what_may_have_been_written_is_paid_for(client: FlaskClient, table: Table) -> None:
    """Nobody knows after an outage; a quota is never overdrawn."""

    def away() -> Any:
        raise DatabaseUnavailableError("connection_broke", may_be_done=True)

    table.instead = away
    assert {send(client, "c1").status_code for _ in range(QUOTA)} == {503}
    table.instead = None

    assert send(client, "c1").status_code == 429


@pytest.mark.parametrize("reason", ["no_connection", "lock_timeout", "statement_timeout", "refused", "not_ready"])
def test_what_was_surely_not_written_is_given_back(client: FlaskClient, table: Table, reason: str) -> None:
    """An outage uses up nobody's quota, however often they repeat what it refuses."""

    def away() -> Any:
        raise DatabaseUnavailableError(reason)

    table.instead = away
    assert {send(client, "c1", **{"Idempotency-Key": "k"}).status_code for _ in range(2 * QUOTA)} == {503}
    table.instead = None

    assert [send(client, "c1").status_code for _ in range(QUOTA + 1)] == [202] * QUOTA + [429]


def test_probes_and_preflights_are_not_counted(client: FlaskClient) -> None:
    """They have no caller, and must not fail for one."""
    for _ in range(200):
        assert client.get("/health/live").status_code == 200
        assert client.options(PATH).status_code == 200
