"""The OpenAPI document, made by flask-smorest from the routes and what documents.py says about them."""

from typing import Any, Final

from flask import Flask, Response
from flask_smorest import Api
from werkzeug.exceptions import HTTPException

from api_service import (
    answer_schemas,
    audit_log_answers,
    dead_letter_answers,
    dead_letter_schemas,
    destination_answers,
    documenting,
    endpoint_answers,
    endpoint_schemas,
    identity_answers,
    identity_schemas,
    problems,
    schemas,
    sender_domain_schemas,
    suppression_answers,
    suppression_schemas,
)
from api_service.faults import forget_frames
from api_service.routing import Routes
from api_service.services import ids

_DESCRIPTION: Final = """Notifications that are not lost, doubled, or sent after a cancel.

202 means stored: the notification and its outbox row are committed together. After 5xx, or no answer at all, whether
it was accepted is unknown: repeat the request with the same Idempotency-Key until it is answered. Paths that list no
such header take none: repeat a GET; where something is changed look first, then repeat.

Callers are limited. RateLimit-Policy says to how many requests in how many seconds, RateLimit and X-RateLimit-* what is
left of the limit that has least; a 429 says in Retry-After when the next one is served, and which limit it was.

A request has 15 seconds to arrive, head and body, or it is answered 408: over slow lines send smaller batches. A body
of which nothing comes for 10 seconds is answered 408 then."""


_SECURITY: Final = {
    "bearer": {
        "type": "http",
        "scheme": "bearer",
        "description": "An API key, nk_live_..., or the token of somebody who has signed in.",
    },
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "An API key, nk_live_..."},
}


class _Api(Api):  # type: ignore[misc]  # flask-smorest ships no types
    """Answers errors as problems, also those that Flask and werkzeug raise by themselves."""

    ERROR_SCHEMA = answer_schemas.ProblemSchema
    DEFAULT_ERROR_RESPONSE_NAME = None  # each operation names its problems

    def handle_http_exception(self, error: HTTPException) -> Response:
        forget_frames(error)
        return problems.respond(problems.from_http_exception(error), ids().request_id)


def document(app: Flask, groups: list[Routes]) -> Any:
    """Serve the routes and /openapi.json; return the specification."""
    app.config.update(
        API_TITLE="Notification pipeline",
        API_VERSION="v1",
        OPENAPI_VERSION="3.1.0",
        OPENAPI_URL_PREFIX="/",
        OPENAPI_JSON_PATH="openapi.json",
    )
    api = _Api(app, spec_kwargs={"info": {"description": _DESCRIPTION, "license": {"name": "MIT"}}})
    components = api.spec.components
    for name, scheme in _SECURITY.items():
        components.security_scheme(name, scheme)
    components.schema("EmailNotification", schema=schemas.EmailSchema)
    components.schema("WebhookNotification", schema=schemas.WebhookSchema)
    components.schema("Suppress", schema=suppression_schemas.SuppressSchema)
    components.schema("Lift", schema=suppression_schemas.LiftSchema)
    shown = (
        *(*answer_schemas.ALL, *dead_letter_answers.ALL, *suppression_answers.ALL, *destination_answers.ALL),
        *(*audit_log_answers.ALL, *endpoint_answers.ALL, *sender_domain_schemas.ANSWERS, *identity_answers.ALL),
    )
    said = (*dead_letter_schemas.ALL, *endpoint_schemas.ALL, *sender_domain_schemas.REQUESTS, *identity_schemas.ALL)
    for schema in (*said, *shown):
        name = schema.__name__.removesuffix("Schema")
        if name not in components.schemas:  # nested in one before, and registered with it
            components.schema(name, schema=schema)
    for name in ("RetryFilter", "EndpointChange"):
        components.schemas[name]["minProperties"] = 1  # a word that apispec has no place for
    for name, shown_as in documenting.common_components().items():
        components.response(name, shown_as)
    for group in groups:
        api.register_blueprint(group.blueprint)
    components.schemas.pop("PaginationMetadata", None)  # flask-smorest's pages have numbers, ours have cursors
    return api.spec
