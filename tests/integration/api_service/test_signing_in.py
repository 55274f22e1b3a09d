"""People: they join, sign in, are renewed, and are shut out."""

import random
import time
from collections import Counter
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, LiteralString

import bcrypt
import pytest
from flask.testing import FlaskClient

from api_service import identity, wsgi
from api_service.passwords import Passwords, Verdict
from api_service.settings import read_settings
from shared.db import tenants, users
from shared.settings import Environment
from tests.integration.api_service.conftest import CLOSED, make_key
from tests.servers import Database

PASSWORD = "three geese over the lake"
ADA = {"email": "ada@example.com", "password": PASSWORD, "name": "Ada"}
USERS = "/api/v1/users"


def joined(client: FlaskClient, **changes: Any) -> dict[str, Any]:
    """Somebody who has joined."""
    response = client.post("/auth/register", json=ADA | changes)
    assert response.status_code == 201, response.text
    return dict(response.json)  # type: ignore[arg-type]


def sign_in(client: FlaskClient, email: str = "ada@example.com", password: str = PASSWORD) -> Any:
    return client.post("/auth/login", json={"email": email, "password": password})


def bearer(client: FlaskClient, email: str = "ada@example.com", password: str = PASSWORD) -> dict[str, str]:
    """The headers of somebody who has signed in."""
    response = sign_in(client, email, password)
    assert response.status_code == 200, response.text
    return {"Authorization": f"{response.json['token_type']} {response.json['access_token']}"}


@pytest.mark.parametrize("prefix", ["", "/api/v1"])
def test_somebody_joins_signs_in_and_looks_who_they_are(closed: FlaskClient, prefix: str) -> None:
    """A user of the tenant that takes people in; the token lasts a day."""
    user = closed.post(f"{prefix}/auth/register", json=ADA | {"email": "Ada@Example.com"})
    answer = closed.post(f"{prefix}/auth/login", json={"email": "ADA@example.com", "password": PASSWORD})
    me = closed.get(f"{prefix}/auth/me", headers={"Authorization": f"Bearer {answer.json['access_token']}"})  # type: ignore[index]

    assert (user.status_code, user.json["email"], user.json["role"]) == (201, "ada@example.com", "user")  # type: ignore[index]
    assert answer.json.keys() == {"access_token", "token_type", "expires_in"}  # type: ignore[union-attr]
    assert answer.json["expires_in"] == 86_400  # type: ignore[index]
    assert answer.headers["Cache-Control"] == "no-store"
    assert (me.json["tenant_id"], me.json["scopes"]) == ("shop", ["send", "read"])  # type: ignore[index]
    assert me.json["user"]["last_login_at"] is not None  # type: ignore[index]
    assert PASSWORD not in user.text + answer.text + me.text


def test_a_key_can_look_who_it_is(closed: FlaskClient, database: Database) -> None:
    """Whatever its scopes."""
    key_id, headers = make_key(database, "send")

    me = closed.get("/auth/me", headers=headers).json

    assert (me["kind"], me["id"], me["scopes"], me["user"]) == ("key", key_id, ["send"], None)  # type: ignore[index]


def test_a_token_sends_and_reads(closed: FlaskClient) -> None:
    """As a key of those scopes does; the hot path takes it too."""
    joined(closed)
    headers = bearer(closed)
    email = {"channel": "email", "recipient": "bob@example.com", "message": "hello"}

    assert closed.post("/api/v1/notifications", json=email, headers=headers).status_code == 202
    assert closed.get("/api/v1/notifications", headers=headers).status_code == 200


def test_an_address_is_taken_once(closed: FlaskClient) -> None:
    """In whatever case, and in whatever tenant."""
    joined(closed)

    again = closed.post("/auth/register", json=ADA | {"email": "ADA@EXAMPLE.COM"})

    assert (again.status_code, again.json["code"]) == (409, "email_taken")  # type: ignore[index]


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"password": "short"}, "invalid_password"),
        ({"password": "password1234"}, "common_password"),
        ({"password": "x" * 129}, "invalid_password"),
        ({"email": "nobody"}, "invalid_email"),
        ({"email": "a@x.example, b@x.example"}, "invalid_email"),
        ({"name": ""}, "invalid_by"),
        ({"role": "admin"}, "unknown_field"),
        ({"tenant_id": "bank"}, "unknown_field"),
        ({"is_operator": True}, "unknown_field"),
    ],
)
def test_who_cannot_join_is_told_why(closed: FlaskClient, changes: dict[str, Any], code: str) -> None:
    """Nobody chooses their role or tenant."""
    response = closed.post("/auth/register", json=ADA | changes)

    assert response.status_code == 400
    assert [error["code"] for error in response.json["errors"]] == [code]  # type: ignore[index]


def test_joining_is_closed_unless_a_tenant_is_named(client: FlaskClient) -> None:
    """And signing in where there is no key to sign with."""
    assert client.post("/auth/register", json=ADA).status_code == 403
    assert sign_in(client).status_code == 501


