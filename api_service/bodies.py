"""Reading request bodies: bounded, of a known type, strictly JSON."""

from typing import Any, Final
from wsgiref.types import WSGIEnvironment

import flask
from gunicorn.http.errors import ParseException
from marshmallow import Schema, ValidationError

from api_service import strict_json
from api_service.exchange import EXCHANGE, Exchange
from api_service.faults import Fault, FieldFault, field_faults
from api_service.problems import Problem, invalid

MAX_BODY_BYTES: Final = 1024 * 1024
MAX_BATCH_BYTES: Final = 16 * 1024 * 1024
JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
_PIECE_BYTES: Final = 256 * 1024
_UTF_8: Final = frozenset(("utf-8", "utf8"))


def read_json(*, max_bytes: int = MAX_BODY_BYTES) -> Any:
    """Return the JSON value of the request's body. Raises Problem: 400, 408, 413, 415."""
    require_type(JSON)
    return parse(read_bytes(max_bytes))


def read_optional_json() -> Any:
    """Return the JSON value of the request's body, None where it has none. Raises Problem as read_json does.

    A body that says `null` is not one that is missing.
    """
    body = read_bytes(MAX_BODY_BYTES)
    if not body:
        return None
    require_type(JSON)
    if (value := parse(body)) is None:
        raise invalid([FieldFault("", Fault("not_an_object", "an object is expected"))])
    return value


def load(schema: Schema, body: Any) -> dict[str, Any]:
    """Return what a body says, as a schema has it. Raises Problem 400 naming each field that is wrong."""
    try:
        said: dict[str, Any] = schema.load(body)
    except ValidationError as error:
        raise invalid(list(field_faults(error.messages))) from error
    return said


def require_type(*accepted: str) -> str:
    """Return the media type of the request's body. Raises Problem 415 for any other, and for a body that is encoded."""
    request = flask.request
    media_type = request.mimetype
    if media_type.endswith("+json"):
        media_type = JSON
    if media_type not in accepted:
        raise Problem("unsupported_media_type", f"send Content-Type: {' or '.join(accepted)}")
    if request.mimetype_params.get("charset", "utf-8").lower() not in _UTF_8:
        raise Problem("unsupported_media_type", "JSON is sent in UTF-8")
    if request.headers.get("Content-Encoding", "identity").lower() != "identity":
        raise Problem("unsupported_media_type", "compressed bodies are not accepted")
    return media_type


def read_bytes(max_bytes: int) -> bytes:
    """Return the body, of declared length or chunked.

    Raises Problem: 413 as soon as it is known to be too large, 408 when it has not arrived in time, 400 when it ends
    too early or its chunks are malformed.
    """
    environ = flask.request.environ
    declared = flask.request.content_length
    if declared is not None:
        if declared > max_bytes:
            raise _too_large(max_bytes)
        return read_declared(environ, declared)
    if not environ.get("wsgi.input_terminated"):
        return b""
    body = _read(environ["wsgi.input"], max_bytes + 1, EXCHANGE.get())
    if len(body) > max_bytes:
        raise _too_large(max_bytes)
    return body


def read_declared(environ: WSGIEnvironment, length: int) -> bytes:
    """Return a body of declared length. Raises Problem as read_bytes does."""
    body = _read(environ["wsgi.input"], length, EXCHANGE.get())
    if len(body) < length:
        raise Problem("malformed_body", "the body is shorter than its Content-Length")
    return body


def _read(stream: Any, size: int, exchange: Exchange | None) -> bytes:
    """Return up to `size` bytes. In pieces: who sends without a pause would not notice that its time is over."""
    body = bytearray()
    try:
        while len(body) < size and (piece := stream.read(min(size - len(body), _PIECE_BYTES))):
            body += piece
            if exchange and exchange.is_late:
                break
    except (OSError, ParseException) as error:
        raise _unread(exchange, stalled=isinstance(error, BlockingIOError)) from error
    if exchange and exchange.is_late and len(body) < size:
        raise _unread(exchange, stalled=False)
    return bytes(body)


def _unread(exchange: Exchange | None, *, stalled: bool) -> Problem:
    """Return the problem of a body that cannot be read to its end; where it ends is unknown, so nothing follows it."""
    is_late = stalled or (exchange is not None and exchange.is_late)
    if exchange:
        exchange.refuse_more()
    if is_late:
        return Problem("request_timeout", "the body did not arrive in time")
    return Problem("malformed_body", "the body ends too early, or its chunks are malformed")


def parse(body: bytes, *, pointer: str = "") -> Any:
    """Return the JSON value of some bytes; a fault is reported at `pointer`. Raises Problem 400."""
    try:
        return strict_json.loads(body)
    except strict_json.JsonError as error:
        detail = f"{error}" if body else "a JSON body is expected"
        raise _malformed(error, detail, pointer) from error


def lines(body: bytes, *, at_most: int) -> list[bytes]:
    """Return the lines of a body that are not blank.

    Raises Problem 400 for a body of more than twice `at_most` lines, which is not taken apart: 16 MiB of line ends
    would be a list of 128. The same holds for one of too many values, however they are spread over its lines.
    """
    if body.count(b"\n") > 2 * at_most:
        raise Problem("batch_too_long", f"more than {2 * at_most} lines; a batch has at most {at_most} items")
    try:
        strict_json.refuse_dense(body)
    except strict_json.JsonError as error:
        raise _malformed(error, f"{error}", "") from error
    return [line for line in body.split(b"\n") if line.strip()]


def _malformed(error: strict_json.JsonError, detail: str, pointer: str) -> Problem:
    return Problem("malformed_body", detail, errors=[FieldFault(pointer, Fault(error.code, detail))])


def _too_large(max_bytes: int) -> Problem:
    return Problem("body_too_large", f"this path takes at most {max_bytes} bytes")
