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
    | problems(*ANY, "validation_failed"),
}
SHOW_DEAD_LETTER: Final[dict[str, Any]] = {
    "responses": {
        "200": answer(
            "The dead letter.",
            "DeadLetterDetail",
            _LETTER | {"original_payload": {"encoding": "text", "data": "{}"}, "attempts": []},
        )
    }
    | problems(*ANY, "not_found")
}
RETRY_DEAD_LETTER: Final[dict[str, Any]] = {
    "responses": {"202": answer("On its way again.", "DeadLetter", _LETTER | {"status": "retrying", "retry_at": None})}
    | problems(*ANY, "not_found", "wrong_state")
}
DISCARD_DEAD_LETTER: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ref("Discard"), "example": {"reason": "customer has left"}}},
    },
    "responses": {"200": answer("Resolved.", "DeadLetter", _LETTER | {"status": "resolved", "retry_at": None})}
    | problems(*BODY, "not_found", "wrong_state"),
}
