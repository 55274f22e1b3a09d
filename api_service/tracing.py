"""Who is calling: request, correlation and trace ids, taken from the headers where they are safe to repeat."""

import os
import re
from dataclasses import dataclass
from typing import Final
from wsgiref.types import WSGIEnvironment

_SAFE_ID: Final = re.compile(r"[A-Za-z0-9._:/+=@-]{1,128}")
_TRACEPARENT: Final = re.compile(
    r"(?!ff)[0-9a-f]{2}-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}(-[\x21-\x7e]{0,64})?"
)


@dataclass(frozen=True, slots=True)
class RequestIds:
    """The ids of one request."""

    request_id: str
    correlation_id: str
    traceparent: str | None


def request_ids(environ: WSGIEnvironment) -> RequestIds:
    """Read the ids of a request, replacing what is missing or holds characters that could harm a log or a header.

    The correlation id travels with the notification to Kafka and the logs of each service; without one of its own it
    is the request id. A traceparent that does not follow W3C Trace Context is dropped, as that text asks.
    """
    given, traceparent = environ.get("HTTP_X_REQUEST_ID", ""), environ.get("HTTP_TRACEPARENT", "")
    request_id = given if _SAFE_ID.fullmatch(given) else os.urandom(16).hex()
    correlation_id = environ.get("HTTP_X_CORRELATION_ID", "")
    return RequestIds(
        request_id=request_id,
        correlation_id=correlation_id if _SAFE_ID.fullmatch(correlation_id) else request_id,
        traceparent=_version_00(traceparent) if _TRACEPARENT.fullmatch(traceparent) else None,
    )


def _version_00(traceparent: str) -> str | None:
    """Return a traceparent as we understand it; only versions we do not know may have more fields than four."""
    if len(traceparent) == 55:
        return traceparent
    return None if traceparent.startswith("00") else "00" + traceparent[2:55]
