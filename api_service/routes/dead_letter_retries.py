"""Bulk retries: what failed for one cause, sent again once the cause is mended: a few first, then at a rate."""

from typing import Any, Final
from uuid import UUID

import flask
from flask import Response
from psycopg import Connection

from api_service import bodies, dead_letter_schemas, queries
from api_service import dead_letter_documents as documents
from api_service.actions import Action
from api_service.auditing import Change, audited
from api_service.callers import Scope
from api_service.faults import Fault
from api_service.idempotency import HEADER
from api_service.problems import ParameterFault, Problem
from api_service.representations import DEAD_LETTERS_PATH, RETRIES_PATH, retry_filter, retry_path, retry_summary
from api_service.responses import json_response
from api_service.routes.dead_letters import read_decision
from api_service.routing import Routes
from api_service.services import cursors, decider, in_tenant, tenant_id
from shared.db import dlq_actions, dlq_retries
from shared.db.dlq_actions import Done
from shared.db.dlq_retries import NewRetry, Retry, Selection
from shared.model import uuid7

SHOWN: Final = 10
routes: Final = Routes("bulk retries", "Send again what failed for one cause: a few first, then at a rate.")


@routes.add("POST", f"{DEAD_LETTERS_PATH}/retry", scope=Scope.ADMIN, doc=documents.RETRY_BY_FILTER)
def retry_by_filter() -> Response:
    """Send failed dead letters again that fit a filter, or (dry_run, the default) say which these would be.

    With dry_run false a dlq_consumer publishes `canary` of them, waits for how they end, and goes on at the rate only
    if none of them failed. It takes what had failed before this request and is failed when its turn comes.
    It takes no Idempotency-Key and refuses one: after 503, or no answer, look at GET /dead-letters/retries first.
    """
    if HEADER in flask.request.headers:
        fault = Fault("unsupported_header", "this path takes none; look at GET /dead-letters/retries before a repeat")
        raise Problem("invalid_header", str(fault), errors=[ParameterFault("header", HEADER, fault)])
    said = dead_letter_schemas.load_bulk_retry(bodies.read_json())
    selection = Selection(tenant_id(), **said["filter"])
    if said["dry_run"]:
        return json_response(_previewed(selection))
    new = NewRetry(uuid7(), selection, said["rate_per_s"], said["canary"], decider(said["by"]), said["note"])

    def create(conn: Connection[Any]) -> tuple[Retry, Change]:
        made = dlq_retries.create(conn, new)
        wanted = {"rate_per_s": made.rate_per_s, "canary": made.canary, "matched": made.matched, "by": made.by}
        return made, Change(Action.BULK_RETRY_CREATED, str(made.id), None, {"filter": retry_filter(made)} | wanted)

    retry = audited(create, repeatable=False)
    response = json_response(retry_summary(retry), 202)
    response.headers["Location"] = retry_path(retry.id)
    return response


def _previewed(selection: Selection) -> dict[str, Any]:
    found = in_tenant(lambda conn: dlq_retries.preview(conn, selection, shown=SHOWN))
    return {
        "dry_run": True,
        "filter": retry_filter(selection),
        "matched": found.matched,
        "cannot_be_sent": found.cannot_be_sent,
        "dead_letter_ids": found.dead_letter_ids,
        "groups": found.groups,
    }


@routes.add("GET", RETRIES_PATH, scope=Scope.ADMIN, doc=documents.LIST_RETRIES)
def list_retries() -> Response:
    """List bulk retries, newest first."""
    query = queries.load(queries.RETRIES, flask.request.args)
    limit, places = query["limit"], cursors("bulk_retry")
    before = queries.place(query, places.read_id)
    found = in_tenant(
        lambda conn: dlq_retries.list_page(
            conn, tenant_id=tenant_id(), status=query.get("status"), before=before, limit=limit + 1
        )
    )
    shown, more = found[:limit], len(found) > limit
    cursor = places.of_id(shown[-1].id) if more else None
    return json_response({"data": [retry_summary(one) for one in shown], "next_cursor": cursor, "has_more": more})


@routes.add("GET", f"{RETRIES_PATH}/<uuid:retry_id>", scope=Scope.ADMIN, doc=documents.SHOW_RETRY)
def show_retry(retry_id: UUID) -> Response:
    """Show a bulk retry: how far it has come, and what of it failed, by cause."""
    return json_response(in_tenant(lambda conn: _shown(conn, retry_id)))


def _shown(conn: Connection[Any], retry_id: UUID) -> dict[str, Any]:
    retry = _find(conn, retry_id)
    failures = dlq_actions.failed_letters(conn, retry_id, groups=SHOWN) if retry.failed else []
    return retry_summary(retry) | {"failures": failures}


def _find(conn: Connection[Any], retry_id: UUID) -> Retry:
    retry = dlq_retries.find(conn, retry_id, tenant_id=tenant_id())
    if retry is None:
        raise Problem("not_found", "there is no bulk retry with this id")
    return retry


@routes.add("POST", f"{RETRIES_PATH}/<uuid:retry_id>/cancel", scope=Scope.ADMIN, doc=documents.CANCEL_RETRY)
def cancel_retry(retry_id: UUID) -> Response:
    """End a bulk retry before its end: after 200 it sends nothing more; what is on its way goes on.

    A body may say who decides, and why. Repeating it changes nothing and answers 200 again.
    """
    said = read_decision()

    def end(conn: Connection[Any]) -> tuple[dict[str, Any], Change | None]:
        cancelled = dlq_retries.cancel(conn, retry_id, tenant_id=tenant_id(), **said)
        retry = _find(conn, retry_id)
        if not cancelled:
            detail = f"a bulk retry that is {retry.status} cannot be cancelled"
            raise Problem("wrong_state", detail, extra={"state": retry.status})
        change = Change(Action.BULK_RETRY_CANCELLED, str(retry_id), None, {"retried": retry.retried, "by": said["by"]})
        return _shown(conn, retry_id), change if cancelled is Done.NOW else None

    return json_response(audited(end))
