"""Making a key, for the commands that do."""

from collections.abc import Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from psycopg import Connection

from api_service import api_keys as made_keys
from api_service.actions import Action
from api_service.admin.session import NAME, note
from api_service.callers import Scope
from api_service.identity_representations import key_noted, key_shown
from shared.db import api_keys
from shared.db.api_keys import ApiKey, NewApiKey


@dataclass(frozen=True, slots=True, repr=False)
class Shown:
    """A key with its secret, on its way to whoever typed the command."""

    key: ApiKey
    secret: str

    def shown(self) -> dict[str, Any]:
        """Return it as JSON has it."""
        return key_shown(self.key) | {"tenant_id": self.key.tenant_id, "key": self.secret}

    def text(self) -> str:
        """Return it as a person reads it, the key alone in the first line."""
        key = self.key
        what = f"{key.name}, of tenant {key.tenant_id}, for {', '.join(key.scopes)}."
        return f"{self.secret}\n\n{what} It is shown this once: keep it where secrets are kept."


def make_key(
    conn: Connection[Any],
    tenant_id: str,
    name: str,
    scopes: Collection[str],
    *,
    expires_in_s: float | None = None,
    limits: str | None = None,
) -> Shown:
    """Make a key of a tenant that there is."""
    made = made_keys.make()
    new = NewApiKey(
        id=made.id,
        tenant_id=tenant_id,
        secret_sha256=made.sha256,
        name=name,
        scopes=[scope for scope in Scope if scope in scopes],
        created_by=NAME,
        expires_at=None if expires_in_s is None else datetime.now(UTC) + timedelta(seconds=expires_in_s),
        limits=limits,
    )
    key = api_keys.add(conn, new)
    note(conn, Action.API_KEY_CREATED, key.id, tenant_id=tenant_id, after=key_noted(key))
    return Shown(key, made.text)
