"""People join, sign in, and look at who they are."""

import logging
from typing import Any, Final
from uuid import UUID

import flask
from flask import Response
from psycopg import Connection

from api_service import bodies, metrics
from api_service import identity_documents as documents
from api_service import identity_schemas as schemas
from api_service.callers import CallerKind, unauthorized
from api_service.identity_representations import caller_shown, user_path, user_shown
from api_service.problems import Problem
from api_service.responses import json_response
from api_service.routing import ANY_CALLER, Routes
from api_service.services import caller, in_tenant, services
from api_service.tokens import Claims
from shared.db import tenants, users
from shared.db.users import NewUser, SigningIn, User
from shared.model import uuid7

log = logging.getLogger(__name__)
MAX_BYTES: Final = 8 * 1024
"""Of what anybody may send: room for the longest name, address and password, each character of them escaped."""
routes: Final = Routes("signing in", "For people. Programs have API keys.")


@routes.add("POST", "/auth/register", "/api/v1/auth/register", scope=None, doc=documents.REGISTER)
def register() -> Response:
    """Join the tenant that takes people in, as a user.

    Closed, with 403, unless the operator has named such a tenant.
    """
    said = bodies.load(schemas.REGISTER, bodies.read_json(max_bytes=MAX_BYTES))
    tenant_id = services().settings.identity.registration_tenant
    if tenant_id is None:
        raise Problem("forbidden", "nobody can join by themselves here: ask an administrator for an account")
    services().limits.admit_login(flask.g.begun.client.address, said["email"])
    password_hash = services().passwords.hashed(said["password"])
    new = NewUser(uuid7(), tenant_id, said["email"], said["name"], schemas.Role.USER, password_hash)
    user = services().database.run(lambda conn: _joined(conn, new), tenant_id=tenant_id, repeatable=False)
    return json_response(user_shown(user), 201, {"Location": user_path(user.id)})


def _joined(conn: Connection[Any], new: NewUser) -> User:
    """Return who has joined. Raises Problem 403 where the tenant lets nobody in, 409 for an address that is taken."""
    tenant = tenants.find(conn, new.tenant_id)
    if tenant is None:
        log.error("registration_tenant_is_missing")
    if tenant is None or tenant.suspended_at is not None:
        raise Problem("forbidden", "nobody can join here at the moment: ask an administrator for an account")
    user = users.add(conn, new)
    if user is None:
        raise Problem("email_taken", "sign in, or use another e-mail address")
    return user


@routes.add("POST", "/auth/login", "/api/v1/auth/login", scope=None, doc=documents.LOGIN)
def login() -> Response:
    """Sign in with e-mail address and password, and get a token for the requests that follow.

    A wrong password and an unknown address are answered alike, after the same time.
    """
    said = bodies.load(schemas.LOGIN, bodies.read_json(max_bytes=MAX_BYTES))
    tokens = services().tokens
    if not tokens:
        raise Problem("not_configured", "nobody can sign in here: the operator has set no JWT_KEYS")
    services().limits.admit_login(flask.g.begun.client.address, said["email"])
    user = _proven(said["email"].lower(), said["password"])
    token = tokens.issue(Claims(user.id, user.tenant_id, user.token_version))
    return json_response({"access_token": token, "token_type": "Bearer", "expires_in": tokens.lifetime_s})


def _proven(email: str, password: str) -> SigningIn:
    """Return whose address and password these are. Raises Problem 401, 403, 503."""
    database = services().database
    found = database.run(lambda conn: users.signing_in(conn, email))
    verdict = services().passwords.compared(password, found.password_hash if found else None)
    if found is None or not verdict.right:
        metrics.SIGN_INS.labels("wrong").inc()
        raise unauthorized("the e-mail address or the password is wrong", was_given=False)
    if found.is_disabled or found.is_suspended:
        metrics.SIGN_INS.labels("shut_out").inc()
        raise Problem("forbidden", "this account is disabled, or its tenant suspended: ask an administrator")
    metrics.SIGN_INS.labels("right").inc()
    database.run(lambda conn: users.note_sign_in(conn, found, renewed=verdict.renewed), tenant_id=found.tenant_id)
    return found


@routes.add("GET", "/auth/me", "/api/v1/auth/me", scope=ANY_CALLER, doc=documents.ME)
def me() -> Response:
    """Show who this request is from, and what they may do."""
    asking = caller()
    user = None
    if asking.kind is CallerKind.USER:
        user = in_tenant(lambda conn: users.find(conn, UUID(asking.id), tenant_id=asking.tenant_id))
    return json_response(caller_shown(asking, user))
