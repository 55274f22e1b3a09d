"""Requests that are refused before the application sees them: gunicorn's refusals, in the application's words.

What gunicorn says by itself is HTML and quotes the request, in its answer and in its log. Here as everywhere an answer
is a problem of ours, counted and logged without anything that the client wrote.
"""

import contextlib
import logging
import socket
import time
from http import HTTPStatus
from typing import Any, Final
from uuid import uuid4

import orjson
from gunicorn.http import errors
from gunicorn.http.body import ChunkedReader

from api_service import finishing
from api_service.clients import Client
from api_service.finishing import Begun
from api_service.problems import CONTENT_TYPE, Problem, internal_error
from api_service.tracing import RequestIds

log = logging.getLogger(__name__)
ROUTE: Final = "unparsed"
"""What stands for the route of such a request in counts and in the log."""
_WORDS: Final[tuple[tuple[type[Exception], str, str], ...]] = (
    (errors.LimitRequestLine, "uri_too_long", "the request line is longer than 8,190 bytes"),
    (errors.LimitRequestHeaders, "headers_too_large", "more than 64 header fields, or one of more than 8,190 bytes"),
    (errors.UnsupportedTransferCoding, "transfer_coding_unsupported", "the one transfer coding here is chunked"),
    (errors.ExpectationFailed, "expectation_failed", "the one expectation met here is 100-continue"),
    (errors.InvalidRequestLine, "bad_request", "the request line is not that of HTTP/1.1"),
    (errors.InvalidRequestMethod, "bad_request", "the method cannot be one"),
    (errors.InvalidHTTPVersion, "bad_request", "HTTP/1.1 and HTTP/1.0 are spoken here"),
    (errors.InvalidHeaderName, "bad_request", "the name of a header cannot be one"),
    (errors.ObsoleteFolding, "bad_request", "a header goes over several lines"),
    (errors.InvalidHeader, "bad_request", "a header is malformed, or two contradict each other"),
    (errors.ParseException, "bad_request", "the request cannot be understood"),
)


def problem_of(error: Exception) -> Problem | None:
    """Return the problem of a request that cannot be read, None where the error is a bug of ours."""
    if isinstance(error, errors.InvalidResponseHeader | errors.InvalidResponseHeaderName | errors.ConfigurationProblem):
        return None
    for kind, code, detail in _WORDS:
        if isinstance(error, kind):
            return Problem(code, detail)
    return None


def refuse_codings(request: Any) -> None:
    """Raise UnsupportedTransferCoding for a chunked request that is encoded otherwise too.

    gunicorn would pass it on as it is. `request` is gunicorn's.
    """
    if isinstance(request.body.reader, ChunkedReader):
        for name, value in request.headers:
            if name == "TRANSFER-ENCODING" and value.lower() != "chunked":
                raise errors.UnsupportedTransferCoding("")


def answer_error(connection: socket.socket, address: str, error: Exception) -> None:
    """Answer a request that ended in an error outside of the application. Its connection is good for nothing more."""
    problem = problem_of(error)
    if problem is None:
        log.error("request_failed", exc_info=error)
        problem = internal_error()
    answer(connection, address, problem)


def answer(connection: socket.socket, address: str, problem: Problem) -> None:
    """Write a problem as the last thing on a connection, count it and log it."""
    request_id = uuid4().hex
    ids = RequestIds(request_id, request_id, None)
    begun = Begun(time.perf_counter(), ids, Client(address))
    body = orjson.dumps(problem.members() | {"request_id": request_id})
    status = HTTPStatus(problem.status)
    headers = [
        ("Connection", "close"),
        ("Content-Type", CONTENT_TYPE),
        ("Content-Length", str(len(body))),
        *finishing.headers_of(begun),
    ]
    head = "".join(f"{name}: {value}\r\n" for name, value in headers)
    with contextlib.suppress(OSError):
        connection.sendall(f"HTTP/1.1 {status.value} {status.phrase}\r\n{head}\r\n".encode() + body)
    finishing.finish(begun, "other", ROUTE, status, problem=problem.code)
