"""What is noted in the audit log, and how: in the transaction of the change, so that neither is without the other."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final, TypeVar

import flask
from psycopg import Connection

from api_service.actions import Action
from api_service.callers import Caller
from api_service.services import caller, ids, in_tenant
from shared.db import audit
from shared.db.audit import ActorKind, Entry

T = TypeVar("T")
MAX_AGENT_CHARS: Final = 200


@dataclass(frozen=True, slots=True)
class Change:
    """Something that was changed. `before` and `after` hold states and names of fields: no secret, no recipient."""

    action: Action
    entity_id: str
    before: Mapping[str, Any] | None = None
    after: Mapping[str, Any] | None = None


def audited(work: Callable[[Connection[Any]], tuple[T, Change | None]], *, repeatable: bool = True) -> T:
    """Run work for the current request's tenant and note what it says it has changed, in one transaction.

    `work` returns its result and the change, None where nothing was changed: a repeat is not noted again. Raises what
    Database.run raises.
    """

    def both(conn: Connection[Any]) -> T:
        result, change = work(conn)
        if change is not None:
            # Last: until the end of the transaction nobody else can add a row.
            audit.append(conn, entry(change, caller()))
        return result

    return in_tenant(both, repeatable=repeatable)


def entry(change: Change, who: Caller) -> Entry:
    """Return the row of a change that the current request has made."""
    request = flask.request
    return Entry(
        tenant_id=who.tenant_id,
        actor_kind=ActorKind(who.kind),
        actor_id=who.id,
        actor_name=who.name,
        action=change.action,
        entity_type=change.action.entity_type,
        entity_id=change.entity_id,
        before=change.before,
        after=change.after,
        address=flask.g.begun.client.address or None,
        user_agent=_printable(request.headers.get("User-Agent", "")) or None,
        request_id=ids().request_id,
    )


def _printable(text: str) -> str:
    return "".join(one if one.isprintable() else "?" for one in text[:MAX_AGENT_CHARS])
