"""A receiver to try webhooks with: it keeps the last hundred bodies of this server and shows them."""

from typing import Any, Final

import flask
import orjson
from flask import Response

from api_service import bodies, documents
from api_service.inbox import Received
from api_service.responses import json_response
from api_service.routing import Routes
from api_service.services import services

PATH: Final = "/webhook/test-webhook"
MAX_BYTES: Final = 64 * 1024
routes: Final = Routes("test webhook", "A receiver to try webhooks with. What it keeps ends with the process.")


@routes.add("POST", PATH, scope=None, doc=documents.RECEIVE)
def receive() -> Response:
    """Keep a JSON body of at most 64 KiB with the headers that matter to a webhook."""
    bodies.require_type(bodies.JSON)
    body = bodies.read_bytes(MAX_BYTES)
    bodies.parse(body)
    number = services().inbox.keep(flask.request.headers, body)
    return json_response({"received": True, "number": number})


@routes.add("GET", PATH, scope=None, doc=documents.RECEIVED)
def received() -> Response:
    """Show what was received, newest first: at most a hundred."""
    return json_response({"data": [_shown(one) for one in services().inbox.received()]})


def _shown(one: Received) -> dict[str, Any]:
    return {
        "number": one.number,
        "received_at": one.received_at,
        "headers": one.headers,
        "body": orjson.Fragment(one.body),
    }
