"""Signing secrets: an endpoint's own, and the tenant's, which plain URLs are signed with."""

from typing import Any, Final
from uuid import UUID

from flask import Response
from psycopg import Connection

from api_service import bodies, endpoint_documents, endpoint_schemas, sealing
from api_service.actions import Action
from api_service.auditing import Change, audited
from api_service.callers import Scope
from api_service.problems import Problem
from api_service.representations import ENDPOINTS_PATH, SIGNING_SECRET_PATH, signing_now
from api_service.responses import json_response
from api_service.routes.endpoints import find_locked, refuse_key, wanted
from api_service.routing import Routes
from api_service.sealing import NewSecret
from api_service.services import in_tenant, services, tenant_id
from shared.db import signing_secrets
from shared.db.signing_secrets import SigningSecret, TooManySecretsError
from shared.endpoints import endpoint_name

routes: Final = Routes("signing secret", "What webhooks to plain URLs are signed with.")


@routes.add("GET", SIGNING_SECRET_PATH, scope=Scope.ADMIN, doc=endpoint_documents.SHOW_SECRET)
def show() -> Response:
    """Show which secrets sign webhooks that name a URL, the newest first; the secrets themselves are shown never again.

    While there is none, those of the installation sign.
    """
    return json_response(signing_now(in_tenant(_signing)))


def _signing(conn: Connection[Any]) -> list[SigningSecret]:
    return signing_secrets.signing(conn, tenant_id=tenant_id(), endpoint_id=None)


@routes.add("POST", f"{SIGNING_SECRET_PATH}/rotate", scope=Scope.ADMIN, doc=endpoint_documents.ROTATE_SECRET)
def rotate() -> Response:
    """Make a new secret for webhooks that name a URL; the answer has it, and it is shown this once.

    The older ones go on signing beside it for `overlap_s`.
    """
    return _rotated(None)


@routes.add(
    "POST",
    f"{ENDPOINTS_PATH}/<endpoint>/secrets/rotate",
    scope=Scope.ADMIN,
    doc=endpoint_documents.ROTATE_ENDPOINT_SECRET,
)
def rotate_of_endpoint(endpoint: str) -> Response:
    """Make a new secret for an endpoint; the answer has it, and it is shown this once.

    The older ones go on signing beside it for `overlap_s`.
    """
    return _rotated(wanted(endpoint))


def _rotated(endpoint_id: UUID | None) -> Response:
    refuse_key()
    body = bodies.read_optional_json()
    said = endpoint_schemas.load(endpoint_schemas.ROTATION, {} if body is None else body)
    secret = sealing.new_secret(services().keyring, tenant_id=tenant_id())

    def store(conn: Connection[Any]) -> tuple[dict[str, Any], Change]:
        if endpoint_id is not None:
            find_locked(conn, endpoint_id)
        return _stored(conn, secret, endpoint_id, overlap_s=said["overlap_s"])

    return json_response(audited(store, repeatable=False) | {"secret": secret.shown})


def _stored(
    conn: Connection[Any], secret: NewSecret, endpoint_id: UUID | None, *, overlap_s: int
) -> tuple[dict[str, Any], Change]:
    try:
        now = signing_secrets.rotate(
            conn, secret.id, secret.sealed, tenant_id=tenant_id(), endpoint_id=endpoint_id, overlap_s=overlap_s
        )
    except TooManySecretsError as error:
        detail = "as many secrets sign as may at once: wait until one has expired, or rotate with overlap_s 0"
        raise Problem("wrong_state", detail, extra={"state": "rotating"}) from error
    whose = endpoint_name(endpoint_id) if endpoint_id else None
    after = {"endpoint": whose, "overlap_s": overlap_s, "signing": len(now)}
    return signing_now(now), Change(Action.SIGNING_SECRET_ROTATED, str(secret.id), None, after)
