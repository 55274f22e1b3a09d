"""Two tenants and all that one can have: what tests of one tenant's API against another's ask for."""

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any
from uuid import UUID
from wsgiref.types import WSGIEnvironment

import orjson
from flask import Flask
from flask.testing import FlaskClient

from api_service import api_keys
from api_service.callers import Caller, CallerKind, Scope
from api_service.problems import Problem
from api_service.services import EXTENSION
from shared.db import api_keys as keys_table
from shared.db import destinations, dlq_messages, notifications, tenants, users
from shared.db.api_keys import NewApiKey
from shared.db.destinations import Report
from shared.db.dlq_messages import Tracked
from shared.db.notifications import Ended, Ticket
from shared.db.users import NewUser
from shared.model import BreakerState, FailureClass, Outcome, uuid7
from tests.servers import Database

ClientOf = Callable[[str], FlaskClient]
NOTIFICATIONS = "/api/v1/notifications"
OWNER = UUID(int=7)
OPERATOR = "operators"
TABLES = (
    *("notifications", "outbox", "outbox_held", "delivery_attempts", "dlq_messages", "dlq_actions", "dlq_retries"),
    *("api_keys", "users", "suppressions", "endpoints", "signing_secrets", "sender_domains", "audit_log"),
    "idempotency_keys",
)


class HeaderGate:
    """Tells tenants apart by a header, where a key would be."""

    def caller(self, environ: WSGIEnvironment) -> Caller:
        """Return an admin of the tenant that the header names."""
        tenant_id = environ.get("HTTP_X_TENANT")
        if not tenant_id:
            raise Problem("unauthorized", "no tenant")
        return Caller(
            tenant_id=tenant_id,
            kind=CallerKind.KEY,
            id=f"key-of-{tenant_id}",
            name=f"{tenant_id}'s key",
            scopes=frozenset(Scope),
            is_operator=tenant_id == OPERATOR,
        )

    def close(self) -> None:
        """Hold nothing."""


def by_header(app: Flask) -> ClientOf:
    """Let an application tell tenants by a header; return what makes a client of one."""
    app.extensions[EXTENSION] = replace(app.extensions[EXTENSION], gate=HeaderGate())

    def client_of(tenant_id: str) -> FlaskClient:
        client = app.test_client()
        client.environ_base["HTTP_X_TENANT"] = tenant_id
        return client

    return client_of


def body_of(response: Any, status: int = 200) -> dict[str, Any]:
    """Return the body of a response that has this status."""
    assert response.status_code == status, response.data
    body: dict[str, Any] = orjson.loads(response.data)
    return body


@dataclass(frozen=True)
class Things:
    """What a tenant has, by id; of each kind at least two."""

    pending: list[str]
    failed: list[str]
    held: list[str]
    dead_letters: list[str]
    retries: list[str]
    suppressions: list[str]
    endpoints: list[str]
    sender_domains: list[str]
    keys: list[str]
    users: list[str]  # the second is disabled
    destination: str
    fingerprint: str


def furnish(client: FlaskClient, database: Database, tenant_id: str) -> Things:
    """Give a tenant two of everything that there is."""
    url = f"https://hooks.{tenant_id}.example.com/in"
    pending = [accepted(client, {"channel": "email", "recipient": f"ada@{tenant_id}.example.com"}) for _ in range(2)]
    failed = [accepted(client, {"channel": "webhook", "recipient": url}) for _ in range(2)]
    letters = [dead_letter_of(database, one, tenant_id) for one in failed]
    suppressions, held = [], []
    for name in ("gone", "moved"):
        recipient = f"{name}@{tenant_id}.example.com"
        asked = {"channel": "email", "recipient": recipient}
        suppressions.append(body_of(client.post("/api/v1/suppressions", json=asked))["id"])
        held.append(accepted(client, asked))
    claim(database, held)
    fingerprint = f"transient|{url[:-3]}:443|http_503"
    bulk = {"filter": {"fingerprint": fingerprint}, "dry_run": False}
    retries = [body_of(client.post("/api/v1/dead-letters/retry", json=bulk), 202)["id"] for _ in range(2)]
    endpoints = [body_of(client.post("/api/v1/endpoints", json={"url": url}), 201)["id"] for _ in range(2)]
    named = [f"{name}.{tenant_id}.example.com" for name in ("mail", "shop")]
    domains = [body_of(client.post("/api/v1/sender-domains", json={"domain": one}))["domain"] for one in named]
    keys, users = people(database, tenant_id)
    return Things(
        *(pending, failed, held, letters, retries, suppressions, endpoints, domains, keys, users),
        destination_of(database, tenant_id),
        fingerprint,
    )


