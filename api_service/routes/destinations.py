"""Destinations: which receivers and mail servers answer, and which are left alone for the moment."""

from typing import Any, Final

import flask
from flask import Response
from psycopg import Connection

from api_service import destination_documents, queries
from api_service.callers import Scope
from api_service.problems import Problem
from api_service.representations import DESTINATIONS_PATH, destination_detail, destination_summary
from api_service.responses import json_response
from api_service.routing import Routes
from api_service.services import cursors, in_tenant, tenant_id
from shared.db import destinations
from shared.db.destinations import Filter

routes: Final = Routes("destinations", "Webhook origins and mail servers as the delivery consumers see them.")


@routes.add("GET", DESTINATIONS_PATH, scope=Scope.ADMIN, doc=destination_documents.LIST_DESTINATIONS)
def list_destinations() -> Response:
    """List the destinations that delivery consumers remember, by name.

    About two seconds behind; a consumer that has been silent for 15 seconds is left out.
    """
    query = queries.load(queries.DESTINATIONS, flask.request.args)
    limit, places = query["limit"], cursors("destination")
    where = Filter(
        tenant_id(),
        destination=query.get("destination"),
        breaker=query.get("breaker"),
        channel=query.get("channel"),
        after=queries.place(query, places.read_text),
    )
    seen = in_tenant(lambda conn: destinations.list_page(conn, where, limit=limit + 1))
    shown, more = seen[:limit], len(seen) > limit
    cursor = places.of_text(shown[-1].destination) if more else None
    return json_response({"data": [destination_summary(one) for one in shown], "next_cursor": cursor, "has_more": more})


@routes.add(
    "GET",
    f"{DESTINATIONS_PATH}/<path:destination>",
    scope=Scope.ADMIN,
    doc=destination_documents.SHOW_DESTINATION,
    merge_slashes=False,
)
def show(destination: str) -> Response:
    """Show a destination with what each delivery consumer holds against it. Its name is percent-encoded."""
    tenant = tenant_id()

    def read(conn: Connection[Any]) -> dict[str, Any]:
        can_be = "\x00" not in destination  # PostgreSQL's text holds none
        where = Filter(tenant, destination=destination)
        seen = destinations.list_page(conn, where, limit=1) if can_be else []
        if not seen:
            raise Problem("not_found", "no delivery consumer remembers a destination of this name")
        return destination_detail(seen[0], destinations.by_consumer(conn, destination, tenant_id=tenant))

    return json_response(in_tenant(read))
