"""What the OpenAPI document says about each operation: bodies, answers, problems, examples."""

from typing import Any, Final

from api_service import queries
from api_service.problems import CONTENT_TYPE, PROBLEMS, TYPE_PREFIX

_ID: Final = "01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00"
_LETTER_ID: Final = "5f0c1d9e-2b7a-4c55-9d0e-6a1b2c3d4e5f"
_AT: Final = "2030-01-31T09:00:00.000Z"

EMAIL_EXAMPLE: Final = {
    "channel": "email",
    "recipient": "ada@example.com",
    "subject": "Your order has shipped",
    "message": "It will arrive on Tuesday.",
    "priority": "high",
}
WEBHOOK_EXAMPLE: Final = {
    "channel": "webhook",
    "recipient": "https://example.com/hooks/orders",
    "message": "order.shipped",
    "payload": {"order": 4711},
    "ordering_key": "order-4711",
    "expires_in": 3600,
}
_ACCEPTED: Final = {"id": _ID, "status": "pending", "channel": "email", "created_at": _AT}

_KEY: Final[dict[str, Any]] = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "Repeat a request with its key until it is answered: it is accepted once, and the repeat gets the "
    "first answer, with Idempotent-Replayed: true. Kept for at least 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255},
}
_IDS: Final[list[dict[str, Any]]] = [
    {
        "in": "header",
        "name": name,
        "description": description,
        "schema": {"type": "string", "maxLength": 128},
    }
    for name, description in (
        ("X-Request-ID", "Names this request in logs and in its answer; made up where missing."),
        ("X-Correlation-ID", "Travels with the notification to the last log line about it."),
        ("traceparent", "W3C Trace Context; travels with the notification."),
    )
]
_REPLAYED: Final = {
    "Idempotent-Replayed": {"description": "true on a stored answer.", "schema": {"type": "string", "enum": ["true"]}},
}
_LOCATION: Final = {"Location": {"description": "Where it is found.", "schema": {"type": "string"}}}
_DETAILS: Final[dict[str, dict[str, Any]]] = {
    "validation_failed": {
        "errors": [{"pointer": "/recipient", "code": "required", "detail": "this field is required"}]
    },
    "wrong_state": {"state": "sent"},
}


def _ref(name: str) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{name}"}


def _answer(description: str, schema: str, example: Any = None, headers: Any = None) -> dict[str, Any]:
    content: dict[str, Any] = {"schema": _ref(schema)}
    if example is not None:
        content["example"] = example
    return {"description": description, "content": {"application/json": content}} | (
        {"headers": headers} if headers else {}
    )


def _problems(*codes: str) -> dict[str, Any]:
    """Return the answers of these problems, one per status, with an example each."""
    answers: dict[str, Any] = {}
    for code in codes:
        status, title = PROBLEMS[code]
        answer = answers.setdefault(str(status), {"description": title, "content": {CONTENT_TYPE: {
            "schema": _ref("Problem"), "examples": {}}}})  # fmt: skip
        answer["content"][CONTENT_TYPE]["examples"][code] = {"value": example_problem(code)}
        if code in ("database_unavailable", "request_in_progress"):
            answer["headers"] = {"Retry-After": {"description": "Seconds.", "schema": {"type": "integer"}}}
    return answers


def example_problem(code: str) -> dict[str, Any]:
    """Return what a problem looks like."""
    status, title = PROBLEMS[code]
    return {
        "type": TYPE_PREFIX + code,
        "title": title,
        "status": status,
        "detail": "what is wrong in this case",
        "code": code,
        "request_id": "0f8fad5bd9cb469fa165708867289511",
    } | _DETAILS.get(code, {})


_ANY: Final = ("internal_error", "database_unavailable")
_BODY: Final = (
    *_ANY,
    "malformed_body",
    "validation_failed",
    "request_timeout",
    "body_too_large",
    "unsupported_media_type",
)
_KEYED: Final = (*_BODY, "invalid_header", "request_in_progress", "idempotency_key_reused")
_NOTIFICATION: Final[dict[str, Any]] = {
    "oneOf": [_ref("EmailNotification"), _ref("WebhookNotification")],
    "discriminator": {
        "propertyName": "channel",
        "mapping": {
            "email": "#/components/schemas/EmailNotification",
            "webhook": "#/components/schemas/WebhookNotification",
        },
    },
}

SEND: Final[dict[str, Any]] = {
    "parameters": [_KEY, *_IDS],
    "requestBody": {
        "required": True,
        "description": "At most 1 MiB.",
        "content": {
            "application/json": {
                "schema": _NOTIFICATION,
                "examples": {"email": {"value": EMAIL_EXAMPLE}, "webhook": {"value": WEBHOOK_EXAMPLE}},
            }
        },
    },
    "responses": {"202": _answer("Accepted: stored, and on its way.", "Accepted", _ACCEPTED, _LOCATION | _REPLAYED)}
    | _problems(*_KEYED),
}

