"""Whom e-mail may be from: a domain is named once its owner has put a record into DNS, and by its tenant alone."""

import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient

from api_service import known, txt_records, wsgi
from api_service.routes import sender_domains as routes
from api_service.settings import read_settings
from shared.db.outbox import read
from shared.records import decode_record
from shared.settings import Environment
from tests.integration.api_service.conftest import OPEN
from tests.integration.api_service.tenants import NOTIFICATIONS, ClientOf, body_of
from tests.name_server import NameServer
from tests.servers import Database

PATH = "/api/v1/sender-domains"
MAIL = {"channel": "email", "recipient": "ada@example.org", "message": "hello"}


@pytest.fixture
def dns() -> Iterator[NameServer]:
    """A name server."""
    with NameServer() as server:
        yield server


@pytest.fixture
def app(database: Database, dns: NameServer, tmp_path: Path) -> Iterator[Flask]:
    """The API, which asks that server."""
    environ = database.environ_of("api_service") | OPEN | {"DNS_SERVERS": dns.place}
    app = wsgi.build(read_settings(Environment(environ)), tmp_path)
    yield app
    wsgi.close(app)


def verified(client: FlaskClient, dns: NameServer, domain: str) -> None:
    """Add a domain, put its record into DNS, have it looked for."""
    record = body_of(client.post(PATH, json={"domain": domain}))["record"]
    dns.records[record["name"]] = ["v=spf1 -all", record["value"]]
    assert body_of(client.post(f"{PATH}/{domain}/verify"))["status"] == "verified"


def send(client: FlaskClient, sender: str) -> Any:
    """Ask for an e-mail from somebody."""
    return client.post(NOTIFICATIONS, json=MAIL | {"sender": sender})


def faults(response: Any) -> list[tuple[str, str]]:
    """What is wrong, and where."""
    return [(one["pointer"], one["code"]) for one in body_of(response, 400)["errors"]]


def test_a_domain_is_verified_by_its_record_alone(client: FlaskClient, dns: NameServer) -> None:
    """Not by none, not by another's, not by a name server that fails; and then it stays so."""
    added = body_of(client.post(PATH, json={"domain": "Shop.Example.org"}))
    domain, record = f"{PATH}/shop.example.org", added["record"]

    without = body_of(client.post(f"{domain}/verify"), 409)
    dns.records[record["name"]] = ["v=spf1 -all", "notification-pipeline=" + "0" * 32]
    other = body_of(client.post(f"{domain}/verify"), 409)
    dns.broken = True
    failed = client.post(f"{domain}/verify")
    dns.broken = False
    dns.records[record["name"]].append(record["value"])
    found = body_of(client.post(f"{domain}/verify"))
    dns.records.clear()
    again = body_of(client.post(f"{domain}/verify"))

    assert (added["status"], record["type"]) == ("unverified", "TXT")
    assert (without["code"], without["record"], other["code"]) == ("not_verified", record, "not_verified")
    assert body_of(failed, 503)["code"] == "lookup_failed"
    assert "Retry-After" in failed.headers
    assert found["status"] == "verified"
    assert again == found == body_of(client.get(domain)) == body_of(client.get(PATH))["data"][0]


