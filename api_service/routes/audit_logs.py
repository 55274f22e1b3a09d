"""The audit log: who did what to which row, from where."""

from typing import Final

import flask
from flask import Response

from api_service import audit_log_documents, queries
from api_service.callers import Scope
from api_service.representations import AUDIT_LOGS_PATH, noted
from api_service.responses import json_response
from api_service.routing import Routes
from api_service.services import caller, cursors, in_tenant
from shared.db import audit
from shared.db.audit import Filter

routes: Final = Routes("audit log", "Who did what, to which row, from where.")


@routes.add("GET", AUDIT_LOGS_PATH, scope=Scope.ADMIN, doc=audit_log_documents.LIST_AUDIT_LOGS)
def list_audit_logs() -> Response:
    """List what was done, newest first.

    Each row was written in the transaction of what it tells of; nothing can be added, changed or deleted by this API.
    """
    query = queries.load(queries.AUDIT_LOGS, flask.request.args)
    limit, places, who = query["limit"], cursors("audit_log"), caller()
    where = Filter(
        tenant_id=who.tenant_id,
        of_no_tenant=who.is_operator,
        action=query.get("action"),
        actor_id=query.get("actor"),
        entity_type=query.get("entity_type"),
        entity_id=query.get("entity_id"),
        since=query.get("since"),
        until=query.get("until"),
        before=queries.place(query, places.read_number),
    )
    rows = in_tenant(lambda conn: audit.list_page(conn, where, limit=limit + 1))
    shown, more = rows[:limit], len(rows) > limit
    cursor = places.of_number(shown[-1].seq) if more else None
    return json_response({"data": [noted(one) for one in shown], "next_cursor": cursor, "has_more": more})
