"""What the OpenAPI document says about the operations on dead letters."""

from typing import Any, Final

from api_service import queries
from api_service.documenting import ANY, AT, BODY, DEAD_LETTER_ID, NOTIFICATION_ID, answer, problems, ref

_LETTER: Final = {
    "id": DEAD_LETTER_ID,
    "notification_id": NOTIFICATION_ID,
    "failure_class": "transient",
    "reason": "http_503",
    "retry_count": 2,
    "status": "failed",
    "retry_at": AT,
}
LIST_DEAD_LETTERS: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.DeadLettersQuery}],
    "responses": {
        "200": answer("A page.", "DeadLetterPage", {"data": [_LETTER], "next_cursor": None, "has_more": False})
    }
    | problems(*ANY),
}
SHOW_DEAD_LETTER: Final[dict[str, Any]] = {
    "responses": {
        "200": answer(
            "The dead letter.",
            "DeadLetterDetail",
            _LETTER | {"original_payload": {"encoding": "text", "data": "{}"}, "attempts": [], "actions": []},
        )
    }
    | problems(*ANY, "not_found")
}
_FINGERPRINT: Final = "permanent|https://example.com:443|http_404"
GROUP_DEAD_LETTERS: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.GroupsQuery}],
    "responses": {
        "200": answer(
            "The largest groups.",
            "DeadLetterGroups",
            {
                "data": [
                    {
                        "fingerprint": _FINGERPRINT,
                        "failure_class": "permanent",
                        "destination": "https://example.com:443",
                        "reason": "http_404",
                        "count": 420,
                        "retrying": 0,
                        "at_rest": 420,
                        "first_failed_at": AT,
                        "last_failed_at": AT,
                        "next_retry_at": None,
                        "example_ids": [DEAD_LETTER_ID],
                    }
                ],
                "groups": 1,
                "has_more": False,
            },
        )
    }
    | problems(*ANY),
}

_RETRIED: Final = {"action": "retried", "at": AT, "by": "ada", "note": "they mended it", "attempt": 4, "retry_id": None}
RETRY_DEAD_LETTER: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "content": {
            "application/json": {"schema": ref("Decision"), "example": {"by": "ada", "note": "they mended it"}},
        },
    },
    "responses": {
        "202": answer(
            "On its way again.",
            "DeadLetterWithActions",
            _LETTER | {"status": "retrying", "retry_at": None, "actions": [_RETRIED]},
        )
    }
    | problems(*BODY, "not_found", "wrong_state"),
}
DISCARD_DEAD_LETTER: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": ref("Discard"),
                "example": {"reason": "customer has left", "by": "ada"},
            }
        },
    },
    "responses": {
        "200": answer(
            "Resolved.",
            "DeadLetterWithActions",
            _LETTER
            | {"status": "resolved", "retry_at": None, "resolution": "discarded", "resolved_by": "ada"}
            | {"actions": [_RETRIED | {"action": "discarded", "note": "customer has left", "attempt": None}]},
        )
    }
    | problems(*BODY, "not_found", "wrong_state"),
}

_FILTER: Final = {"fingerprint": _FINGERPRINT}
BULK_RETRY_EXAMPLE: Final = {
    "filter": _FILTER,
    "dry_run": False,
    "rate_per_s": 10,
    "canary": 10,
    "by": "ada",
    "note": "they mended it",
}
_RETRY: Final = {
    "id": NOTIFICATION_ID,
    "status": "canary",
    "filter": _FILTER,
    "rate_per_s": 10.0,
    "canary": 10,
    "by": "ada",
    "note": "they mended it",
    "matched": 420,
    "retried": 0,
    "under_way": 0,
    "sent": 0,
    "failed": 0,
    "ended_otherwise": 0,
    "stop_reason": None,
    "created_at": AT,
    "finished_at": None,
    "href": f"/api/v1/dead-letters/retries/{NOTIFICATION_ID}",
}
_STOPPED: Final = _RETRY | {
    "status": "stopped",
    "retried": 10,
    "sent": 9,
    "failed": 1,
    "stop_reason": "canary_failed",
    "finished_at": AT,
    "failures": [{"fingerprint": _FINGERPRINT, "count": 1, "example_ids": [DEAD_LETTER_ID]}],
}
RETRY_BY_FILTER: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {
            "application/json": {
                "schema": ref("BulkRetry"),
                "examples": {
                    "dry_run": {"value": {"filter": _FILTER}},
                    "retry": {"value": BULK_RETRY_EXAMPLE},
                },
            }
        },
    },
    "responses": {
        "200": answer(
            "A dry run: what it would take. Nothing was changed.",
            "BulkRetryPreview",
            {
                "dry_run": True,
                "filter": _FILTER,
                "matched": 420,
                "cannot_be_sent": 0,
                "dead_letter_ids": [DEAD_LETTER_ID],
                "groups": [{"fingerprint": _FINGERPRINT, "count": 420}],
            },
        ),
        "202": answer(
            "Stored: a dlq_consumer takes it up.",
            "BulkRetrySummary",
            _RETRY,
            {"Location": {"description": "Where it is found.", "schema": {"type": "string"}}},
        ),
    }
    | problems(*BODY, "invalid_header"),
}
LIST_RETRIES: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.RetriesQuery}],
    "responses": {"200": answer("A page.", "BulkRetryPage", {"data": [_RETRY], "next_cursor": None, "has_more": False})}
    | problems(*ANY),
}
SHOW_RETRY: Final[dict[str, Any]] = {
    "responses": {"200": answer("The bulk retry.", "BulkRetryAnswer", _STOPPED)} | problems(*ANY, "not_found")
}
CANCEL_RETRY: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": ref("Decision"), "example": {"by": "ada", "note": "too early"}}},
    },
    "responses": {
        "200": answer(
            "Cancelled: it sends nothing more.",
            "BulkRetryAnswer",
            _RETRY | {"status": "cancelled", "finished_at": AT, "ended_by": "ada", "failures": []},
        )
    }
    | problems(*BODY, "not_found", "wrong_state"),
}
