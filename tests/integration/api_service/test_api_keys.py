"""API keys over HTTP: made, shown once, listed, given another secret, revoked."""

from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from flask.testing import FlaskClient

from tests.integration.api_service.conftest import make_key
from tests.servers import Database

KEYS = "/api/v1/api-keys"
PATH = "/api/v1/notifications"
EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}
ALL = ("send", "read", "admin")
WANTED = {"name": "till 7", "scopes": ["read", "send"]}


def made(client: FlaskClient, headers: dict[str, str], **body: Any) -> dict[str, Any]:
    """A key that was made by HTTP."""
    response = client.post(KEYS, json=WANTED | body, headers=headers)
    assert response.status_code == 201, response.text
    assert response.headers["Location"] == response.json["href"]  # type: ignore[index]
    return dict(response.json)  # type: ignore[arg-type]


def bearer(key: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {key['key']}"}


def test_a_key_is_made_shown_once_and_works(closed: FlaskClient, database: Database) -> None:
    """Its secret is in that answer alone: neither in lists, nor in the database."""
    _, admin = make_key(database, *ALL)

    key = made(closed, admin)

    assert key["key"].startswith(key["starts_with"])
    assert (key["scopes"], key["created_by"], key["expires_at"]) == (["send", "read"], "till", None)
    assert closed.post(PATH, json=EMAIL, headers=bearer(key)).status_code == 202
    assert closed.post(PATH, json=EMAIL, headers={"X-API-Key": key["key"]}).status_code == 202
    secret = key["key"].rpartition("_")[2]
    assert secret not in closed.get(KEYS, headers=admin).text
    assert secret not in closed.get(key["href"], headers=admin).text
    with database.connect() as conn:
        [(row,)] = conn.execute("SELECT to_jsonb(k)::text FROM api_keys k WHERE id = %s", (key["id"],)).fetchall()
    assert secret not in row


def test_what_is_sent_belongs_to_the_keys_tenant(closed: FlaskClient, database: Database) -> None:
    """And is noted under its name."""
    _, admin = make_key(database, *ALL)
    key = made(closed, admin)

    sent = closed.post(PATH, json=EMAIL, headers=bearer(key)).json
    suppressed = closed.post(
        "/api/v1/suppressions", json={"channel": "email", "recipient": "ada@example.com"}, headers=admin
    ).json

    assert closed.get(f"{PATH}/{sent['id']}", headers=bearer(key)).status_code == 200  # type: ignore[index]
    assert suppressed["created_by"] == "till"  # type: ignore[index]
    with database.connect() as conn:
        assert conn.execute("SELECT DISTINCT tenant_id FROM notifications").fetchall() == [("shop",)]


@pytest.mark.parametrize(
    ("scopes", "statuses"),
    [(("send",), (202, 403, 403)), (("read",), (403, 200, 403)), (("admin",), (403, 403, 200)), (ALL, (202, 200, 200))],
)
def test_a_scope_opens_what_it_is_for(
    closed: FlaskClient, database: Database, scopes: tuple[str, ...], statuses: tuple[int, ...]
) -> None:
    """And nothing else; the answer names the one that is missing."""
    _, headers = make_key(database, *scopes)

    answers = (
        closed.post(PATH, json=EMAIL, headers=headers),
        closed.get(PATH, headers=headers),
        closed.get(KEYS, headers=headers),
    )

    assert tuple(answer.status_code for answer in answers) == statuses
    for scope, answer in zip(ALL, answers, strict=True):
        assert answer.status_code < 300 or answer.json["detail"] == f"this needs the scope {scope}"  # type: ignore[index]


def test_a_key_grants_no_more_than_its_maker_has(closed: FlaskClient, database: Database) -> None:
    """Neither scopes, nor time, nor limits: not by a new key, and not by the secret of another one."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    _, whole = make_key(database, *ALL)
    lasting = made(closed, whole, scopes=list(ALL))
    _, narrow = make_key(database, "admin", expires_at=soon, limits="9/second")

    def status(path: str, **body: Any) -> int:
        return closed.post(path, json=body or None, headers=narrow).status_code

    later = (soon + timedelta(seconds=1)).isoformat()
    assert status(KEYS, name="x", scopes=["send"], expires_at=soon.isoformat()) == 403
    assert status(KEYS, name="x", scopes=["admin"]) == 403
    assert status(KEYS, name="x", scopes=["admin"], expires_at=later) == 403
    assert status(f"{KEYS}/{lasting['id']}/rotate") == 403
    within = closed.post(KEYS, json={"name": "x", "scopes": ["admin"], "expires_at": soon.isoformat()}, headers=narrow)
    assert (within.status_code, within.json["limits"]) == (201, "9/second")  # type: ignore[index]
    assert closed.get(KEYS, headers=bearer(lasting)).status_code == 200  # its secret is the one it had


def test_a_rotated_key_has_two_secrets_for_a_while(closed: FlaskClient, database: Database) -> None:
    """With an overlap of nought the old one ends at once; what was believed of it, within five seconds."""
    _, admin = make_key(database, *ALL)
    key = made(closed, admin)

    rotated = closed.post(f"{key['href']}/rotate", json={"overlap_s": 60}, headers=admin).json
    assert rotated["id"] == key["id"]  # type: ignore[index]
    assert rotated["previous_expires_at"] is not None  # type: ignore[index]
    assert closed.get(PATH, headers=bearer(rotated)).status_code == 200  # type: ignore[arg-type]
    assert closed.get(PATH, headers=bearer(key)).status_code == 200

    last = closed.post(f"{key['href']}/rotate", json={"overlap_s": 0}, headers=admin).json
    fresh = made(closed, admin)
    at_once = closed.post(f"{fresh['href']}/rotate", json={"overlap_s": 0}, headers=admin)
    assert at_once.status_code == 200
    assert closed.get(PATH, headers=bearer(fresh)).status_code == 401
    assert closed.get(PATH, headers=bearer(last)).status_code == 200  # type: ignore[arg-type]


def test_a_revoked_key_stays_listed_and_gets_no_secret(closed: FlaskClient, database: Database) -> None:
    """Revoking is repeated without effect."""
    _, admin = make_key(database, *ALL)
    key = made(closed, admin)

    first = closed.post(f"{key['href']}/revoke", headers=admin)
    again = closed.post(f"{key['href']}/revoke", headers=admin)

    assert (first.status_code, first.json) == (200, again.json)
    assert first.json["revoked_by"] == "till"  # type: ignore[index]
    refused = closed.post(f"{key['href']}/rotate", headers=admin)
    assert (refused.status_code, refused.json["state"]) == (409, "revoked")  # type: ignore[index]
    assert closed.get(PATH, headers=bearer(key)).status_code == 401
    listed = {active: ids(closed, admin, f"?active={active}") for active in ("true", "false")}
    assert key["id"] in listed["false"]
    assert key["id"] not in listed["true"]


def ids(client: FlaskClient, headers: dict[str, str], query: str = "") -> list[str]:
    """What a list shows, page after page."""
    found: list[str] = []
    cursor = ""
    while True:
        page = client.get(f"{KEYS}{query or '?'}&limit=2{cursor}", headers=headers).json
        assert page is not None
        found += [one["id"] for one in page["data"]]
        if not page["has_more"]:
            return found
        cursor = f"&cursor={page['next_cursor']}"


def test_keys_are_listed_newest_first_a_page_at_a_time(closed: FlaskClient, database: Database) -> None:
    """Each once."""
    first, admin = make_key(database, *ALL)
    more = [made(closed, admin)["id"] for _ in range(5)]

    assert ids(closed, admin) == [*reversed(more), first]


def test_a_key_of_another_tenant_is_as_unknown_as_any(closed: FlaskClient, database: Database) -> None:
    """Byte for byte, whatever is asked of it; and it is in no list."""
    theirs, _ = make_key(database, *ALL, tenant_id="bank")
    _, admin = make_key(database, *ALL)

    for method, path in (("GET", ""), ("POST", "/revoke"), ("POST", "/rotate")):
        answers = [
            closed.open(f"{KEYS}/{id_}{path}", method=method, headers=admin | {"X-Request-ID": "same"})
            for id_ in (theirs, "0" * 16)
        ]
        assert [answer.status_code for answer in answers] == [404, 404]
        assert answers[0].data == answers[1].data
    assert theirs not in ids(closed, admin)
    with database.connect() as conn:
        assert conn.execute("SELECT revoked_at FROM api_keys WHERE id = %s", (theirs,)).fetchone() == (None,)


@pytest.mark.parametrize("key_id", ["x", "0" * 15, "0" * 17, "A" * 16, "%00" + "0" * 13, "a" * 10_000])
def test_an_id_that_is_none_is_not_found(closed: FlaskClient, database: Database, key_id: str) -> None:
    """Before any query."""
    _, admin = make_key(database, *ALL)

    assert closed.get(f"{KEYS}/{key_id}", headers=admin).status_code == 404


@pytest.mark.parametrize(
    ("body", "pointer"),
    [
        ({"name": ""}, "/name"),
        ({"name": "x" * 101}, "/name"),
        ({"name": "line\nbreak"}, "/name"),
        ({"scopes": []}, "/scopes"),
        ({"scopes": ["root"]}, "/scopes"),
        ({"scopes": ["send", "send"]}, "/scopes"),
        ({"scopes": "send"}, "/scopes"),
        ({"scopes": [["send"]]}, "/scopes"),
        ({"expires_at": "2001-01-01T00:00:00Z"}, "/expires_at"),
        ({"expires_at": "2999-01-01T00:00:00Z"}, "/expires_at"),
        ({"tenant_id": "bank"}, "/tenant_id"),
        ({"limits": "1000/second"}, "/limits"),
        ({"id": "0" * 16}, "/id"),
    ],
)
def test_a_key_that_cannot_be_made_is_refused(
    closed: FlaskClient, database: Database, body: dict[str, Any], pointer: str
) -> None:
    """With the field that is wrong."""
    _, admin = make_key(database, *ALL)

    response = closed.post(KEYS, json=WANTED | body, headers=admin)

    assert response.status_code == 400
    assert [error["pointer"] for error in orjson.loads(response.data)["errors"]] == [pointer]


def test_a_key_that_was_used_says_when(database: Database, closed: FlaskClient) -> None:
    """To the minute, and after the answer: on a thread that writes every few seconds, and as the worker ends."""
    key_id, admin = make_key(database, *ALL)
    assert closed.get(KEYS, headers=admin).json["data"][0]["last_used_at"] is None  # type: ignore[index]

    closed.application.extensions["notification_api"].gate._uses.run_once()

    assert closed.get(f"{KEYS}/{key_id}", headers=admin).json["last_used_at"] is not None  # type: ignore[index]


def test_a_key_of_a_suspended_tenant_is_refused_and_says_why(closed: FlaskClient, database: Database) -> None:
    """403: who they are is known."""
    with database.connect(autocommit=True) as conn:
        conn.execute("UPDATE tenants SET suspended_at = now() WHERE id = 'bank'")
    _, headers = make_key(database, *ALL, tenant_id="bank")

    response = closed.get(PATH, headers=headers)

    assert (response.status_code, response.json["detail"]) == (403, "this tenant is suspended")  # type: ignore[index]


def test_an_expired_key_is_refused(closed: FlaskClient, database: Database) -> None:
    """By PostgreSQL's clock."""
    _, headers = make_key(database, expires_at=datetime.now(UTC) - timedelta(milliseconds=1))

    assert closed.get(PATH, headers=headers).status_code == 401