def destination_of(database: Database, tenant_id: str) -> str:
    """Let a delivery consumer report where a tenant's webhooks go; return its name."""
    name = f"https://hooks.{tenant_id}.example.com:443"
    report = Report(name, "webhook", BreakerState.CLOSED, 1, 50, 0, 9, 1, None, None, tenant_id=tenant_id)
    with database.connect() as conn:
        destinations.report(conn, OWNER, [report])
    return name


def people(database: Database, tenant_id: str) -> tuple[list[str], list[str]]:
    """Give a tenant two keys and two users; return their ids."""
    keys, users_ = [api_keys.make() for _ in range(2)], [uuid7() for _ in range(2)]
    with database.connect(autocommit=True) as conn:
        tenants.add(conn, tenant_id, name=tenant_id)
        for made in keys:
            keys_table.add(conn, NewApiKey(made.id, tenant_id, made.sha256, "till", ["send"], "ada"))
        for id_ in users_:
            users.add(conn, NewUser(id_, tenant_id, f"{id_}@example.com", "Ada", "user", "none"))
        users.disable(conn, users_[1], tenant_id=tenant_id, disabled=True)
    return [made.id for made in keys], [str(id_) for id_ in users_]


def state(database: Database, *tables: str) -> list[Any]:
    """Return what is in some tables."""
    with database.connect() as conn:
        return [conn.execute(f"SELECT t::text FROM {table} t ORDER BY 1").fetchall() for table in tables or TABLES]


def accepted(client: FlaskClient, body: dict[str, Any], **headers: str) -> str:
    """Send a notification and return its id."""
    return str(body_of(client.post(NOTIFICATIONS, json={"message": "hello"} | body, headers=headers), 202)["id"])


def claim(database: Database, ids: list[str]) -> None:
    """Claim notifications as a consumer does: what is suppressed is held."""
    with database.connect() as conn:
        notifications.claim(conn, [Ticket(UUID(one), 1) for one in ids], owner=OWNER, lease_s=30)


def dead_letter_of(database: Database, notification_id: str, tenant_id: str) -> str:
    """Let a notification fail, and its dead letter be tracked; return the dead letter's id."""
    id_ = UUID(notification_id)
    claim(database, [notification_id])
    with database.connect() as conn:
        destination = f"https://hooks.{tenant_id}.example.com:443"
        ended = Ended(id_, 1, Outcome.TRANSIENT, "http_503", destination=destination)
        notifications.write_back(conn, [ended], owner=OWNER, dlq_topic="notifications.dlq")
        [(value,)] = conn.execute("SELECT record FROM notifications WHERE id = %s", (id_,)).fetchall()
        dlq_messages.track(conn, [_tracked(id_, tenant_id, value, destination)])
        return str(dlq_messages.find_id(conn, id_))


def _tracked(notification_id: UUID, tenant_id: str, value: bytes, destination: str) -> Tracked:
    return Tracked(
        tenant_id=tenant_id,
        notification_id=notification_id,
        channel="webhook",
        attempt=1,
        message_key=b"key",
        original_payload=value,
        headers={"attempt": "1"},
        topic="notifications.webhook",
        partition=0,
        offset=1,
        failure_class=FailureClass.TRANSIENT,
        reason="http_503",
        destination=destination,
        error_message="503 Service Unavailable",
        retry_in_s=None,
        rest_reason="retries_used_up",
    )