SEND_BATCH: Final[dict[str, Any]] = {
    "parameters": [
        {
            "in": "query",
            "name": "atomic",
            "description": "false: accept what is valid, and report on each item.",
            "schema": {"type": "string", "enum": ["true", "false"], "default": "true"},
        },
        _KEY,
        *_IDS,
    ],
    "requestBody": {
        "required": True,
        "description": "1 to 1,000 notifications, at most 16 MiB.",
        "content": {
            "application/json": {
                "schema": {"type": "array", "items": _NOTIFICATION, "minItems": 1, "maxItems": 1000},
                "example": [EMAIL_EXAMPLE, WEBHOOK_EXAMPLE],
            },
            "application/x-ndjson": {"schema": {"type": "string", "description": "A notification per line."}},
        },
    },
    "responses": {
        "202": _answer(
            "Accepted, all or (atomic=false) at least one.",
            "BatchAccepted",
            {"accepted": 1, "notifications": [_ACCEPTED]},
            _REPLAYED,
        )
    }
    | _problems(*_KEYED, "batch_too_long"),
}

_NOTIFICATION_EXAMPLE: Final = {
    "id": _ID,
    "status": "sent",
    "channel": "email",
    "recipient": "ada@example.com",
    "priority": "high",
    "attempt": 1,
    "created_at": _AT,
    "message": "It will arrive on Tuesday.",
    "attempts": [{"attempt": 1, "outcome": "accepted", "began_at": _AT, "ended_at": _AT, "tries": 1}],
    "dead_letter": None,
}
SHOW: Final[dict[str, Any]] = {
    "responses": {"200": _answer("The notification as it stands.", "Notification", _NOTIFICATION_EXAMPLE)}
    | _problems(*_ANY, "not_found")
}
LIST: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.NotificationsQuery}],
    "responses": {"200": _answer("A page.", "NotificationPage", {"data": [], "next_cursor": None, "has_more": False})}
    | _problems(*_ANY, "validation_failed"),
}
CANCEL: Final[dict[str, Any]] = {
    "responses": {
        "200": _answer(
            "Cancelled: no attempt begins from now on.", "Notification", _NOTIFICATION_EXAMPLE | {"status": "cancelled"}
        )
    }
    | _problems(*_ANY, "not_found", "wrong_state")
}

_LETTER: Final = {
    "id": _LETTER_ID,
    "notification_id": _ID,
    "failure_class": "transient",
    "reason": "http_503",
    "retry_count": 2,
    "status": "failed",
    "retry_at": _AT,
}
LIST_DEAD_LETTERS: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.DeadLettersQuery}],
    "responses": {
        "200": _answer("A page.", "DeadLetterPage", {"data": [_LETTER], "next_cursor": None, "has_more": False})
    }
    | _problems(*_ANY, "validation_failed"),
}
SHOW_DEAD_LETTER: Final[dict[str, Any]] = {
    "responses": {
        "200": _answer(
            "The dead letter.",
            "DeadLetterDetail",
            _LETTER | {"original_payload": {"encoding": "text", "data": "{}"}, "attempts": []},
        )
    }
    | _problems(*_ANY, "not_found")
}
RETRY_DEAD_LETTER: Final[dict[str, Any]] = {
    "responses": {"202": _answer("On its way again.", "DeadLetter", _LETTER | {"status": "retrying", "retry_at": None})}
    | _problems(*_ANY, "not_found", "wrong_state")
}
DISCARD_DEAD_LETTER: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": _ref("Discard"), "example": {"reason": "customer has left"}}},
    },
    "responses": {"200": _answer("Resolved.", "DeadLetter", _LETTER | {"status": "resolved", "retry_at": None})}
    | _problems(*_BODY, "not_found", "wrong_state"),
}

_HEALTHY: Final = {"status": "ok", "service": "api_service", "checks": {"postgres": "ok"}}
LIVE: Final[dict[str, Any]] = {"responses": {"200": _answer("Alive.", "Health", _HEALTHY | {"checks": {}})}}
READY: Final[dict[str, Any]] = {
    "responses": {
        "200": _answer("Ready.", "Health", _HEALTHY),
        "503": _answer(
            "Not ready.", "Health", _HEALTHY | {"status": "unavailable", "checks": {"postgres": "no_connection"}}
        ),
    }
}
METRICS: Final[dict[str, Any]] = {
    "responses": {
        "200": {"description": "Prometheus text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    }
}
RECEIVE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "Any JSON, at most 64 KiB.",
        "content": {"application/json": {"schema": {}, "example": {"message": "hello"}}},
    },
    "responses": {"200": _answer("Kept.", "Kept", {"received": True, "number": 1})}
    | _problems("malformed_body", "request_timeout", "body_too_large", "unsupported_media_type", "internal_error"),
}
RECEIVED: Final[dict[str, Any]] = {
    "responses": {
        "200": _answer(
            "What was received, newest first.",
            "Inbox",
            {"data": [{"number": 1, "received_at": _AT, "headers": {"webhook-id": _ID}, "body": {"message": "hello"}}]},
        )
    }
    | _problems("internal_error")
}
