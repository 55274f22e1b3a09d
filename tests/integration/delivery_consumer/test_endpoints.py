"""Endpoints as they stand in PostgreSQL, delivered to by a running consumer."""

import asyncio
import base64
import contextlib
import threading
import time
from collections.abc import Iterator
from datetime import timedelta
from itertools import pairwise
from typing import Any
from uuid import UUID

import orjson
import pytest
import standardwebhooks

from shared.db import endpoints, outbox, suppressions
from shared.key_rings import NamedKey
from shared.model import Channel, uuid7
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


@contextlib.contextmanager
def keeping_up(desk: Desk, **settings: Any) -> Iterator[None]:
    """Run a relay, the part of its upkeep that lets held ones go on, and two consumers."""
    stop = threading.Event()

    def upkeep() -> None:
        with desk.database.connect(autocommit=True) as conn:
            while not stop.wait(0.2):
                suppressions.lift_deleted(conn, limit=500)
                suppressions.resume_held(conn, limit=500)

    thread = threading.Thread(target=upkeep)
    with relaying(desk), running(settings_for(desk.database, desk.topics, **settings)), \
         running(settings_for(desk.database, desk.topics, **settings)):  # fmt: skip
        thread.start()
        try:
            yield
        finally:
            stop.set()
            thread.join()


def delete(desk: Desk, name: str) -> None:
    """Delete as the API does, but as if most of the time had passed that suppressions stay: six seconds are left."""
    endpoints.delete(desk.conn, UUID(name[3:]), tenant_id="default")
    desk.conn.execute("UPDATE endpoints SET deleted_at = now() - interval '14 s'")


def test_disabled_and_deleted_gets_nothing_of_what_was_held(desk: Desk, hook: Receiver) -> None:
    """Consumers believe for five seconds that it is there, so long all of it stays held; then it fails."""
    name = add_endpoint(desk, hook.url)
    with keeping_up(desk, secrets_keys=KEYS):
        desk.accept([name] * 8)
        desk.wait_for(sent=8)
        suppressions.add(desk.conn, tenant_id="default", channel=Channel.WEBHOOK, recipient=name, by="ann")
        desk.accept([name] * 8)
        desk.wait_for(sent=8, suppressed=8)
        delete(desk, name)
        desk.accept([name] * 2)
        desk.wait_for(sent=8, failed=10)

    assert len(hook.requests) == 8
    assert ("permanent", "endpoint_deleted", 10) in desk.attempts()


def test_a_410_after_the_delete_holds_nothing_for_good(desk: Desk, hook: Receiver) -> None:
    """A call that was under way suppresses what is no more; what waits for it fails all the same."""
    name = add_endpoint(desk, hook.url)
    begun, answer = threading.Event(), threading.Event()

    async def gone(_: dict[str, str]) -> bytes:
        begun.set()
        while not answer.is_set():
            await asyncio.sleep(0.05)
        return b"HTTP/1.1 410 Gone\r\nContent-Length: 0\r\n\r\n"

    hook.answer = gone
    with keeping_up(desk, secrets_keys=KEYS):
        desk.accept([name])
        assert begun.wait(20)
        delete(desk, name)
        answer.set()
        desk.wait_for(failed=1)
        desk.accept([name] * 2)
        desk.wait_for(failed=1, suppressed=2)
        desk.wait_for(failed=3)

    assert len(hook.requests) == 1
    assert ("permanent", "endpoint_deleted", 2) in desk.attempts()


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
