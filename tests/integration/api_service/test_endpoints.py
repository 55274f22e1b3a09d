"""Endpoints by the API: made, changed, disabled, resumed, tested, deleted; their secrets; and naming one."""

import base64
from pathlib import Path
from typing import Any
from uuid import UUID

import orjson
import pytest
from flask import Flask
from flask.testing import FlaskClient

from api_service import wsgi
from api_service.endpoint_answers import (
    EndpointDetailSchema,
    EndpointSchema,
    NewEndpointDetailSchema,
    RotatedSecretSchema,
)
from api_service.services import EXTENSION
from api_service.settings import read_settings
from shared.db import endpoints, notifications, suppressions
from shared.db.notifications import Ended, Ticket
from shared.endpoints import endpoint_id
from shared.model import Outcome, uuid7
from shared.records import decode_record
from shared.secrets import Keyring
from shared.settings import Environment
from tests.integration.api_service.conftest import OPEN, SECRETS_KEYS
from tests.integration.api_service.tenants import OWNER, accepted, body_of, claim
from tests.servers import Database

PATH = "/api/v1/endpoints"
NOTIFICATIONS = "/api/v1/notifications"
SECRET = "/api/v1/signing-secret"
URL = "https://example.com/hooks/orders"
UNKNOWN = f"ep_{uuid7().hex}"


def made(client: FlaskClient, **fields: Any) -> dict[str, Any]:
    """Make an endpoint."""
    return body_of(client.post(PATH, json={"url": URL} | fields), 201)


def shown(client: FlaskClient, endpoint: str) -> dict[str, Any]:
    return body_of(client.get(f"{PATH}/{endpoint}"))


def key_of(secret: str) -> bytes:
    """The bytes that a secret as it is shown stands for."""
    assert secret.startswith("whsec_")
    return base64.b64decode(secret.removeprefix("whsec_"), validate=True)


def sealed_keys(app: Flask, database: Database, endpoint: str | None) -> list[bytes]:
    """What is stored for an endpoint, or the tenant, opened: the newest first."""
    keyring: Keyring = app.extensions[EXTENSION].keyring
    with database.connect() as conn:
        query = """SELECT id, tenant_id, sealed FROM signing_secrets
                    WHERE endpoint_id IS NOT DISTINCT FROM %s ORDER BY created_at DESC"""
        found = conn.execute(query, (endpoint and endpoint_id(endpoint),)).fetchall()
    return [
        keyring.open(sealed, table="signing_secrets", row_id=str(id_), tenant_id=tenant)
        for id_, tenant, sealed in found
    ]


def test_an_endpoint_is_made_with_a_secret_of_its_own(client: FlaskClient, app: Flask, database: Database) -> None:
    """Shown this once, stored sealed; so are its headers, whose values are never shown."""
    response = client.post(PATH, json={
        "url": URL, "description": "orders", "headers": {"Authorization": "Bearer hush", "X-Region": "eu"},
        "rate_per_s": 50, "timeout_s": 2.5})  # fmt: skip
    endpoint = body_of(response, 201)
    later = client.get(response.headers["Location"])

    assert set(endpoint) == set(NewEndpointDetailSchema().fields)
    assert set(body_of(later)) == set(EndpointDetailSchema().fields)
    assert endpoint | {"secret": None} == body_of(later) | {"secret": None}
    assert (endpoint["url"], endpoint["description"], endpoint["status"]) == (URL, "orders", "enabled")
    assert (endpoint["rate_per_s"], endpoint["timeout_s"], endpoint["held"]) == (50.0, 2.5, 0)
    assert endpoint["headers"] == {"Authorization": "(hidden)", "X-Region": "(hidden)"}
    assert [one["expires_at"] for one in endpoint["signing_secrets"]] == [None]
    key = key_of(endpoint["secret"])
    assert 24 <= len(key) <= 64
    assert sealed_keys(app, database, endpoint["id"]) == [key]
    assert all(word not in later.data for word in (b"hush", b"whsec_"))


