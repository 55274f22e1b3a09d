"""Suppressions: recipients nothing is sent to, until a person lifts them."""

from typing import Any, Final
from uuid import UUID

import flask
from flask import Response
from psycopg import Connection

from api_service import bodies, queries, suppression_documents, suppression_schemas
from api_service.actions import Action
from api_service.auditing import Change, audited
from api_service.callers import Scope
from api_service.problems import Problem
from api_service.representations import SUPPRESSIONS_PATH, suppression_detail, suppression_summary
from api_service.responses import json_response
from api_service.routing import Routes
from api_service.services import cursors, decider, in_tenant, tenant_id
from shared.db import suppressions
from shared.db.suppressions import Filter, Suppression

COUNT_TO: Final = 10_000
routes: Final = Routes("suppressions", "Recipients nothing is sent to, and what is held for them.")


@routes.add("GET", SUPPRESSIONS_PATH, scope=Scope.ADMIN, doc=suppression_documents.LIST_SUPPRESSIONS)
def list_suppressions() -> Response:
    """List suppressions, newest first, those that were lifted too."""
    query = queries.load(queries.SUPPRESSIONS, flask.request.args)
    limit, active, places = query["limit"], query.get("active"), cursors("suppression")
    where = Filter(
        tenant_id=tenant_id(),
        channel=query.get("channel"),
        recipient=query.get("recipient"),
        reason=query.get("reason"),
        active=None if active is None else active is queries.Flag.TRUE,
        before=queries.place(query, places.read_instant),
    )
    rows = in_tenant(lambda conn: suppressions.list_page(conn, where, limit=limit + 1))
    shown, more = rows[:limit], len(rows) > limit
    cursor = places.of_instant((shown[-1].created_at, shown[-1].id)) if more else None
    data = [suppression_summary(one) for one in shown]
    return json_response({"data": data, "next_cursor": cursor, "has_more": more})


@routes.add(
    "GET", f"{SUPPRESSIONS_PATH}/<uuid:suppression_id>", scope=Scope.ADMIN, doc=suppression_documents.SHOW_SUPPRESSION
)
def show(suppression_id: UUID) -> Response:
    """Show a suppression and how many notifications are held for it."""

    def read(conn: Connection[Any]) -> dict[str, Any]:
        return _detail(conn, suppressions.find(conn, suppression_id, tenant_id=tenant_id()))

    return json_response(in_tenant(read))


def _detail(conn: Connection[Any], found: Suppression | None) -> dict[str, Any]:
    if found is None:
        raise Problem("not_found", "there is no suppression with this id")
    return suppression_detail(found, suppressions.held_count(conn, found.id, at_most=COUNT_TO))


@routes.add("POST", SUPPRESSIONS_PATH, scope=Scope.ADMIN, doc=suppression_documents.SUPPRESS)
def suppress() -> Response:
    """Send nothing to a recipient from now on: its notifications are held.

    Attempts that have begun are not called back. One that is active already is answered as it is; one that was lifted
    is active again under its id.
    """
    wanted = suppression_schemas.load_suppress(bodies.read_json())

    def add(conn: Connection[Any]) -> tuple[dict[str, Any], Change | None]:
        added = suppressions.add(
            conn,
            tenant_id=tenant_id(),
            channel=wanted["channel"],
            recipient=wanted["recipient"],
            by=decider(wanted["by"]),
            detail=wanted.get("reason_note"),
        )
        return _detail(conn, added), _change(Action.SUPPRESSION_ADDED, added)

    return json_response(audited(add))


def _change(action: Action, one: Suppression | None) -> Change | None:
    """Return what is noted of a suppression, None where it was so before. Whom it is about is in its own row alone."""
    if one is None or not one.changed:
        return None
    after = {"channel": one.channel, "active": one.active, "reason": one.reason, "by": one.lifted_by or one.created_by}
    return Change(action, str(one.id), {"active": not one.active}, after)


@routes.add(
    "POST",
    f"{SUPPRESSIONS_PATH}/<uuid:suppression_id>/lift",
    scope=Scope.ADMIN,
    doc=suppression_documents.LIFT_SUPPRESSION,
)
def lift(suppression_id: UUID) -> Response:
    """Send to a recipient again, and publish what is held for it, in the order accepted.

    It is sent in that order per ordering_key alone. The body may be left out. A repeat changes nothing and answers 200
    again; held counts what has not gone on yet.
    """
    body = bodies.read_optional_json()
    by = decider(suppression_schemas.load_lift({} if body is None else body)["by"])

    def resume(conn: Connection[Any]) -> tuple[dict[str, Any], Change | None]:
        lifted = suppressions.lift(conn, suppression_id, tenant_id=tenant_id(), by=by)
        return _detail(conn, lifted), _change(Action.SUPPRESSION_LIFTED, lifted)

    return json_response(audited(resume))
