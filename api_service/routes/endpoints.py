"""Endpoints: webhook receivers with a name, headers, limits and a signing secret of their own."""

from typing import Any, Final
from urllib.parse import urlsplit
from uuid import UUID

import flask
from flask import Response
from psycopg import Connection

from api_service import accept, bodies, endpoint_documents, endpoint_schemas, queries, sealing
from api_service.accept import NotificationRequest
from api_service.actions import Action
from api_service.auditing import Change, audited
from api_service.callers import Scope
from api_service.faults import Fault
from api_service.idempotency import HEADER, keyed_request
from api_service.problems import ParameterFault, Problem
from api_service.representations import ENDPOINTS_PATH, endpoint_detail, endpoint_path, endpoint_summary
from api_service.responses import json_response, no_content
from api_service.routes.dead_letters import read_decision
from api_service.routes.notifications import answered, replay_or_refuse
from api_service.routing import Routes
from api_service.schemas import StrictSchema
from api_service.sending import answer_to
from api_service.services import cursors, in_tenant, origin, services, tenant_id
from shared.db import endpoints, signing_secrets, suppressions
from shared.db.endpoints import Endpoint, NewEndpoint
from shared.endpoints import endpoint_id
from shared.model import Channel, uuid7

COUNT_TO: Final = 10_000
_ONE: Final = f"{ENDPOINTS_PATH}/<endpoint>"
routes: Final = Routes("endpoints", "Webhook receivers with a name, headers, limits and a secret of their own.")


@routes.add("POST", ENDPOINTS_PATH, scope=Scope.ADMIN, doc=endpoint_documents.CREATE)
def create() -> Response:
    """Make an endpoint; the answer has its signing secret, which is shown this once.

    It takes no Idempotency-Key and refuses one, since the answer would have to be stored: after 503, or no answer, look
    at the list, and delete what nobody knows the secret of.
    """
    refuse_key()
    said = _read(endpoint_schemas.NEW)
    new, secret = _new(uuid7(), said), sealing.new_secret(services().keyring, tenant_id=tenant_id())

    def store(conn: Connection[Any]) -> tuple[dict[str, Any], Change]:
        endpoints.create(conn, new)
        signing_secrets.rotate(conn, secret.id, secret.sealed, tenant_id=new.tenant_id, endpoint_id=new.id, overlap_s=0)
        made = _find(conn, new.id)
        return _detail(conn, made), Change(Action.ENDPOINT_CREATED, made.name, None, _noted(made))

    body = audited(store, repeatable=False) | {"secret": secret.shown}
    return json_response(body, 201, {"Location": body["href"]})


def _read(schema: StrictSchema) -> dict[str, Any]:
    return endpoint_schemas.load(schema, bodies.read_json(), allowed=services().settings.allowed_networks)


def refuse_key() -> None:
    """Refuse an Idempotency-Key: the answer holds a secret, and is not stored."""
    if HEADER in flask.request.headers:
        fault = Fault("unsupported_header", "this path takes none: its answer, which holds a secret, is not stored")
        raise Problem("invalid_header", str(fault), errors=[ParameterFault("header", HEADER, fault)])


def _new(id_: UUID, said: dict[str, Any], old: Endpoint | None = None) -> NewEndpoint:
    """Return an endpoint as it is to be stored: as a body says, and as it was where that says nothing."""
    headers = said.get("headers", {})
    return NewEndpoint(
        id=id_,
        tenant_id=tenant_id(),
        url=said["url"] if "url" in said or old is None else old.url,
        description=said.get("description", old and old.description),
        header_names=list(headers),
        sealed_headers=sealing.sealed_headers(services().keyring, headers, endpoint_id=id_, tenant_id=tenant_id()),
        rate_per_s=said.get("rate_per_s", old and old.rate_per_s),
        timeout_s=said.get("timeout_s", old and old.timeout_s),
    )


def _noted(one: NewEndpoint | Endpoint) -> dict[str, Any]:
    """Return what the audit log says of an endpoint: no path of its URL, which may be as good as a password."""
    return {
        "url": _origin(one.url),
        "header_names": list(one.header_names),
        "rate_per_s": one.rate_per_s,
        "timeout_s": one.timeout_s,
    }


def _origin(url: str) -> str:
    parts = urlsplit(url)
    host = parts.hostname or ""
    port = parts.port or (443 if parts.scheme == "https" else 80)
    return f"{parts.scheme}://{f'[{host}]' if ':' in host else host}:{port}"


@routes.add("GET", ENDPOINTS_PATH, scope=Scope.ADMIN, doc=endpoint_documents.LIST)
def list_endpoints() -> Response:
    """List endpoints, newest first."""
    query = queries.load(queries.ENDPOINTS, flask.request.args)
    limit, places = query["limit"], cursors("endpoint")
    before = queries.place(query, places.read_instant)
    found = in_tenant(lambda conn: endpoints.list_page(conn, tenant_id=tenant_id(), before=before, limit=limit + 1))
    shown, more = found[:limit], len(found) > limit
    cursor = places.of_instant((shown[-1].created_at, shown[-1].id)) if more else None
    return json_response({"data": [endpoint_summary(one) for one in shown], "next_cursor": cursor, "has_more": more})


@routes.add("GET", _ONE, scope=Scope.ADMIN, doc=endpoint_documents.SHOW)
def show(endpoint: str) -> Response:
    """Show an endpoint: whether it is enabled, what is held for it, which secrets sign."""
    id_ = wanted(endpoint)
    return json_response(in_tenant(lambda conn: _detail(conn, _find(conn, id_))))


def wanted(endpoint: str) -> UUID:
    """Return the id in a path. Raises Problem 404 for what is none, as for an unknown one."""
    id_ = endpoint_id(endpoint)
    if id_ is None:
        raise _unknown()
    return id_


