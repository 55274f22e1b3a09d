"""Endpoints as they stand in PostgreSQL, delivered to by a running consumer."""

import base64
import threading
import time
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson
import pytest
import standardwebhooks

from shared.db import outbox
from shared.key_rings import NamedKey
from shared.model import uuid7
from shared.secrets import Keyring
from tests.integration.delivery_consumer.parts import Desk, Receiver, running, settings_for
from tests.integration.delivery_consumer.test_order_and_suppression import relaying

KEYS = (NamedKey("k1", b"K" * 32),)
KEYRING = Keyring(KEYS)


def add_endpoint(desk: Desk, url: str, *, tenant: str = "default", headers: dict[str, str] | None = None,
                 secrets: tuple[bytes, ...] = (), **columns: Any) -> str:  # fmt: skip
    """Make an endpoint as the API does; its name."""
    id_ = uuid7()
    sealed = None
    if headers is not None:
        sealed = KEYRING.seal(orjson.dumps(headers), table="endpoints", row_id=str(id_), tenant_id=tenant)
    values = {"id": id_, "tenant_id": tenant, "url": url, "sealed_headers": sealed} | columns
    names, places = ", ".join(values), ", ".join(["%s"] * len(values))
    desk.conn.execute(f"INSERT INTO endpoints ({names}) VALUES ({places})", list(values.values()))
    for key in secrets:
        add_secret(desk, key, tenant=tenant, endpoint=id_)
    return f"ep_{id_.hex}"


def add_secret(
    desk: Desk, key: bytes, *, tenant: str = "default", endpoint: UUID | None = None, lives: timedelta | None = None
) -> None:
    """Make a secret as the API does."""
    id_ = uuid7()
    sealed = KEYRING.seal(key, table="signing_secrets", row_id=str(id_), tenant_id=tenant)
    desk.conn.execute(
        "INSERT INTO signing_secrets (id, tenant_id, endpoint_id, sealed, expires_at)"
        " VALUES (%s, %s, %s, %s, now() + %s)",
        (id_, tenant, endpoint, sealed, lives),
    )


def verified(hook: Receiver, number: int, key: bytes) -> bool:
    """Say whether a key accepts a request; an hour may pass."""
    secret = f"whsec_{base64.b64encode(key).decode()}"
    try:
        standardwebhooks.Webhook(secret).verify(hook.bodies[number], hook.requests[number])
    except standardwebhooks.WebhookVerificationError:
        return False
    return True


def test_an_endpoint_is_delivered_to_as_it_stands(desk: Desk, hook: Receiver) -> None:
    """Its URL, its headers, its secret; what is changed counts within five seconds."""
    name = add_endpoint(desk, hook.url, headers={"Authorization": "Bearer s3cret"}, secrets=(b"a" * 32,))
    settings = settings_for(desk.database, desk.topics, secrets_keys=KEYS)
    with running(settings):
        (first,) = desk.accept([name])
        desk.wait_for(sent=1)
        desk.conn.execute("UPDATE signing_secrets SET expires_at = now() + interval '1 hour'")
        add_secret(desk, b"b" * 32, endpoint=UUID(name[3:]))
        desk.conn.execute("UPDATE endpoints SET sealed_headers = NULL")
        threading.Event().wait(5)
        desk.accept([name])
        desk.wait_for(sent=2)

    assert hook.requests[0]["authorization"] == "Bearer s3cret"
    assert "authorization" not in hook.requests[1]
    assert [verified(hook, 0, key) for key in (b"a" * 32, b"b" * 32)] == [True, False]
    assert [verified(hook, 1, key) for key in (b"a" * 32, b"b" * 32)] == [True, True]
    assert hook.ids()[0] == str(first.id)
    [(destination,)] = desk.conn.execute("SELECT DISTINCT destination FROM delivery_attempts").fetchall()
    assert destination == f"http://127.0.0.1:{hook.port}"


def test_a_deleted_endpoint_and_another_tenant_s_fail_for_good(desk: Desk, hook: Receiver) -> None:
    """Nothing is sent."""
    deleted = add_endpoint(desk, hook.url)
    desk.conn.execute("UPDATE endpoints SET deleted_at = now()")
    theirs = add_endpoint(desk, hook.url, tenant="b")
    with running(settings_for(desk.database, desk.topics, secrets_keys=KEYS)):
        desk.accept([deleted, theirs, f"ep_{uuid7().hex}"])
        desk.wait_for(failed=3)

    assert desk.attempts() == [("permanent", "endpoint_deleted", 3)]
    assert hook.requests == []


def test_a_410_suppresses_the_endpoint(desk: Desk, hook: Receiver) -> None:
    """By its name: it is shown disabled, and what comes for it is held."""
    name = add_endpoint(desk, hook.url)

    async def gone(_: dict[str, str]) -> bytes:
        return b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"

    hook.answer = gone
    with running(settings_for(desk.database, desk.topics, secrets_keys=KEYS)):
        desk.accept([name])
        desk.wait_for(failed=1)
        desk.accept([name])
        desk.wait_for(failed=1, suppressed=1)

    query = "SELECT tenant_id, channel, recipient, reason FROM suppressions"
    assert desk.conn.execute(query).fetchall() == [("default", "webhook", name, "gone")]


def test_a_rate_is_kept_by_waiting(desk: Desk, hook: Receiver) -> None:
    """Thirty at ten a second take three seconds, evenly, part of the way through PostgreSQL; others are not held up."""
    slow = add_endpoint(desk, hook.url, rate_per_s=10.0)
    at: dict[str, float] = {}

    async def note(headers: dict[str, str]) -> bytes:
        at[headers["webhook-id"]] = time.monotonic()
        return b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"

    hook.answer = note
    with relaying(desk), running(settings_for(desk.database, desk.topics, secrets_keys=KEYS)):
        held = {str(one.id) for one in desk.accept([slow] * 30)}
        quick = {str(one.id) for one in desk.accept([f"http://localhost:{hook.port}/hook"] * 5)}
        deadline = time.monotonic() + 20
        while desk.statuses().get("sent", 0) < 35 and time.monotonic() < deadline:
            outbox.promote_due(desk.conn, limit=100)
            threading.Event().wait(0.05)

    assert desk.statuses() == {"sent": 35}
    instants = sorted(at[id_] for id_ in held)
    assert instants[-1] - instants[0] >= 2.8
    assert all(sum(first <= one < first + 1 for one in instants) <= 11 for first in instants)
    assert min(later - earlier for earlier, later in pairwise(instants)) < 0.2
    assert max(at[id_] for id_ in quick) < instants[15]


@pytest.mark.parametrize("sealed_for", ["default", "other"])
def test_a_tenant_s_own_secret_signs_plain_urls(desk: Desk, hook: Receiver, sealed_for: str) -> None:
    """Instead of those of the settings; one that does not open is waited for, and nothing goes out meanwhile."""
    add_secret(desk, b"t" * 32, tenant=sealed_for)
    desk.conn.execute("UPDATE signing_secrets SET tenant_id = 'default'")
    with running(settings_for(desk.database, desk.topics, secrets_keys=KEYS)):
        desk.accept([hook.url])
        desk.wait_for(**({"sent": 1} if sealed_for == "default" else {"failed": 1}))

    if sealed_for == "default":
        assert verified(hook, 0, b"t" * 32)
    else:
        assert (desk.attempts(), hook.requests) == ([("transient", "secret_unreadable", 1)], [])
