"""What the OpenAPI document says about each operation: bodies, answers, problems, examples."""

from typing import Any, Final

from api_service import idempotency, queries
from api_service.documenting import ANY, AT, BODY, NOTIFICATION_ID, answer, problems, ref

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
_ACCEPTED: Final = {"id": NOTIFICATION_ID, "status": "pending", "channel": "email", "created_at": AT}

KEY: Final[dict[str, Any]] = {
    "in": "header",
    "name": "Idempotency-Key",
    "description": "Repeat a request with its key until it is answered: it is accepted once, and the repeat gets the "
    "first answer, with Idempotent-Replayed: true. Kept for at least 24 hours.",
    "schema": {"type": "string", "minLength": 1, "maxLength": 255, "pattern": f"^{idempotency.KEY}$"},
}
_IDS: Final[list[dict[str, Any]]] = [
    {
        "in": "header",
        "name": name,
        "description": description,
        "schema": {"type": "string"},
    }
    for name, description in (
        (
            "X-Request-ID",
            "Names this request in logs and in its answer; made up where missing. At most 128 of A-Z a-z "
            "0-9 . _ : / + = @ -; anything else counts as missing.",
        ),
        ("X-Correlation-ID", "Travels with the notification to the last log line about it. As X-Request-ID."),
        ("traceparent", "W3C Trace Context; travels with the notification. What is none is left out."),
    )
]
REPLAYED: Final = {
    "Idempotent-Replayed": {"description": "true on a stored answer.", "schema": {"type": "string", "enum": ["true"]}},
}
LOCATION: Final = {"Location": {"description": "Where it is found.", "schema": {"type": "string"}}}
_KEYED: Final = (*BODY, "invalid_header", "request_in_progress", "idempotency_key_reused")
_NOTIFICATION: Final[dict[str, Any]] = {
    "oneOf": [ref("EmailNotification"), ref("WebhookNotification")],
    "discriminator": {
        "propertyName": "channel",
        "mapping": {
            "email": "#/components/schemas/EmailNotification",
            "webhook": "#/components/schemas/WebhookNotification",
        },
    },
}

SEND: Final[dict[str, Any]] = {
    "parameters": [KEY, *_IDS],
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
    "responses": {"202": answer("Accepted: stored, and on its way.", "Accepted", _ACCEPTED, LOCATION | REPLAYED)}
    | problems(*_KEYED),
}

SEND_BATCH: Final[dict[str, Any]] = {
    "parameters": [
        {
            "in": "query",
            "name": "atomic",
            "description": "false: accept what is valid, and report on each item.",
            "schema": {"type": "string", "enum": ["true", "false"], "default": "true"},
        },
        KEY,
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
        "202": answer(
            "Accepted, all or (atomic=false) at least one.",
            "BatchAccepted",
            {"accepted": 1, "notifications": [_ACCEPTED]},
            REPLAYED,
        )
    }
    | problems(*_KEYED, "batch_too_long"),
}

_NOTIFICATION_EXAMPLE: Final = {
    "id": NOTIFICATION_ID,
    "status": "sent",
    "channel": "email",
    "recipient": "ada@example.com",
    "priority": "high",
    "attempt": 1,
    "created_at": AT,
    "message": "It will arrive on Tuesday.",
    "attempts": [{"attempt": 1, "outcome": "accepted", "began_at": AT, "ended_at": AT, "tries": 1}],
    "dead_letter": None,
    "suppression": None,
}
SHOW: Final[dict[str, Any]] = {
    "responses": {"200": answer("The notification as it stands.", "Notification", _NOTIFICATION_EXAMPLE)}
    | problems(*ANY, "not_found")
}
LIST: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.NotificationsQuery}],
    "responses": {"200": answer("A page.", "NotificationPage", {"data": [], "next_cursor": None, "has_more": False})}
    | problems(*ANY),
}
CANCEL: Final[dict[str, Any]] = {
    "responses": {
        "200": answer(
            "Cancelled: no attempt begins from now on.", "Notification", _NOTIFICATION_EXAMPLE | {"status": "cancelled"}
        )
    }
    | problems(*ANY, "not_found", "wrong_state")
}

_HEALTHY: Final = {"status": "ok", "service": "api_service", "checks": {"postgres": "ok"}}
LIVE: Final[dict[str, Any]] = {"responses": {"200": answer("Alive.", "Health", _HEALTHY | {"checks": {}})}}
READY: Final[dict[str, Any]] = {
    "responses": {
        "200": answer("Ready.", "Health", _HEALTHY),
        "503": answer(
            "Not ready.", "Health", _HEALTHY | {"status": "unavailable", "checks": {"postgres": "no_connection"}}
        ),
    }
}
METRICS: Final[dict[str, Any]] = {
    "security": [{"bearer": ["admin"]}, {"apiKey": ["admin"]}],
    "responses": {
        "200": {"description": "Prometheus text format.", "content": {"text/plain": {"schema": {"type": "string"}}}}
    }
    | problems(*ANY, "unauthorized", "forbidden", "rate_limited"),
}
RECEIVE: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "description": "Any JSON, at most 64 KiB.",
        "content": {"application/json": {"schema": {}, "example": {"message": "hello"}}},
    },
    "responses": {"200": answer("Kept.", "Kept", {"received": True, "number": 1})}
    | problems("malformed_body", "request_timeout", "body_too_large", "unsupported_media_type", "internal_error"),
}
RECEIVED: Final[dict[str, Any]] = {
    "responses": {
        "200": answer(
            "What was received, newest first.",
            "Inbox",
            {
                "data": [
                    {
                        "number": 1,
                        "received_at": AT,
                        "headers": {"webhook-id": NOTIFICATION_ID},
                        "body": {"message": "hello"},
                    }
                ]
            },
        )
    }
    | problems("internal_error")
}