def test_what_is_stored_opens_for_its_own_row_alone(client: FlaskClient, app: Flask, database: Database) -> None:
    """Headers as a JSON object; nothing of any secret is in the table."""
    endpoint = made(client, headers={"Authorization": "Bearer hush"})

    with database.connect() as conn:
        [(id_, sealed, names)] = conn.execute("SELECT id, sealed_headers, header_names FROM endpoints").fetchall()
        stored = repr(conn.execute("SELECT * FROM endpoints, signing_secrets").fetchall())
    keyring: Keyring = app.extensions[EXTENSION].keyring
    opened = keyring.open(sealed, table="endpoints", row_id=str(id_), tenant_id="default")

    assert (orjson.loads(opened), names) == ({"Authorization": "Bearer hush"}, ["Authorization"])
    assert all(secret not in stored for secret in ("hush", endpoint["secret"].removeprefix("whsec_")))


def test_two_endpoints_have_two_secrets(client: FlaskClient) -> None:
    """Whoever knows one can forge nothing for the other."""
    assert made(client)["secret"] != made(client)["secret"]


@pytest.mark.parametrize(
    ("body", "pointer", "code"),
    [
        ({}, "/url", "required"),
        ({"url": "ftp://example.com"}, "/url", "invalid_url"),
        ({"url": "https://u:p@example.com/"}, "/url", "url_with_credentials"),
        ({"url": URL, "id": UNKNOWN}, "/id", "unknown_field"),
        ({"url": URL, "tenant_id": "b"}, "/tenant_id", "unknown_field"),
        ({"url": URL, "secret": "whsec_x"}, "/secret", "unknown_field"),
        ({"url": URL, "description": ""}, "/description", "invalid_description"),
        ({"url": URL, "description": "d" * 501}, "/description", "invalid_description"),
        ({"url": URL, "headers": {"Host": "x"}}, "/headers/Host", "header_not_allowed"),
        ({"url": URL, "headers": {"webhook-signature": "x"}}, "/headers/webhook-signature", "header_not_allowed"),
        ({"url": URL, "headers": {"Cookie": "x"}}, "/headers/Cookie", "header_not_allowed"),
        ({"url": URL, "headers": {"X-A": "a\r\nb"}}, "/headers/X-A", "invalid_header_value"),
        ({"url": URL, "headers": {"X-A": "(hidden)"}}, "/headers/X-A", "hidden_value"),
        ({"url": URL, "rate_per_s": 0}, "/rate_per_s", "out_of_range"),
        ({"url": URL, "rate_per_s": True}, "/rate_per_s", "out_of_range"),
        ({"url": URL, "timeout_s": 121}, "/timeout_s", "out_of_range"),
        ({"url": URL, "timeout_s": None}, "/timeout_s", "null"),
        ([], "", "not_an_object"),
    ],
)
def test_what_is_wrong_with_one_is_named(
    client: FlaskClient, database: Database, body: Any, pointer: str, code: str
) -> None:
    """And nothing is stored."""
    answer = body_of(client.post(PATH, json=body), 400)

    assert [(error["pointer"], error["code"]) for error in answer["errors"]] == [(pointer, code)]
    with database.connect() as conn:
        assert conn.execute("SELECT count(*) FROM endpoints").fetchone() == (0,)


PRIVATE_HOSTS = [
    *("127.0.0.1", "127.1", "2130706433", "0x7f000001", "0x7f.1", "0177.0.0.1", "0", "10.0.0.1", "169.254.169.254"),
    *("[::1]", "[::ffff:10.0.0.1]", "[64:ff9b::7f00:1]", "[fd00:ec2::254]", "localhost", "a.localhost.", "1.2.3.256"),
]


