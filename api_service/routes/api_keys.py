"""API keys: made, listed, given another secret, revoked. A secret is shown by the answer that makes it, once."""

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import flask
from flask import Response
from psycopg import Connection

from api_service import api_keys as made_keys
from api_service import bodies, queries
from api_service import identity_documents as documents
from api_service import identity_schemas as schemas
from api_service.actions import Action
from api_service.auditing import Change, audited
from api_service.callers import Scope
from api_service.identity_representations import API_KEYS_PATH, key_noted, key_path, key_shown
from api_service.problems import Problem
from api_service.responses import json_response
from api_service.routes.endpoints import refuse_key
from api_service.routing import Routes
from api_service.services import caller, cursors, in_tenant, tenant_id
from shared.db import api_keys
from shared.db.api_keys import ApiKey, Filter, NewApiKey

routes: Final = Routes("API keys", "What programs call with.")


@routes.add("GET", API_KEYS_PATH, scope=Scope.ADMIN, doc=documents.LIST_KEYS)
def list_keys() -> Response:
    """List keys, newest first, without their secrets."""
    query = queries.load(queries.API_KEYS, flask.request.args)
    limit, active, places = query["limit"], query.get("active"), cursors("api_key")
    where = Filter(
        tenant_id=tenant_id(),
        active=None if active is None else active is queries.Flag.TRUE,
        before=queries.place(query, lambda cursor: _place(places.read_instant(cursor))),
    )
    rows = in_tenant(lambda conn: api_keys.list_page(conn, where, limit=limit + 1))
    shown, more = rows[:limit], len(rows) > limit
    cursor = places.of_instant((shown[-1].created_at, _as_uuid(shown[-1].id))) if more else None
    return json_response({"data": [key_shown(one) for one in shown], "next_cursor": cursor, "has_more": more})


def _place(read: tuple[datetime, UUID]) -> tuple[datetime, str]:
    return read[0], read[1].hex[:16]


def _as_uuid(key_id: str) -> UUID:
    """Return the id of a key in the form that cursors take: it is as long as half of one."""
    return UUID(key_id + 16 * "0")


@routes.add("POST", API_KEYS_PATH, scope=Scope.ADMIN, doc=documents.CREATE_KEY)
def create() -> Response:
    """Make a key that may do no more than its maker: it has no other scopes, lasts no longer, and has the same limits.

    The answer shows the key itself, once; so it takes no Idempotency-Key and refuses one. Without an answer, look for
    it in the list and revoke it.
    """
    refuse_key()
    said = bodies.load(schemas.NEW_KEY, bodies.read_json())
    _refuse_more_than_ones_own(said["scopes"], said.get("expires_at"), caller().limits)
    made = made_keys.make()
    new = NewApiKey(
        id=made.id,
        tenant_id=tenant_id(),
        secret_sha256=made.sha256,
        name=said["name"],
        scopes=said["scopes"],
        created_by=caller().name,
        expires_at=said.get("expires_at"),
        limits=caller().limits,
    )

    def add(conn: Connection[Any]) -> tuple[ApiKey, Change]:
        key = api_keys.add(conn, new)
        return key, Change(Action.API_KEY_CREATED, key.id, None, key_noted(key))

    key = audited(add, repeatable=False)
    return json_response(key_shown(key) | {"key": made.text}, 201, {"Location": key_path(key.id)})


def _refuse_more_than_ones_own(scopes: Sequence[str], expires_at: datetime | None, limits: str | None) -> None:
    """Raise Problem 403 where a caller would hand out, or get at, a key that may do more than it may itself."""
    own = caller()
    if not set(scopes) <= own.scopes:
        raise Problem("forbidden", "a key cannot have more scopes than whoever makes it, or changes its secret")
    if own.expires_at is not None and (expires_at is None or expires_at > own.expires_at):
        raise Problem("forbidden", "a key that expires makes no key, and no secret, that lasts longer than itself")
    if own.limits is not None and limits != own.limits:
        raise Problem("forbidden", "a key with request limits makes no secret for one that has others")


@routes.add("GET", f"{API_KEYS_PATH}/<key_id>", scope=Scope.ADMIN, doc=documents.SHOW_KEY)
def show(key_id: str) -> Response:
    """Show a key, without its secret."""
    _require_id(key_id)
    return json_response(in_tenant(lambda conn: key_shown(_find(conn, key_id))))


def _require_id(key_id: str) -> None:
    if not made_keys.KEY_ID.fullmatch(key_id):
        raise _unknown()


def _find(conn: Connection[Any], key_id: str) -> ApiKey:
    return _known(api_keys.find(conn, key_id, tenant_id=tenant_id()))


def _find_locked(conn: Connection[Any], key_id: str) -> ApiKey:
    return _known(api_keys.find_locked(conn, key_id, tenant_id=tenant_id()))


def _known(key: ApiKey | None) -> ApiKey:
    if key is None:
        raise _unknown()
    return key


def _unknown() -> Problem:
    return Problem("not_found", "there is no API key with this id")


@routes.add("POST", f"{API_KEYS_PATH}/<key_id>/revoke", scope=Scope.ADMIN, doc=documents.REVOKE_KEY)
def revoke(key_id: str) -> Response:
    """Refuse a key for good, in every process within five seconds.

    Repeating it changes nothing and answers 200 again.
    """
    _require_id(key_id)

    def end(conn: Connection[Any]) -> tuple[dict[str, Any], Change | None]:
        before = _find_locked(conn, key_id)
        key = _known(api_keys.revoke(conn, key_id, tenant_id=tenant_id(), by=caller().name))
        noted = Change(Action.API_KEY_REVOKED, key_id, {"revoked": False}, {"revoked": True})
        return key_shown(key), None if before.revoked_at else noted

    return json_response(audited(end))


@routes.add("POST", f"{API_KEYS_PATH}/<key_id>/rotate", scope=Scope.ADMIN, doc=documents.ROTATE_KEY)
def rotate(key_id: str) -> Response:
    """Give a key another secret; the one it had is accepted too for an hour, or for overlap_s.

    It keeps its id, name, scopes and expiry. A second rotation ends the overlap of the first: it takes no
    Idempotency-Key and refuses one. After 503, or no answer, see by previous_expires_at whether it was done.
    """
    refuse_key()
    _require_id(key_id)
    body = bodies.read_optional_json()
    overlap_s = bodies.load(schemas.ROTATE_KEY, {} if body is None else body)["overlap_s"]
    made = made_keys.make(key_id)

    def change(conn: Connection[Any]) -> tuple[dict[str, Any], Change]:
        found = _find_locked(conn, key_id)
        _refuse_more_than_ones_own(found.scopes, found.expires_at, found.limits)
        key = api_keys.rotate(conn, key_id, tenant_id=tenant_id(), secret_sha256=made.sha256, overlap_s=overlap_s)
        if key is None:
            state = "revoked" if found.revoked_at else "expired"
            raise Problem("wrong_state", f"a key that is {state} gets no other secret", extra={"state": state})
        noted = Change(Action.API_KEY_ROTATED, key_id, key_noted(found), key_noted(key))
        return key_shown(key) | {"key": made.text}, noted

    return json_response(audited(change, repeatable=False))
