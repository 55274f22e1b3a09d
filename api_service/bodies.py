"""Reading request bodies: bounded, of a known type, strictly JSON."""

import contextlib
import socket
from typing import Any, Final

import flask

from api_service import strict_json
from api_service.faults import Fault, FieldFault
from api_service.problems import Problem

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"


def read_json(*, max_bytes: int = MAX_BODY_BYTES) -> Any:
    """Return the JSON value of the request's body. Raises Problem: 400, 408, 413, 415."""
    require_type(JSON)
    return parse(read_bytes(max_bytes))


def require_type(*accepted: str) -> str:
    """Return the media type of the request's body. Raises Problem 415 for any other, and for compressed bodies."""
    request = flask.request
    media_type = request.mimetype
    if media_type.endswith("+json"):
        media_type = JSON
    if media_type not in accepted:
        raise Problem("unsupported_media_type", f"send Content-Type: {' or '.join(accepted)}")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("unsupported_media_type", "compressed bodies are not accepted")
    return media_type


def read_bytes(max_bytes: int) -> bytes:
    """Return the body, of declared length or chunked. Raises Problem 413 as soon as it is known to be too large."""
    environ = flask.request.environ
    declared = flask.request.content_length
    if declared is not None and declared > max_bytes:
        raise _too_large(max_bytes)
    if declared is None and not environ.get("wsgi.input_terminated"):
        return b""
    try:
        body: bytes = environ["wsgi.input"].read(max_bytes + 1 if declared is None else declared)
    except OSError as error:
        _read_no_more(environ)
        raise Problem("request_timeout", "the body did not arrive in time") from error
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    if declared is not None and len(body) < declared:
        raise Problem("malformed_body", "the body is shorter than its Content-Length")
    return body


def _read_no_more(environ: dict[str, Any]) -> None:
    """End the reading side of the connection: gunicorn would wait for the rest of the body once more."""
    if connection := environ.get("gunicorn.socket"):
        with contextlib.suppress(OSError):
            connection.shutdown(socket.SHUT_RD)


def parse(body: bytes, *, pointer: str = "") -> Any:
    """Return the JSON value of some bytes; a fault is reported at `pointer`. Raises Problem 400."""
    try:
        return strict_json.loads(body)
    except strict_json.JsonError as error:
        detail = f"{error}" if body else "a JSON body is expected"
        fault = FieldFault(pointer, Fault(error.code, detail))
        raise Problem("malformed_body", detail, errors=[fault]) from error


def _too_large(max_bytes: int) -> Problem:
    return Problem("body_too_large", f"this path takes at most {max_bytes} bytes")