def test_a_silent_name_server_holds_one_thread_at_most(
    app: Flask, client: FlaskClient, dns: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever names a domain may run its name server: the next look-up is told to come back, whoever's it is."""
    monkeypatch.setattr(txt_records, "LOOKUP_S", 1.0)
    paths = [body_of(client.post(PATH, json={"domain": f"d{number}.example.org"}))["href"] for number in range(8)]
    dns.silent = True
    answers: list[Any] = []

    def verify(path: str) -> None:
        answers.append(app.test_client().post(f"{path}/verify"))

    began = time.monotonic()
    threads = [threading.Thread(target=verify, args=(path,)) for path in paths]
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    took_s = time.monotonic() - began
    dns.silent = False

    assert sorted(body_of(one, 503)["code"] for one in answers) == ["busy"] * 7 + ["lookup_failed"]
    assert all("Retry-After" in one.headers for one in answers)
    assert took_s < 2.5
    verified(client, dns, "d0.example.org")


def test_adding_a_domain_again_changes_nothing(client: FlaskClient, dns: NameServer) -> None:
    """Its record stays, and so does what is verified."""
    first = body_of(client.post(PATH, json={"domain": "example.org"}))

    assert body_of(client.post(PATH, json={"domain": "example.org"})) == first
    verified(client, dns, "example.org")
    assert body_of(client.post(PATH, json={"domain": "example.org"}))["status"] == "verified"


def test_row_39_the_domain_of_a_sender_is_the_tenants(client_of: ClientOf, dns: NameServer, database: Database) -> None:
    """422 is 400 here, naming the field, in a batch too: one not verified, not there, or another tenant's."""
    a, b = client_of("a"), client_of("b")
    verified(b, dns, "b.example.org")
    body_of(a.post(PATH, json={"domain": "a.example.org"}))
    theirs = ("Bob <bob@b.example.org>", "ann@a.example.org", "x@example.net", "x@notb.example.org", "x@example.org")

    for sender in theirs:
        assert faults(send(a, sender)) == [("/sender", "unverified_domain")]
    batch = a.post(f"{NOTIFICATIONS}/batch", json=[MAIL | {"sender": one} for one in theirs] + [MAIL])
    assert faults(batch) == [(f"/{place}/sender", "unverified_domain") for place in range(len(theirs))]
    for sender in (theirs[0], "Bob <bob@mail.b.example.org>", "bob@B.example.ORG"):
        assert send(b, sender).status_code == 202
    with database.connect() as conn:
        senders = [decode_record(row.value).sender for row in read(conn, after=0, also=(), limit=10).rows]
    assert senders == ["Bob <bob@b.example.org>", "Bob <bob@mail.b.example.org>", "bob@b.example.org"]


def test_a_domain_that_is_deleted_is_named_no_more(
    client: FlaskClient, dns: NameServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Within the seconds for which it was remembered."""
    verified(client, dns, "example.org")
    assert send(client, "ann@example.org").status_code == 202

    deleted = client.delete(f"{PATH}/example.org")
    assert (deleted.status_code, "Content-Type" in deleted.headers) == (204, False)
    monkeypatch.setattr("cachetools.TTLCache.__contains__", lambda *_: False)  # as five seconds later

    assert known.SEEN_FOR_S == 5
    assert faults(send(client, "ann@example.org")) == [("/sender", "unverified_domain")]
    assert client.delete(f"{PATH}/example.org").status_code == 404


@pytest.mark.parametrize("domain", ["", "localhost", "a b.org", "x@example.org", "example.org.", "-a.org", "1.2.3.4"])
def test_what_is_no_domain_is_refused(client: FlaskClient, domain: str) -> None:
    """Where it is added; elsewhere it is as unknown as any other."""
    assert faults(client.post(PATH, json={"domain": domain})) == [("/domain", "invalid_domain")]
    if domain:
        assert client.get(f"{PATH}/{domain}").status_code == 404


def test_a_tenant_has_a_bounded_number_of_domains(client: FlaskClient, monkeypatch: pytest.MonkeyPatch) -> None:
    """The one too many is not kept."""
    monkeypatch.setattr(routes, "MOST", 2)
    for number in range(2):
        body_of(client.post(PATH, json={"domain": f"d{number}.example.org"}))

    assert faults(client.post(PATH, json={"domain": "d2.example.org"})) == [("/domain", "too_many")]
    assert len(body_of(client.get(PATH))["data"]) == 2


def test_what_is_done_with_domains_is_in_the_audit_log(client: FlaskClient, dns: NameServer) -> None:
    """Added once, verified once, deleted."""
    verified(client, dns, "example.org")
    body_of(client.post(f"{PATH}/example.org/verify"))
    client.delete(f"{PATH}/example.org")

    rows = body_of(client.get("/api/v1/audit-logs"))["data"]
    assert [(row["action"], row["entity_id"]) for row in rows] == [
        ("sender_domain.deleted", "example.org"),
        ("sender_domain.verified", "example.org"),
        ("sender_domain.added", "example.org"),
    ]
