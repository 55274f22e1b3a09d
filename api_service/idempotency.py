"""Idempotency keys: which requests are the same one, and what a repeat is answered."""

import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson
from psycopg import Connection, errors
from werkzeug.datastructures import Headers

from api_service import accept
from api_service.faults import Fault
from api_service.problems import ParameterFault, Problem
from shared.db import idempotency_keys
from shared.db.accepting import NewNotification, StoredAnswer

HEADER: Final = "Idempotency-Key"
KEY: Final = r"[!-~](?:[ -~]{0,253}[!-~])?"


@dataclass(frozen=True, slots=True)
class KeyedRequest:
    """A request with an idempotency key; `sha256` tells it from any other."""

    tenant_id: str
    key: str
    sha256: bytes


def keyed_request(headers: Headers, operation: str, body: Any, *, tenant_id: str) -> KeyedRequest | None:
    """Return the key of a request, None where it has none. Raises Problem 400 for a key that cannot be one.

    `operation` names what is asked for, whichever path led there. Bodies are compared as values: blanks and the order
    of names do not matter.
    """
    key = headers.get(HEADER)
    if key is None:
        return None
    if not re.fullmatch(KEY, key):
        fault = Fault("invalid_idempotency_key", "1 to 255 printable ASCII characters")
        raise Problem("invalid_header", str(fault), errors=[ParameterFault("header", HEADER, fault)])
    text = operation.encode() + b"\n" + orjson.dumps(body, option=orjson.OPT_SORT_KEYS)
    return KeyedRequest(tenant_id, key, hashlib.sha256(text).digest())


@dataclass(frozen=True, slots=True)
class Answer:
    """What a client is answered; `path` is the Location."""

    status: int
    body: bytes
    path: str | None = None
    replayed: bool = False

    def headers(self) -> list[tuple[str, str]]:
        """Return its headers besides those of every answer."""
        location = [("Location", self.path)] if self.path else []
        return [*location, ("Idempotent-Replayed", "true")] if self.replayed else location


def accept_once(
    conn: Connection[Any],
    keyed: KeyedRequest,
    news: Sequence[NewNotification],
    answer: Answer,
) -> Answer:
    """Accept under a key, in one statement with the answer; a repeat writes nothing and gets the first one's answer.

    Raises Problem: 422 where the key belongs to another request, 409 where the first one is still running.
    """
    stored = StoredAnswer(keyed.tenant_id, keyed.key, keyed.sha256, answer.status, answer.body, answer.path)
    try:
        kept = accept.write_keyed(conn, news, stored)
    except errors.LockNotAvailable as error:
        if not idempotency_keys.is_being_written(error):
            raise
        raise Problem(
            "request_in_progress", "the first request with this key has not ended", headers={"Retry-After": "1"}
        ) from error
    return answer if kept is stored else _replay(kept, keyed)


def find_answer(conn: Connection[Any], keyed: KeyedRequest) -> Answer | None:
    """Return the stored answer of a key, None where there is none. Raises Problem 422."""
    kept = idempotency_keys.find(conn, keyed.key, tenant_id=keyed.tenant_id)
    return _replay(kept, keyed) if kept else None


def _replay(kept: StoredAnswer, keyed: KeyedRequest) -> Answer:
    if kept.request_sha256 != keyed.sha256:
        raise Problem("idempotency_key_reused", "this key was used for a request with another body or path")
    return Answer(kept.status, kept.body, kept.path, replayed=True)