@pytest.mark.parametrize("host", PRIVATE_HOSTS)
def test_an_address_that_nothing_is_sent_to_is_refused_at_once(client: FlaskClient, host: str) -> None:
    """However it is spelled; in a change too. What a name resolves to is seen when it is connected to."""
    one = made(client)

    answers = [
        client.post(PATH, json={"url": f"https://{host}/"}),
        client.patch(one["href"], json={"url": f"http://{host}"}),
    ]

    for answer in answers:
        [error] = body_of(answer, 400)["errors"]
        assert (error["pointer"], error["code"]) == ("/url", "forbidden_address")


@pytest.mark.parametrize("url", ["https://1.1.1.1/", "https://[2606:4700::1111]:8443/", "https://0x.example.com/"])
def test_any_other_host_is_taken(client: FlaskClient, url: str) -> None:
    """Public addresses, and names whatever they are like."""
    assert made(client, url=url)["url"] == url


def test_operators_may_allow_a_private_network(database: Database, tmp_path: Path) -> None:
    """And that one alone."""
    environ = database.environ_of("api_service") | OPEN | {"SECRETS_KEYS": SECRETS_KEYS}
    settings = read_settings(Environment(environ | {"WEBHOOK_ALLOWED_NETWORKS": "10.20.0.0/16"}))
    app = wsgi.build(settings, tmp_path)
    try:
        answers = [app.test_client().post(PATH, json={"url": f"http://10.{net}.0.1/"}) for net in (20, 21)]
    finally:
        wsgi.close(app)

    assert [answer.status_code for answer in answers] == [201, 400]


@pytest.mark.parametrize("path", [PATH, f"{SECRET}/rotate", "{endpoint}/secrets/rotate"])
def test_an_answer_with_a_secret_is_not_stored(client: FlaskClient, database: Database, path: str) -> None:
    """So a key is refused there, instead of being of no use."""
    href = made(client)["href"]

    response = client.post(path.format(endpoint=href), json={"url": URL}, headers={"Idempotency-Key": "k"})

    answer = body_of(response, 400)
    assert (answer["code"], answer["errors"][0]["header"]) == ("invalid_header", "Idempotency-Key")
    with database.connect() as conn:
        assert conn.execute("SELECT count(*) FROM endpoints").fetchone() == (1,)


def test_without_a_key_to_seal_with_none_is_made(client: FlaskClient, app: Flask, database: Database) -> None:
    """501 says what its operator has to do; one without anything to seal can still be changed."""
    endpoint = made(client)
    services = app.extensions[EXTENSION]
    object.__setattr__(services, "keyring", Keyring(()))

    refused = [
        client.post(PATH, json={"url": URL}),
        client.patch(endpoint["href"], json={"headers": {"X-A": "v"}}),
        client.post(f"{endpoint['href']}/secrets/rotate"),
    ]

    assert [body_of(one, 501)["code"] for one in refused] == ["not_configured"] * 3
    assert "SECRETS_KEYS" in body_of(refused[0], 501)["detail"]
    body_of(client.patch(endpoint["href"], json={"headers": {}, "rate_per_s": 5}))
    with database.connect() as conn:
        assert conn.execute("SELECT count(*) FROM endpoints").fetchone() == (1,)


def test_endpoints_are_listed_newest_first_page_by_page(client: FlaskClient) -> None:
    """Deleted ones are not."""
    ids = [made(client)["id"] for _ in range(4)]
    client.delete(f"{PATH}/{ids[1]}")

    page = body_of(client.get(f"{PATH}?limit=2"))
    rest = body_of(client.get(f"{PATH}?limit=2&cursor={page['next_cursor']}"))

    assert [one["id"] for one in page["data"] + rest["data"]] == [ids[3], ids[2], ids[0]]
    assert (page["has_more"], rest["has_more"]) == (True, False)
    assert set(page["data"][0]) == set(EndpointSchema().fields)


