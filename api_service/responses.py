"""Answers as bytes: orjson writes dataclasses, datetimes and UUIDs by itself, and faster than anything else here."""

from collections.abc import Mapping
from typing import Any, Final

import orjson
from flask import Response

_OPTIONS: Final = orjson.OPT_UTC_Z


def dumps(value: Any) -> bytes:
    """Return a value as JSON, instants in UTC with Z."""
    return orjson.dumps(value, option=_OPTIONS)


def json_response(value: Any, status: int = 200, headers: Mapping[str, str] | None = None) -> Response:
    """Return a JSON response; bytes are taken for JSON already."""
    body = value if isinstance(value, bytes) else dumps(value)
    return Response(body, status, headers=dict(headers or {}), content_type="application/json")


def no_content() -> Response:
    """Return 204. What has no body has no media type (RFC 9110, section 8.3); Flask would name its own, HTML."""
    response = Response(status=204)
    del response.headers["Content-Type"]
    return response
