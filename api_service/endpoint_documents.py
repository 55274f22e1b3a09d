"""What the OpenAPI document says about endpoints and signing secrets."""

from typing import Any, Final

from api_service import queries
from api_service.documenting import ANY, AT, BODY, DEAD_LETTER_ID, NOTIFICATION_ID, answer, problems, ref
from api_service.documents import KEY, LOCATION, REPLAYED

_ID: Final = "ep_01930e2a7c1e70008f3a5b6c7d8e9f00"
_SECRET: Final = "whsec_…"  # noqa: S105 - not one
_NEW: Final = {
    "url": "https://example.com/hooks/orders",
    "description": "orders",
    "headers": {"Authorization": "Bearer …"},
    "rate_per_s": 50,
    "timeout_s": 10,
}
_SIGNING: Final = {"signing_secrets": [{"id": NOTIFICATION_ID, "created_at": AT, "expires_at": None}]}
_ENDPOINT: Final = _NEW | {
    "id": _ID,
    "headers": {"Authorization": "(hidden)"},
    "status": "enabled",
    "disabled": None,
    "created_at": AT,
    "updated_at": AT,
    "href": f"/api/v1/endpoints/{_ID}",
}
_DETAIL: Final = _ENDPOINT | _SIGNING | {"held": 0}
_DISABLED: Final = {
    "status": "disabled",
    "disabled": {
        "reason": "manual",
        "detail": "they are moving",
        "at": AT,
        "by": "ann",
        "suppression": {"id": DEAD_LETTER_ID, "href": f"/api/v1/suppressions/{DEAD_LETTER_ID}"},
    },
    "held": 12,
}


def _body(schema: str, example: Any, *, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": ref(schema), "example": example}}}


CREATE: Final[dict[str, Any]] = {
    "requestBody": _body("NewEndpoint", _NEW),
    "responses": {"201": answer("Made.", "NewEndpointDetail", _DETAIL | {"secret": _SECRET}, LOCATION)}
    | problems(*BODY, "invalid_header", "not_configured"),
}
LIST: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.EndpointsQuery}],
    "responses": {
        "200": answer("A page.", "EndpointPage", {"data": [_ENDPOINT], "next_cursor": None, "has_more": False})
    }
    | problems(*ANY),
}
SHOW: Final[dict[str, Any]] = {
    "responses": {"200": answer("The endpoint.", "EndpointDetail", _DETAIL)} | problems(*ANY, "not_found")
}
CHANGE: Final[dict[str, Any]] = {
    "requestBody": _body("EndpointChange", {"url": "https://example.com/hooks/v2", "rate_per_s": None}),
    "responses": {"200": answer("Changed.", "EndpointDetail", _DETAIL)}
    | problems(*BODY, "not_found", "not_configured"),
}
DELETE: Final[dict[str, Any]] = {"responses": {"204": {"description": "Deleted."}} | problems(*ANY, "not_found")}
DISABLE: Final[dict[str, Any]] = {
    "requestBody": _body("Decision", {"by": "ann", "note": "they are moving"}, required=False),
    "responses": {"200": answer("Disabled.", "EndpointDetail", _DETAIL | _DISABLED)} | problems(*BODY, "not_found"),
}
RESUME: Final[dict[str, Any]] = {
    "requestBody": _body("Decision", {"by": "ann"}, required=False),
    "responses": {"200": answer("Enabled: what is held goes on within moments.", "EndpointDetail", _DETAIL)}
    | problems(*BODY, "not_found"),
}
TEST: Final[dict[str, Any]] = {
    "parameters": [KEY],
    "responses": {
        "202": answer(
            "Accepted: stored, and on its way.",
            "Accepted",
            {"id": NOTIFICATION_ID, "status": "pending", "channel": "webhook", "created_at": AT},
            LOCATION | REPLAYED,
        )
    }
    | problems(*BODY, "not_found", "wrong_state", "invalid_header", "request_in_progress", "idempotency_key_reused"),
}
SHOW_SECRET: Final[dict[str, Any]] = {
    "responses": {"200": answer("What signs.", "SigningSecrets", _SIGNING)} | problems(*ANY)
}
_ROTATE: Final[dict[str, Any]] = {
    "requestBody": _body("Rotation", {"overlap_s": 86_400}, required=False),
    "responses": {"200": answer("Rotated.", "RotatedSecret", _SIGNING | {"secret": _SECRET})}
    | problems(*BODY, "wrong_state", "invalid_header", "not_configured"),
}
ROTATE_SECRET: Final[dict[str, Any]] = _ROTATE
ROTATE_ENDPOINT_SECRET: Final[dict[str, Any]] = _ROTATE | {
    "responses": _ROTATE["responses"] | problems("not_found"),
}
