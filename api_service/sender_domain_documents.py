"""What the OpenAPI document says about sender domains."""

from typing import Any, Final

from api_service.documenting import ANY, AT, BODY, RECORD, answer, problems, ref

_DOMAIN: Final = {
    "domain": "example.com",
    "status": "unverified",
    "record": RECORD,
    "created_at": AT,
    "verified_at": None,
    "href": "/api/v1/sender-domains/example.com",
}
_VERIFIED: Final = _DOMAIN | {"status": "verified", "verified_at": AT}
ADD: Final[dict[str, Any]] = {
    "requestBody": {
        "required": True,
        "content": {"application/json": {"schema": ref("NewSenderDomain"), "example": {"domain": "example.com"}}},
    },
    "responses": {"200": answer("There, with the record that proves whose it is.", "SenderDomain", _DOMAIN)}
    | problems(*BODY),
}
LIST: Final[dict[str, Any]] = {
    "responses": {"200": answer("All of them.", "SenderDomains", {"data": [_VERIFIED]})} | problems(*ANY)
}
SHOW: Final[dict[str, Any]] = {
    "responses": {"200": answer("The domain.", "SenderDomain", _VERIFIED)} | problems(*ANY, "not_found")
}
VERIFY: Final[dict[str, Any]] = {
    "responses": {"200": answer("E-mail may be from it.", "SenderDomain", _VERIFIED)}
    | problems(*ANY, "not_found", "not_verified", "lookup_failed", "busy")
}
DELETE: Final[dict[str, Any]] = {
    "responses": {"204": {"description": "No notification can name it from now on."}} | problems(*ANY, "not_found")
}