@pytest.mark.parametrize(
    "change",
    ["UPDATE tenants SET suspended_at = now() WHERE id = 'shop'", "DELETE FROM tenants WHERE id = 'shop'"],
    ids=["suspended", "missing"],
)
def test_nobody_joins_a_tenant_that_lets_nobody_in(
    closed: FlaskClient, database: Database, change: LiteralString
) -> None:
    """403 alike, and nobody is stored who would be let in once it is resumed."""
    with database.connect(autocommit=True) as conn:
        conn.execute(change)

    answer = closed.post("/auth/register", json=ADA)

    assert (answer.status_code, answer.json["code"]) == (403, "forbidden")  # type: ignore[index]
    with database.connect() as conn:
        assert conn.execute("SELECT count(*) FROM users").fetchone() == (0,)


def test_what_is_wrong_is_not_said(closed: FlaskClient) -> None:
    """An unknown address and a wrong password are one answer."""
    joined(closed)

    answers = [
        closed.post("/auth/login", json=body, headers={"X-Request-ID": "same"})
        for body in (
            {"email": "ada@example.com", "password": "not her password"},
            {"email": "eve@example.com", "password": PASSWORD},
        )
    ]

    assert [answer.status_code for answer in answers] == [401, 401]
    assert answers[0].data == answers[1].data


def test_row_27_a_known_and_an_unknown_address_take_as_long(closed: FlaskClient) -> None:
    """Both cost a hash."""
    joined(closed)
    took: dict[str, list[float]] = {"ada@example.com": [], "eve@example.com": []}
    for _ in range(15):
        for email, seconds in random.sample(list(took.items()), 2):
            began = time.thread_time()
            assert sign_in(closed, email, "not the password").status_code == 401
            seconds.append(time.thread_time() - began)

    # CPU of this thread alone, and the least of it: what the machine does besides is not in it.
    known, unknown = map(min, took.values())
    assert 0.7 < known / unknown < 1.4


def test_row_27_a_thousand_tries_are_told_to_come_back(database: Database, tmp_path: Path) -> None:
    """By address, and by account from wherever: the right password is refused then too, and costs no hash."""
    with database.connect(autocommit=True) as conn:
        tenants.add(conn, "shop", name="Shop")
    usual = {name: value for name, value in CLOSED.items() if "RATE_LIMIT" not in name}
    app = wsgi.build(read_settings(Environment(database.environ_of("api_service") | usual)), tmp_path)
    client = app.test_client()
    joined(client)

    def tried(password: str, address: str) -> int:
        body = {"email": "ada@example.com", "password": password}
        answer = client.post("/auth/login", json=body, environ_overrides={"REMOTE_ADDR": address})
        assert (answer.status_code == 429) == ("Retry-After" in answer.headers)
        return answer.status_code

    try:
        from_one = Counter(tried(f"a wrong password {number}", "192.0.2.1") for number in range(1000))
        from_many = Counter(tried(f"another wrong one {number}", f"198.51.100.{number}") for number in range(100))
        right = tried(PASSWORD, "203.0.113.1")
    finally:
        wsgi.close(app)

    assert (from_one[401] <= 10, from_one[401] + from_one[429]) == (True, 1000)
    assert (from_many[401] <= 30, from_many[401] + from_many[429]) == (True, 100)
    assert right == 429


def test_an_imported_hash_is_renewed_at_the_first_sign_in(closed: FlaskClient, database: Database) -> None:
    """bcrypt before, argon2id after, of the same password."""
    joined(closed)
    imported = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    with database.connect(autocommit=True) as conn:
        conn.execute("UPDATE users SET password_hash = %s", (imported,))

        assert sign_in(closed, password="not her password").status_code == 401
        assert conn.execute("SELECT password_hash FROM users").fetchone() == (imported,)
        assert sign_in(closed).status_code == 200
        [(renewed,)] = conn.execute("SELECT password_hash FROM users").fetchall()
        assert renewed.startswith("$argon2id$")
        assert sign_in(closed).status_code == 200
        assert conn.execute("SELECT password_hash FROM users").fetchone() == (renewed,)