def test_a_change_leaves_alone_what_it_does_not_name(client: FlaskClient, app: Flask, database: Database) -> None:
    """null takes away, headers are replaced together."""
    one = made(client, description="d", headers={"X-A": "1", "X-B": "2"}, rate_per_s=5, timeout_s=3)

    first = body_of(client.patch(one["href"], json={"url": "https://example.org/", "rate_per_s": None}))
    second = body_of(client.patch(one["href"], json={"headers": {"X-C": "3"}, "description": None}))
    third = body_of(client.patch(one["href"], json={"headers": {}}))

    assert (first["url"], first["rate_per_s"], first["timeout_s"], first["description"]) == (
        "https://example.org/", None, 3.0, "d")  # fmt: skip
    assert list(first["headers"]) == ["X-A", "X-B"]
    assert (list(second["headers"]), second["description"], second["url"]) == (["X-C"], None, "https://example.org/")
    assert third["headers"] == {}
    with database.connect() as conn:
        assert conn.execute("SELECT sealed_headers FROM endpoints").fetchall() == [(None,)]


@pytest.mark.parametrize(
    ("body", "pointer"),
    [({}, ""), ({"url": None}, "/url"), ({"headers": None}, "/headers"), ({"status": "disabled"}, "/status")],
)
def test_a_change_that_says_nothing_is_refused(client: FlaskClient, body: Any, pointer: str) -> None:
    """As is one of what cannot be changed."""
    answer = body_of(client.patch(made(client)["href"], json=body), 400)

    assert [error["pointer"] for error in answer["errors"]] == [pointer]


def test_disabled_holds_and_resumed_publishes_in_order(client: FlaskClient, database: Database) -> None:
    """Nothing is lost; saying either again changes nothing."""
    one = made(client)
    asked = {"channel": "webhook", "endpoint": one["id"]}

    off = body_of(client.post(f"{one['href']}/disable", json={"by": "ann", "note": "moving"}))
    again = body_of(client.post(f"{one['href']}/disable", json={"by": "bob"}))
    ids = [accepted(client, asked) for _ in range(3)]
    claim(database, ids)
    held = shown(client, one["id"])
    waiting = [body_of(client.get(f"{NOTIFICATIONS}/{id_}"))["status"] for id_ in ids]
    on = body_of(client.post(f"{one['href']}/resume"))
    with database.connect() as conn:
        conn.execute("DELETE FROM outbox")
        suppressions.resume_held(conn, limit=10)
        going = [str(row[0]) for row in conn.execute("SELECT notification_id FROM outbox ORDER BY seq")]
    after = body_of(client.post(f"{one['href']}/resume"))

    assert off == again
    assert (off["status"], off["disabled"]["reason"], off["disabled"]["detail"]) == ("disabled", "manual", "moving")
    assert (off["disabled"]["by"], off["held"]) == ("ann", 0)
    assert (held["held"], waiting) == (3, ["suppressed"] * 3)
    assert (on["status"], on["disabled"], on["held"]) == ("enabled", None, 3)
    assert going == ids
    assert (after["status"], after["held"]) == ("enabled", 0)


def test_one_that_answered_410_says_so(client: FlaskClient, database: Database) -> None:
    """The write-back disables it under its name; a person resumes it here."""
    one = made(client)
    id_ = UUID(accepted(client, {"channel": "webhook", "endpoint": one["id"]}))
    with database.connect() as conn:
        notifications.claim(conn, [Ticket(id_, 1)], owner=OWNER, lease_s=30)
        ended = Ended(id_, 1, Outcome.PERMANENT, "http_410", destination="https://example.com:443", suppress="gone")
        notifications.write_back(conn, [ended], owner=OWNER, dlq_topic="notifications.dlq")

    gone = shown(client, one["id"])
    resumed = body_of(client.post(f"{one['href']}/resume"))

    assert (gone["status"], gone["disabled"]["reason"], gone["disabled"]["detail"]) == ("disabled", "gone", "http_410")
    assert resumed["status"] == "enabled"