def _unknown() -> Problem:
    return Problem("not_found", "there is no endpoint with this id")


def _find(conn: Connection[Any], id_: UUID) -> Endpoint:
    found = endpoints.find(conn, id_, tenant_id=tenant_id())
    if found is None:
        raise _unknown()
    return found


def find_locked(conn: Connection[Any], id_: UUID) -> Endpoint:
    """Return an endpoint that nobody else changes until the transaction ends. Raises Problem 404."""
    found = endpoints.find_locked(conn, id_, tenant_id=tenant_id())
    if found is None:
        raise _unknown()
    return found


def _detail(conn: Connection[Any], one: Endpoint, suppression_id: UUID | None = None) -> dict[str, Any]:
    waits_for = one.suppression_id or suppression_id
    held = suppressions.held_count(conn, waits_for, at_most=COUNT_TO) if waits_for else 0
    return endpoint_detail(one, signing_secrets.signing(conn, tenant_id=one.tenant_id, endpoint_id=one.id), held)


@routes.add("PATCH", _ONE, scope=Scope.ADMIN, doc=endpoint_documents.CHANGE)
def change(endpoint: str) -> Response:
    """Change an endpoint; what has begun goes on as it was, the rest follows within five seconds."""
    id_ = wanted(endpoint)
    said = _read(endpoint_schemas.CHANGE)

    def store(conn: Connection[Any]) -> tuple[dict[str, Any], Change]:
        old = find_locked(conn, id_)
        endpoints.change(conn, _new(id_, said, old), keeps_headers="headers" not in said)
        now = _find(conn, id_)
        was, became = _noted(old), _noted(now) | {"changed": sorted(said)}
        return _detail(conn, now), Change(Action.ENDPOINT_CHANGED, now.name, was, became)

    return json_response(audited(store, repeatable=False))


@routes.add("DELETE", _ONE, scope=Scope.ADMIN, doc=endpoint_documents.DELETE)
def delete(endpoint: str) -> Response:
    """Delete an endpoint for good, with its secrets: within five seconds nothing is sent to it any more.

    What waits for it fails as endpoint_deleted; what is held for it stays held for half a minute, and fails then.
    """
    id_ = wanted(endpoint)

    def remove(conn: Connection[Any]) -> tuple[None, Change]:
        one = find_locked(conn, id_)
        endpoints.delete(conn, id_, tenant_id=tenant_id())
        signing_secrets.delete(conn, tenant_id=tenant_id(), endpoint_id=id_)
        return None, Change(Action.ENDPOINT_DELETED, one.name, _noted(one))

    audited(remove, repeatable=False)
    return no_content()


@routes.add("POST", f"{_ONE}/disable", scope=Scope.ADMIN, doc=endpoint_documents.DISABLE)
def disable(endpoint: str) -> Response:
    """Send nothing to an endpoint from now on: what comes for it is held. Repeating it changes nothing."""
    id_, said = wanted(endpoint), read_decision()

    def suppress(conn: Connection[Any]) -> tuple[dict[str, Any], Change | None]:
        one = find_locked(conn, id_)
        added = suppressions.add(
            conn,
            tenant_id=tenant_id(),
            channel=Channel.WEBHOOK,
            recipient=one.name,
            by=said["by"],
            detail=said["note"],
        )
        after = {"status": "disabled", "reason": added.reason, "by": added.created_by}
        change = Change(Action.ENDPOINT_DISABLED, one.name, {"status": "enabled"}, after) if added.changed else None
        return _detail(conn, _find(conn, id_)), change

    return json_response(audited(suppress))


@routes.add("POST", f"{_ONE}/resume", scope=Scope.ADMIN, doc=endpoint_documents.RESUME)
def resume(endpoint: str) -> Response:
    """Send to an endpoint again, and publish what is held for it, in the order accepted.

    It is sent in that order per ordering_key alone. Repeating it changes nothing; held counts what has not gone on yet.
    """
    id_, said = wanted(endpoint), read_decision()

    def lift(conn: Connection[Any]) -> tuple[dict[str, Any], Change | None]:
        one = find_locked(conn, id_)
        if one.suppression_id is None:
            return _detail(conn, one), None
        lifted = suppressions.lift(conn, one.suppression_id, tenant_id=tenant_id(), by=said["by"])
        was, became = {"status": "disabled", "reason": one.disabled_reason}, {"status": "enabled", "by": said["by"]}
        change = Change(Action.ENDPOINT_RESUMED, one.name, was, became) if lifted and lifted.changed else None
        return _detail(conn, _find(conn, id_), one.suppression_id), change

    return json_response(audited(lift))


@routes.add("POST", f"{_ONE}/test", scope=Scope.ADMIN, doc=endpoint_documents.TEST)
def send_test(endpoint: str) -> Response:
    """Send a test notification to an endpoint, on the way that all take; the answer says where to follow it."""
    id_ = wanted(endpoint)
    body = bodies.read_optional_json()
    endpoint_schemas.load(endpoint_schemas.TEST, {} if body is None else body)
    keyed = keyed_request(flask.request.headers, f"POST {endpoint_path(endpoint)}/test", body, tenant_id=tenant_id())
    found = in_tenant(lambda conn: _find(conn, id_))
    if not found.enabled:
        detail = "nothing is sent to an endpoint that is disabled: resume it first"
        return replay_or_refuse(keyed, Problem("wrong_state", detail, extra={"state": "disabled"}))
    request = NotificationRequest(
        channel=Channel.WEBHOOK,
        recipient=found.name,
        message="endpoint.test",
        payload={"endpoint": found.name},
        metadata={"test": True},
    )
    new = accept.prepare(request, topics=services().topics, origin=origin())
    return answered(keyed, [new], answer_to(new))
