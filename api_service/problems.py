"""Errors as application/problem+json (RFC 9457), whatever went wrong and wherever."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from flask import Response
from werkzeug.exceptions import HTTPException

from api_service.faults import Fault, FieldFault

CONTENT_TYPE: Final = "application/problem+json"
TYPE_PREFIX: Final = "urn:notification-pipeline:problem:"
MAX_ERRORS: Final = 100
RETRY_AFTER_S: Final = 2

PROBLEMS: Final[dict[str, tuple[int, str]]] = {
    "malformed_body": (400, "The body cannot be read"),
    "validation_failed": (400, "The request is not valid"),
    "batch_too_long": (400, "The batch has too many items"),
    "invalid_header": (400, "A header is not valid"),
    "bad_request": (400, "The request cannot be understood"),
    "unauthorized": (401, "It is not known who the request is from"),
    "forbidden": (403, "This caller may not do this"),
    "not_found": (404, "There is no such resource"),
    "method_not_allowed": (405, "The method is not allowed here"),
    "request_timeout": (408, "The body did not arrive in time"),
    "wrong_state": (409, "The resource is not in a state that allows this"),
    "email_taken": (409, "Somebody has this e-mail address"),
    "request_in_progress": (409, "A request with this Idempotency-Key is still running"),
    "body_too_large": (413, "The body is too large"),
    "uri_too_long": (414, "The request line is too long"),
    "unsupported_media_type": (415, "The media type is not supported"),
    "expectation_failed": (417, "The expectation cannot be met"),
    "not_verified": (409, "The proof was not found"),
    "idempotency_key_reused": (422, "The Idempotency-Key belongs to another request"),
    "rate_limited": (429, "There were too many requests"),
    "quota_used_up": (429, "The day's quota is used up"),
    "headers_too_large": (431, "The headers are too large"),
    "internal_error": (500, "Something went wrong on our side"),
    "not_configured": (501, "This installation is not set up for that"),
    "transfer_coding_unsupported": (501, "The transfer coding is not supported"),
    "busy": (503, "The service is busy"),
    "database_unavailable": (503, "The service cannot reach its database"),
    "lookup_failed": (503, "DNS gave no answer"),
    "service_unavailable": (503, "The service cannot be reached"),  # the gateway's word
}
"""Every code a problem may have, with its status and title; the OpenAPI document lists them from here."""


@dataclass(frozen=True, slots=True)
class ParameterFault:
    """A fault in a query parameter or a header."""

    where: str  # "parameter" or "header"
    name: str
    fault: Fault


class Problem(Exception):  # noqa: N818 - it is the word of RFC 9457
    """An answer that is not a success. `detail` and `extra` are seen by the client and hold nothing of the request."""

    def __init__(
        self,
        code: str,
        detail: str,
        *,
        errors: Sequence[FieldFault | ParameterFault] = (),
        headers: Mapping[str, str] | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        super().__init__(code)
        self.code, self.detail, self.errors = code, detail, errors
        self.headers, self.extra = headers or {}, extra or {}

    @property
    def status(self) -> int:
        """Return its HTTP status."""
        return PROBLEMS[self.code][0]

    def members(self) -> dict[str, Any]:
        """Return the problem as a JSON object, without the request id."""
        status, title = PROBLEMS[self.code]
        body: dict[str, Any] = {
            "type": TYPE_PREFIX + self.code,
            "title": title,
            "status": status,
            "detail": self.detail,
            "code": self.code,
        }
        if self.errors:
            body["errors"] = [_error(error) for error in self.errors[:MAX_ERRORS]]
        body.update(self.extra)
        return body


def invalid(faults: Sequence[FieldFault | ParameterFault]) -> Problem:
    """Return the problem of a request with faults; all are counted, the first hundred are named."""
    count = len(faults)
    return Problem("validation_failed", f"{count} fault{'s' if count > 1 else ''}; see errors", errors=faults)


def unavailable(detail: str) -> Problem:
    """Return the problem of a request that may work in a moment."""
    return Problem("database_unavailable", detail, headers={"Retry-After": str(RETRY_AFTER_S)})


def respond(problem: Problem, request_id: str) -> Response:
    """Return the HTTP response of a problem."""
    body = orjson.dumps(problem.members() | {"request_id": request_id})
    return Response(body, problem.status, headers=dict(problem.headers), content_type=CONTENT_TYPE)


_HTTP_DETAILS: Final[dict[int, tuple[str, str]]] = {
    404: ("not_found", "nothing is served at this path"),
    405: ("method_not_allowed", "see the Allow header for what this path takes"),
    408: ("request_timeout", "the body did not arrive in time"),
    413: ("body_too_large", "the body is larger than what this path takes"),
    415: ("unsupported_media_type", "send application/json"),
}


def from_http_exception(error: HTTPException) -> Problem:
    """Return the problem for an exception of werkzeug's; its own words, which may quote the request, are left out."""
    code, detail = _HTTP_DETAILS.get(error.code or 500, ("bad_request", "the request cannot be understood"))
    if (error.code or 500) >= 500:
        return internal_error()
    headers = {name: value for name, value in error.get_headers() if name == "Allow"}
    return Problem(code, detail, headers=headers)


def internal_error() -> Problem:
    """Return the problem for a bug of ours: it says nothing but that."""
    return Problem("internal_error", "this is logged under the request id; whether anything was done is unknown")


def _error(error: FieldFault | ParameterFault) -> dict[str, str]:
    fault = {"code": error.fault.code, "detail": str(error.fault)}
    return ({"pointer": error.pointer} if isinstance(error, FieldFault) else {error.where: error.name}) | fault