def test_deleted_is_unknown_and_what_was_held_goes_on_to_fail(client: FlaskClient, database: Database) -> None:
    """Nothing secret of it stays; its name is never another's; nothing goes on while a consumer may know its URL."""
    one = made(client, headers={"Authorization": "Bearer hush"})
    client.post(f"{one['href']}/disable")
    id_, on_its_way = (accepted(client, {"channel": "webhook", "endpoint": one["id"]}) for _ in range(2))
    claim(database, [id_])

    first, again = client.delete(one["href"]), client.delete(one["href"])

    assert (first.status_code, first.data, again.status_code) == (204, b"", 404)
    assert "Content-Type" not in first.headers
    assert client.get(one["href"]).status_code == 404
    claim(database, [on_its_way])
    with database.connect() as conn:
        assert (suppressions.lift_deleted(conn, limit=10), suppressions.resume_held(conn, limit=10)) == (0, 0)
        conn.execute("UPDATE endpoints SET deleted_at = deleted_at - interval '20 s'")
        assert (suppressions.lift_deleted(conn, limit=10), suppressions.resume_held(conn, limit=10)) == (1, 2)
        assert conn.execute("SELECT count(*) FROM signing_secrets").fetchone() == (0,)
        assert conn.execute("SELECT sealed_headers, deleted_at IS NULL FROM endpoints").fetchall() == [(None, False)]
    assert body_of(client.get(f"{NOTIFICATIONS}/{id_}"))["status"] == "pending"


def test_a_test_takes_the_way_of_all(client: FlaskClient, database: Database) -> None:
    """A notification like any other; with a key it is sent once."""
    one = made(client)

    response = client.post(f"{one['href']}/test", headers={"Idempotency-Key": "t"})
    repeat = client.post(f"{one['href']}/test", headers={"Idempotency-Key": "t"})

    sent = body_of(response, 202)
    assert (repeat.data, repeat.headers["Idempotent-Replayed"]) == (response.data, "true")
    assert response.headers["Location"] == f"{NOTIFICATIONS}/{sent['id']}"
    with database.connect() as conn:
        [(topic, value)] = conn.execute("SELECT topic, value FROM outbox").fetchall()
    record = decode_record(value)
    assert (topic, record.recipient, record.message) == ("notifications.webhook", one["id"], "endpoint.test")
    assert (record.payload, record.metadata) == ({"endpoint": one["id"]}, {"test": True})


def test_a_disabled_one_is_not_tested(client: FlaskClient, database: Database) -> None:
    """The test would be held, and its sender none the wiser."""
    one = made(client)
    client.post(f"{one['href']}/disable")

    answer = body_of(client.post(f"{one['href']}/test"), 409)

    assert (answer["code"], answer["state"]) == ("wrong_state", "disabled")
    assert body_of(client.post(f"{one['href']}/test", json={"url": URL}), 400)["errors"][0]["pointer"] == "/url"
    with database.connect() as conn:
        assert conn.execute("SELECT count(*) FROM notifications").fetchone() == (0,)


@pytest.mark.parametrize("whose", ["endpoint", "tenant"])
def test_a_rotated_secret_signs_beside_the_new_one_for_a_stated_time(
    client: FlaskClient, app: Flask, database: Database, whose: str
) -> None:
    """A day unless said otherwise; afterwards it is gone for good."""
    one = made(client)
    path, name = (f"{one['href']}/secrets", one["id"]) if whose == "endpoint" else (SECRET, None)
    read = one["href"] if whose == "endpoint" else SECRET
    first = one["secret"] if whose == "endpoint" else body_of(client.post(f"{path}/rotate"))["secret"]

    rotated = body_of(client.post(f"{path}/rotate", json={}))
    soon = body_of(client.post(f"{path}/rotate", json={"overlap_s": 60}))
    keys = sealed_keys(app, database, name)
    now = body_of(client.post(f"{path}/rotate", json={"overlap_s": 0}))

    assert set(rotated) == set(RotatedSecretSchema().fields)
    assert keys == [key_of(one) for one in (soon["secret"], rotated["secret"], first)]
    assert [one["expires_at"] is None for one in soon["signing_secrets"]] == [True, False, False]
    with database.connect() as conn:
        lengths = [row[0] for row in conn.execute("SELECT count(*) FROM signing_secrets GROUP BY endpoint_id")]
    assert len(now["signing_secrets"]) == 1
    assert max(lengths) == 1
    assert sealed_keys(app, database, name) == [key_of(now["secret"])]
    assert body_of(client.get(read))["signing_secrets"] == now["signing_secrets"]


