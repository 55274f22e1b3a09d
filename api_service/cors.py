"""Which pages of other sites may read what the API answers: those whose origin is on a list, by default none.

The API itself refuses nothing for its origin: a browser does, when no answer of ours says that it need not.
"""

import re
from collections.abc import Sequence
from typing import Final

from flask import Flask
from flask_cors import CORS

ANY: Final = "*"
_ORIGIN: Final = re.compile(r"https?://(?:[a-z0-9.-]{1,253}|\[[0-9a-f:.]{2,45}\])(?::([1-9][0-9]{0,4}))?")
_METHODS: Final = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
_TAKEN: Final = ("Authorization", "Content-Type", "Idempotency-Key", "X-Request-ID", "X-Correlation-ID", "traceparent")
_SHOWN: Final = (
    *("Location", "Retry-After", "Idempotent-Replayed", "X-Request-ID", "X-Correlation-ID", "RateLimit"),
    *("RateLimit-Policy", "X-RateLimit-Limit", "X-RateLimit-Remaining", "X-RateLimit-Reset"),
)
_PREFLIGHT_KEPT_S: Final = 600


def checked_origin(text: str) -> str:
    """Return an origin as a browser writes it, or *. Raises ValueError."""
    origin = text.lower()
    if origin == ANY:
        return ANY
    found = _ORIGIN.fullmatch(origin)
    if found is None or int(found[1] or 0) > 65_535:
        raise ValueError("not an origin")
    return origin


def allow(app: Flask, origins: Sequence[str], *, credentials: bool) -> None:
    """Have answers say which origins may read them; with none of them, no answer says anything."""
    if origins:
        CORS(
            app,
            # Patterns, since flask-cors would read an address in brackets as one, and matches from the start alone.
            origins=ANY if ANY in origins else [re.compile(rf"{re.escape(one)}\Z", re.IGNORECASE) for one in origins],
            methods=list(_METHODS),
            allow_headers=list(_TAKEN),
            expose_headers=list(_SHOWN),
            supports_credentials=credentials,
            send_wildcard=True,
            always_send=False,  # only to those who say where they come from
            max_age=_PREFLIGHT_KEPT_S,
            intercept_exceptions=False,  # every error has an answer, and passes by here with it
        )
