"""Who fuzzes the API, and what is in its database when they begin: a row of each kind that is not made over HTTP."""

import os
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Final

import httpx

from api_service.callers import Scope
from api_service.identity_schemas import Role
from api_service.passwords import Passwords
from infra.local.stack import REPOSITORY
from shared.db import accepting, destinations, dlq_messages, notifications, tenants, users
from shared.db.destinations import Report
from shared.db.notifications import Ended, Ticket
from shared.db.users import NewUser
from shared.model import BreakerState, Channel, Outcome, uuid7
from tests.integration.api_service.conftest import CLOSED, SECRETS_KEYS, make_key
from tests.integration.notifications import new_notification
from tests.integration.shared.steps import OWNER, tracked
from tests.servers import Database

TOPIC = "notifications.webhook"
TENANT, FOREIGN = "shop", "bank"
ADMIN: Final = str(Role.ADMIN)


@dataclass(frozen=True)
class Caller:
    """Somebody who calls the API; `others` must not see what is theirs."""

    name: str
    headers: Mapping[str, str]
    key_id: str = ""
    others: "tuple[Caller, ...]" = ()


def callers(database: Database, url: str) -> list[Caller]:
    """Return everybody who takes a turn: a user and an admin of one tenant, and a key of another's that may do all.

    What the people are shown the key must not see, and the other way round.
    """
    key_id, headers = make_key(database, *Scope, tenant_id=FOREIGN)
    foreign = Caller("foreign", headers, key_id)
    people = [Caller(str(role), _signed_in(database, url, role), others=(foreign,)) for role in Role]
    return [*people, replace(foreign, others=tuple(people))]


def _signed_in(database: Database, url: str, role: Role) -> dict[str, str]:
    """Make somebody, and return the headers of their requests."""
    email, password = f"{role}@example.org", secrets.token_urlsafe(16)
    new = NewUser(uuid7(), TENANT, email, role, role, Passwords().hashed(password))
    with database.connect(autocommit=True) as conn:
        users.add(conn, new)
    answer = httpx.post(f"{url}/auth/login", json={"email": email, "password": password}, trust_env=False)
    return {"Authorization": f"Bearer {answer.raise_for_status().json()['access_token']}"}


def environ(database: Database, port: int, directory: Path, *, dns_server: str) -> dict[str, str]:
    """Return the API's environment."""
    return {
        **{name: value for name, value in os.environ.items() if name in ("PATH", "HOME", "LANG")},
        **database.environ_of("api_service"),
        **CLOSED,
        "SECRETS_KEYS": SECRETS_KEYS,
        "PYTHONPATH": str(REPOSITORY),
        "BIND_HOST": "127.0.0.1",
        "API_PORT": str(port),
        "API_WORKERS": "2",
        "API_THREADS": "4",
        "TMPDIR": str(directory),
        "DNS_SERVERS": dns_server,
        "NOTIFICATION_WEBHOOK_URL": "https://example.org/hook",
    }


def fill(database: Database, count: int = 20) -> None:
    """Write what is not made over HTTP, for two tenants alike."""
    for place, tenant_id in enumerate((TENANT, FOREIGN)):
        _fill(database, tenant_id, range(place * (count + 1), place * (count + 1) + count))


def _fill(database: Database, tenant_id: str, offsets: range) -> None:
    """Write failed notifications with dead letters, some at rest, and what is held against their destination."""
    letters = []
    with database.connect(autocommit=True) as conn:
        tenants.add(conn, tenant_id, name=tenant_id)
        for number in offsets:
            new = new_notification(
                tenant_id=tenant_id, channel=Channel.WEBHOOK, recipient="https://example.org/down", topic=TOPIC
            )
            ticket = Ticket(new.id, 1)
            accepting.insert(conn, new)
            notifications.claim(conn, [ticket], owner=OWNER, lease_s=30)
            ended = Ended(new.id, 1, Outcome.TRANSIENT, "http_503", destination="https://example.org:443")
            notifications.write_back(conn, [ended], owner=OWNER, dlq_topic="notifications.dlq")
            letters.append(
                tracked(
                    new, tenant_id=tenant_id, channel="webhook", topic=TOPIC, offset=number,
                    retry_in_s=3600.0 if number % 2 else None,
                )
            )  # fmt: skip
        dlq_messages.track(conn, [*letters, tracked(None, tenant_id=tenant_id, channel=None, offset=offsets.stop)])
        seen = Report(
            "https://example.org:443", "webhook", BreakerState.OPEN, 0, 1, 2, 12, 9, "http_503", 60.0, tenant_id
        )
        destinations.report(conn, OWNER, [seen])