def test_the_overlap_is_what_was_stated(client: FlaskClient, database: Database) -> None:
    """By PostgreSQL's clock; a shorter one cuts a longer one, a longer one never stretches a shorter."""
    one = made(client)
    spans = []
    for overlap_s in (3600, 60, 86_400):
        client.post(f"{one['href']}/secrets/rotate", json={"overlap_s": overlap_s})
        with database.connect() as conn:
            query = "SELECT round(extract(epoch FROM expires_at - now()) / 60) FROM signing_secrets ORDER BY created_at"
            spans.append([row[0] and int(row[0]) for row in conn.execute(query)])

    assert spans == [[60, None], [1, 1, None], [1, 1, 1440, None]]


def test_a_bounded_number_of_secrets_signs(client: FlaskClient) -> None:
    """Each is a signature in a header; one that has to go at once can always be replaced."""
    one = made(client)
    answers = [client.post(f"{one['href']}/secrets/rotate") for _ in range(5)]

    assert [answer.status_code for answer in answers] == [200, 200, 200, 200, 409]
    assert body_of(answers[4], 409)["code"] == "wrong_state"
    assert len(body_of(client.post(f"{one['href']}/secrets/rotate", json={"overlap_s": 0}))["signing_secrets"]) == 1


def test_what_has_expired_signs_no_more_and_is_deleted_by_the_next_rotation(
    client: FlaskClient, database: Database
) -> None:
    """What is shown is what signs."""
    one = made(client)
    client.post(f"{one['href']}/secrets/rotate")
    with database.connect() as conn:
        conn.execute("UPDATE signing_secrets SET expires_at = now() - interval '1 s' WHERE expires_at IS NOT NULL")

    alone = shown(client, one["id"])["signing_secrets"]
    client.post(f"{one['href']}/secrets/rotate")

    assert [secret["expires_at"] for secret in alone] == [None]
    with database.connect() as conn:
        assert conn.execute("SELECT count(*) FROM signing_secrets").fetchone() == (2,)


@pytest.mark.parametrize("overlap", [-1, 604_801, 1.5, "60", None, True])
def test_an_overlap_is_seconds_up_to_a_week(client: FlaskClient, overlap: Any) -> None:
    """A default where it is left out, a fault where it is no such number."""
    answer = body_of(client.post(f"{SECRET}/rotate", json={"overlap_s": overlap}), 400)

    assert answer["errors"][0]["pointer"] == "/overlap_s"


def test_a_tenant_without_a_secret_has_none(client: FlaskClient) -> None:
    """Until one is made."""
    assert body_of(client.get(SECRET)) == {"signing_secrets": []}


WAYS = ["direct", "flask", "batch", "lines"]


def send(client: FlaskClient, way: str, body: dict[str, Any], **headers: str) -> Any:
    """Send one notification in each of the ways there are."""
    if way == "direct":
        return client.post(NOTIFICATIONS, json=body, headers=headers)
    if way == "flask":
        vendor = "application/vnd.acme+json"
        return client.post(NOTIFICATIONS, data=orjson.dumps(body), content_type=vendor, headers=headers)
    path = f"{NOTIFICATIONS}/batch"
    if way == "batch":
        return client.post(path, json=[body], headers=headers)
    return client.post(path, data=orjson.dumps(body), content_type="application/x-ndjson", headers=headers)