def test_a_password_that_is_set_meanwhile_stays(
    closed: FlaskClient, database: Database, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Renewing the hash of the old one, as they sign in by it a last time, does not bring it back."""
    joined(closed)
    imported = bcrypt.hashpw(PASSWORD.encode(), bcrypt.gensalt(4)).decode()
    other = "four ducks under the bridge"
    keeper, compared = Passwords(), Passwords.compared

    def compared_slowly(self: Passwords, password: str, kept: str | None) -> Verdict:
        verdict = compared(self, password, kept)
        if kept == imported:
            with database.connect(autocommit=True) as conn:
                users.set_password(conn, "ada@example.com", password_hash=keeper.hashed(other))
        return verdict

    monkeypatch.setattr(Passwords, "compared", compared_slowly)
    with database.connect(autocommit=True) as conn:
        conn.execute("UPDATE users SET password_hash = %s", (imported,))

    stale = bearer(closed)

    assert sign_in(closed, password=PASSWORD).status_code == 401
    assert sign_in(closed, password=other).status_code == 200
    assert closed.get("/auth/me", headers=stale).status_code == 401


@pytest.fixture
def impatient(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was found out is believed for a tenth of a second."""
    monkeypatch.setattr(identity, "BELIEVED_S", 0.1)


@pytest.mark.usefixtures("impatient")
def test_an_administrator_changes_roles_and_shuts_people_out(closed: FlaskClient, database: Database) -> None:
    """It holds for tokens that were issued before."""
    user = joined(closed)
    _, admin = make_key(database, "send", "read", "admin")
    headers = bearer(closed)

    def answer(method: str, path: str, body: Any = None, *, who: dict[str, str]) -> Any:
        time.sleep(0.11)
        return closed.open(path, method=method, json=body, headers=who)

    assert answer("GET", USERS, who=headers).status_code == 403
    promoted = answer("POST", f"{user['href']}/role", {"role": "ADMIN"}, who=admin)
    assert promoted.json["role"] == "admin"
    assert answer("GET", USERS, who=headers).json["data"][0]["id"] == user["id"]
    for action in ("role", "disable", "enable"):
        body = {"role": "user"} if action == "role" else None
        assert answer("POST", f"{user['href']}/{action}", body, who=headers).status_code == 409  # themselves

    disabled = answer("POST", f"{user['href']}/disable", who=admin)
    again = answer("POST", f"{user['href']}/disable", who=admin)
    assert disabled.json["disabled_at"] is not None
    assert again.json == disabled.json
    assert answer("GET", "/auth/me", who=headers).status_code == 401
    assert sign_in(closed).status_code == 403
    assert sign_in(closed, password="not her password").status_code == 401

    assert answer("POST", f"{user['href']}/enable", who=admin).json["disabled_at"] is None
    assert answer("GET", "/auth/me", who=headers).status_code == 401  # the token of before
    assert answer("GET", "/auth/me", who=bearer(closed)).status_code == 200


def test_a_key_makes_nobody_more_than_it_is(closed: FlaskClient, database: Database) -> None:
    """An admin has all scopes, for good; a key that only administers has not, nor one that ends or has limits."""
    user = joined(closed)
    every = ("send", "read", "admin")
    soon = datetime.now(UTC) + timedelta(hours=1)
    keys = {
        "narrow": make_key(database, "admin")[1],
        "short": make_key(database, *every, expires_at=soon)[1],
        "limited": make_key(database, *every, limits="9/second")[1],
        "whole": make_key(database, *every)[1],
    }

    def status(key: str, role: str) -> int:
        return closed.post(f"{user['href']}/role", json={"role": role}, headers=keys[key]).status_code

    assert {key: status(key, "admin") for key in keys} == {"narrow": 403, "short": 403, "limited": 403, "whole": 200}
    assert {key: status(key, "user") for key in keys} == dict.fromkeys(keys, 200)


def test_users_of_another_tenant_are_as_unknown_as_any(closed: FlaskClient, database: Database) -> None:
    """Byte for byte."""
    user = joined(closed)
    _, admin = make_key(database, "send", "read", "admin", tenant_id="bank")
    nobody = f"{USERS}/00000000-0000-7000-8000-000000000000"

    for method, path, body in (
        ("GET", "", None),
        ("POST", "/role", {"role": "admin"}),
        ("POST", "/disable", None),
        ("POST", "/enable", None),
    ):
        answers = [
            closed.open(f"{href}{path}", method=method, json=body, headers=admin | {"X-Request-ID": "same"})
            for href in (user["href"], nobody)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].data == answers[1].data
    assert closed.get(USERS, headers=admin).json["data"] == []  # type: ignore[index]


def test_users_are_listed_newest_first_and_filtered(closed: FlaskClient, database: Database) -> None:
    """A page at a time."""
    _, admin = make_key(database, "send", "read", "admin")
    ids = [joined(closed, email=f"user-{number}@example.com")["id"] for number in range(3)]
    closed.post(f"{USERS}/{ids[0]}/role", json={"role": "admin"}, headers=admin)
    closed.post(f"{USERS}/{ids[1]}/disable", headers=admin)

    first = closed.get(f"{USERS}?limit=2", headers=admin).json
    second = closed.get(f"{USERS}?limit=2&cursor={first['next_cursor']}", headers=admin).json  # type: ignore[index]

    assert [one["id"] for page in (first, second) for one in page["data"]] == ids[::-1]  # type: ignore[index]
    for query, expected in (("role=admin", ids[:1]), ("active=false", ids[1:2]), ("role=user&active=true", ids[2:])):
        page = closed.get(f"{USERS}?{query}", headers=admin).json
        assert [one["id"] for one in page["data"]] == expected  # type: ignore[index]
