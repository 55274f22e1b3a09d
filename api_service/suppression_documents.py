"""What the OpenAPI document says about the operations on suppressions."""

from typing import Any, Final

from api_service import queries
from api_service.documenting import ANY, AT, BODY, DEAD_LETTER_ID, NOTIFICATION_ID, answer, problems, ref

SUPPRESS_EXAMPLE: Final = {
    "channel": "email",
    "recipient": "ada@example.com",
    "reason_note": "asked for no more mail",
    "by": "ann",
}
_SUPPRESSION: Final = {
    "id": DEAD_LETTER_ID,
    "channel": "webhook",
    "recipient": "https://example.com/hooks/orders",
    "reason": "gone",
    "detail": "http_410",
    "notification_id": NOTIFICATION_ID,
    "notification_href": f"/api/v1/notifications/{NOTIFICATION_ID}",
    "active": True,
    "created_by": "delivery_consumer",
    "created_at": AT,
    "lifted_at": None,
    "lifted_by": None,
    "href": f"/api/v1/suppressions/{DEAD_LETTER_ID}",
}
LIST_SUPPRESSIONS: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.SuppressionsQuery}],
    "responses": {
        "200": answer("A page.", "SuppressionPage", {"data": [_SUPPRESSION], "next_cursor": None, "has_more": False})
    }
    | problems(*ANY),
}
SHOW_SUPPRESSION: Final[dict[str, Any]] = {
    "responses": {"200": answer("The suppression.", "SuppressionDetail", _SUPPRESSION | {"held": 12})}
    | problems(*ANY, "not_found")
}
SUPPRESS: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ref("Suppress"), "example": SUPPRESS_EXAMPLE}},
    },
    "responses": {
        "200": answer(
            "Active: what has not begun is held from now on.",
            "SuppressionDetail",
            _SUPPRESSION
            | {
                "channel": "email",
                "recipient": "ada@example.com",
                "reason": "manual",
                "detail": "asked for no more mail",
                "notification_id": None,
                "notification_href": None,
                "created_by": "ann",
                "held": 0,
            },
        )
    }
    | problems(*BODY),
}
LIFT_SUPPRESSION: Final[dict[str, Any]] = {
    "requestBody": {
        "required": False,
        "content": {"application/json": {"schema": ref("Lift"), "example": {"by": "ann"}}},
    },
    "responses": {
        "200": answer(
            "Lifted: what is held goes on within moments.",
            "SuppressionDetail",
            _SUPPRESSION | {"active": False, "lifted_at": AT, "lifted_by": "ann", "held": 12},
        )
    }
    | problems(*BODY, "not_found"),
}
