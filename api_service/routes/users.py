"""People of a tenant, as its administrators see them."""

from typing import Any, Final
from uuid import UUID

import flask
from flask import Response
from psycopg import Connection

from api_service import bodies, queries
from api_service import identity_documents as documents
from api_service import identity_schemas as schemas
from api_service.actions import Action
from api_service.auditing import Change, audited
from api_service.callers import Scope
from api_service.identity_representations import USERS_PATH, user_shown
from api_service.problems import Problem
from api_service.responses import json_response
from api_service.routing import Routes
from api_service.services import caller, cursors, in_tenant, tenant_id
from shared.db import users
from shared.db.users import Filter, User

routes: Final = Routes("users", "Who signs in, and what they may do.")


@routes.add("GET", USERS_PATH, scope=Scope.ADMIN, doc=documents.LIST_USERS)
def list_users() -> Response:
    """List users, newest first."""
    query = queries.load(queries.USERS, flask.request.args)
    limit, active, places = query["limit"], query.get("active"), cursors("user")
    where = Filter(
        tenant_id=tenant_id(),
        role=query.get("role"),
        active=None if active is None else active is queries.Flag.TRUE,
        before=queries.place(query, places.read_instant),
    )
    rows = in_tenant(lambda conn: users.list_page(conn, where, limit=limit + 1))
    shown, more = rows[:limit], len(rows) > limit
    cursor = places.of_instant((shown[-1].created_at, shown[-1].id)) if more else None
    return json_response({"data": [user_shown(one) for one in shown], "next_cursor": cursor, "has_more": more})


@routes.add("GET", f"{USERS_PATH}/<uuid:user_id>", scope=Scope.ADMIN, doc=documents.SHOW_USER)
def show(user_id: UUID) -> Response:
    """Show a user."""
    return json_response(in_tenant(lambda conn: user_shown(_find(conn, user_id))))


def _find(conn: Connection[Any], user_id: UUID) -> User:
    return _known(users.find(conn, user_id, tenant_id=tenant_id()))


def _find_locked(conn: Connection[Any], user_id: UUID) -> User:
    return _known(users.find_locked(conn, user_id, tenant_id=tenant_id()))


def _known(user: User | None) -> User:
    if user is None:
        raise Problem("not_found", "there is no user with this id")
    return user


@routes.add("POST", f"{USERS_PATH}/<uuid:user_id>/role", scope=Scope.ADMIN, doc=documents.SET_ROLE)
def set_role(user_id: UUID) -> Response:
    """Say what a user may do: user is send and read, admin everything of the tenant.

    It holds within five seconds, for tokens that were issued before as well. Nobody changes their own role.
    """
    role = bodies.load(schemas.ROLE, bodies.read_json())["role"]
    _refuse_oneself(user_id)
    if role is schemas.Role.ADMIN:
        _refuse_more_than_ones_own()

    def change(conn: Connection[Any]) -> tuple[dict[str, Any], Change | None]:
        before = _find_locked(conn, user_id)
        user = _known(users.set_role(conn, user_id, tenant_id=tenant_id(), role=role))
        noted = Change(Action.USER_ROLE_SET, str(user_id), {"role": before.role}, {"role": user.role})
        return user_shown(user), noted if before.role != user.role else None

    return json_response(audited(change))


@routes.add("POST", f"{USERS_PATH}/<uuid:user_id>/disable", scope=Scope.ADMIN, doc=documents.DISABLE_USER)
def disable(user_id: UUID) -> Response:
    """Let a user in no more, whose tokens are refused within five seconds.

    Repeating it changes nothing and answers 200 again. Keys that they have made stay.
    """
    return _switch(user_id, Action.USER_DISABLED, disabled=True)


@routes.add("POST", f"{USERS_PATH}/<uuid:user_id>/enable", scope=Scope.ADMIN, doc=documents.ENABLE_USER)
def enable(user_id: UUID) -> Response:
    """Let a user in again. Tokens that were issued before stay refused."""
    return _switch(user_id, Action.USER_ENABLED, disabled=False)


def _switch(user_id: UUID, action: Action, *, disabled: bool) -> Response:
    _refuse_oneself(user_id)

    def change(conn: Connection[Any]) -> tuple[dict[str, Any], Change | None]:
        was_disabled = _find_locked(conn, user_id).disabled_at is not None
        user = _known(users.disable(conn, user_id, tenant_id=tenant_id(), disabled=disabled))
        noted = Change(action, str(user_id), {"disabled": was_disabled}, {"disabled": disabled})
        return user_shown(user), noted if was_disabled != disabled else None

    return json_response(audited(change))


def _refuse_more_than_ones_own() -> None:
    """Raise Problem 403 where a caller would make somebody an admin, and is less itself."""
    own = caller()
    if own.scopes != frozenset(Scope) or own.expires_at is not None or own.limits is not None:
        detail = "a caller cannot grant more than it has: an admin has all scopes, for good, without limits of a key"
        raise Problem("forbidden", detail)


def _refuse_oneself(user_id: UUID) -> None:
    """Raise Problem 409 where somebody would change themselves: a tenant must not lose its last admin by mistake."""
    if caller().id == str(user_id):
        raise Problem("wrong_state", "another administrator has to do that")