@pytest.mark.parametrize("way", WAYS)
def test_a_notification_names_an_endpoint_in_place_of_a_url(client: FlaskClient, database: Database, way: str) -> None:
    """It is its recipient, in the row and in the record."""
    one = made(client)

    response = send(client, way, {"channel": "webhook", "endpoint": one["id"], "message": "hello"})

    assert response.status_code == 202
    with database.connect() as conn:
        [(id_, recipient, record)] = conn.execute("SELECT id, recipient, record FROM notifications").fetchall()
    assert (recipient, decode_record(record).recipient) == (one["id"], one["id"])
    assert body_of(client.get(f"{NOTIFICATIONS}/{id_}"))["recipient"] == one["id"]
    assert len(body_of(client.get(f"{NOTIFICATIONS}?recipient={one['id']}"))["data"]) == 1


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("named", ["unknown", "deleted", "malformed"])
def test_one_that_is_not_there_is_refused(client: FlaskClient, database: Database, way: str, named: str) -> None:
    """At /endpoint, and nothing is accepted."""
    deleted = made(client)
    client.delete(deleted["href"])
    endpoint = {"unknown": UNKNOWN, "deleted": deleted["id"], "malformed": "ep_x"}[named]

    answer = body_of(send(client, way, {"channel": "webhook", "endpoint": endpoint, "message": "hello"}), 400)

    [error] = answer["errors"]
    place = "/0/endpoint" if way in ("batch", "lines") else "/endpoint"
    assert (error["pointer"], error["code"]) == (place, "unknown_endpoint")
    with database.connect() as conn:
        assert conn.execute("SELECT count(*) FROM notifications").fetchone() == (0,)


def test_of_a_batch_each_item_with_a_faulty_endpoint_is_named(client: FlaskClient) -> None:
    """The others are accepted where each is for itself."""
    one = made(client)["id"]
    items = [{"channel": "webhook", "endpoint": name, "message": "m"} for name in (one, UNKNOWN, one, UNKNOWN)]

    whole = body_of(client.post(f"{NOTIFICATIONS}/batch", json=items), 400)
    apart = body_of(client.post(f"{NOTIFICATIONS}/batch?atomic=false", json=items), 202)

    assert [error["pointer"] for error in whole["errors"]] == ["/1/endpoint", "/3/endpoint"]
    assert ["id" in result for result in apart["results"]] == [True, False, True, False]
    assert apart["results"][1]["problem"]["errors"][0]["code"] == "unknown_endpoint"


def test_a_repeat_gets_its_answer_though_the_endpoint_is_gone(client: FlaskClient) -> None:
    """It was accepted when it was asked first."""
    one = made(client)
    body = {"channel": "webhook", "endpoint": one["id"], "message": "hello"}
    first = send(client, "direct", body, **{"Idempotency-Key": "k"})
    client.delete(one["href"])
    client.application.extensions[EXTENSION].known._seen.clear()

    repeats = [send(client, way, body, **{"Idempotency-Key": "k"}) for way in ("direct", "flask")]

    assert [(one.status_code, one.data) for one in repeats] == [(202, first.data)] * 2


def test_who_names_no_endpoint_asks_nobody(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """And who names one asks once in five seconds; one just made is there at once."""
    asked: list[Any] = []
    known = endpoints.known

    def counted(*arguments: Any, **options: Any) -> Any:
        asked.append(arguments)
        return known(*arguments, **options)

    monkeypatch.setattr(endpoints, "known", counted)
    one = made(client)["id"]

    for _ in range(3):
        accepted(client, {"channel": "webhook", "recipient": URL})
        accepted(client, {"channel": "email", "recipient": f"{UNKNOWN}@example.com"})
    without = len(asked)
    for _ in range(3):
        accepted(client, {"channel": "webhook", "endpoint": one})
    named = len(asked)
    other = made(client)["id"]
    accepted(client, {"channel": "webhook", "endpoint": other})

    assert (without, named, len(asked)) == (0, 1, 2)
