"""What the OpenAPI document says about signing in, users and API keys."""

from typing import Any, Final

from api_service import queries
from api_service.documenting import ANY, AT, BODY, answer, problems, ref

_USER_ID: Final = "01930e2a-7c1e-7000-8f3a-5b6c7d8e9f01"
_KEY_ID: Final = "9f86d081884c7d65"
_USER: Final[dict[str, Any]] = {
    "id": _USER_ID,
    "email": "ada@example.com",
    "name": "Ada",
    "role": "user",
    "created_at": AT,
    "updated_at": AT,
    "disabled_at": None,
    "last_login_at": AT,
    "href": f"/api/v1/users/{_USER_ID}",
}
_KEY: Final[dict[str, Any]] = {
    "id": _KEY_ID,
    "starts_with": f"nk_live_{_KEY_ID}_",
    "name": "shop",
    "scopes": ["send", "read"],
    "limits": None,
    "created_at": AT,
    "created_by": "Ada",
    "expires_at": None,
    "previous_expires_at": None,
    "revoked_at": None,
    "revoked_by": None,
    "last_used_at": None,
    "href": f"/api/v1/api-keys/{_KEY_ID}",
}
_MADE_KEY: Final = _KEY | {"key": f"nk_live_{_KEY_ID}_..."}
_LOCATION: Final = {"Location": {"description": "Where it is found.", "schema": {"type": "string"}}}


def _body(schema: str, example: dict[str, Any], *, required: bool = True) -> dict[str, Any]:
    return {"required": required, "content": {"application/json": {"schema": ref(schema), "example": example}}}


REGISTER: Final[dict[str, Any]] = {
    "requestBody": _body(
        "Register", {"email": "ada@example.com", "password": "three geese over the lake", "name": "Ada"}
    ),
    "responses": {"201": answer("Joined; sign in now.", "User", _USER | {"last_login_at": None})}
    | problems(*BODY, "forbidden", "email_taken", "rate_limited", "busy"),
}
LOGIN: Final[dict[str, Any]] = {
    "requestBody": _body("Login", {"email": "ada@example.com", "password": "three geese over the lake"}),
    "responses": {
        "200": answer("Signed in.", "Token", {"access_token": "eyJ...", "token_type": "Bearer", "expires_in": 86_400})
    }
    | problems(*BODY, "unauthorized", "forbidden", "rate_limited", "not_configured", "busy"),
}
ME: Final[dict[str, Any]] = {
    "responses": {
        "200": answer(
            "Who this request is from.",
            "Caller",
            {
                "kind": "user",
                "id": _USER_ID,
                "name": "Ada",
                "tenant_id": "shop",
                "scopes": ["send", "read"],
                "user": _USER,
            },
        )
    }
    | problems(*ANY)
}
LIST_USERS: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.UsersQuery}],
    "responses": {"200": answer("A page.", "UserPage", {"data": [_USER], "next_cursor": None, "has_more": False})}
    | problems(*ANY, "validation_failed"),
}
SHOW_USER: Final[dict[str, Any]] = {
    "responses": {"200": answer("The user.", "User", _USER)} | problems(*ANY, "not_found")
}
SET_ROLE: Final[dict[str, Any]] = {
    "requestBody": _body("Role", {"role": "admin"}),
    "responses": {"200": answer("The user as they are now.", "User", _USER | {"role": "admin"})}
    | problems(*BODY, "not_found", "wrong_state"),
}
DISABLE_USER: Final[dict[str, Any]] = {
    "responses": {"200": answer("Let in no more.", "User", _USER | {"disabled_at": AT})}
    | problems(*ANY, "validation_failed", "not_found", "wrong_state")
}
ENABLE_USER: Final[dict[str, Any]] = {
    "responses": {"200": answer("Let in again, once they sign in anew.", "User", _USER)}
    | problems(*ANY, "validation_failed", "not_found", "wrong_state")
}
LIST_KEYS: Final[dict[str, Any]] = {
    "parameters": [{"in": "query", "schema": queries.ApiKeysQuery}],
    "responses": {"200": answer("A page.", "ApiKeyPage", {"data": [_KEY], "next_cursor": None, "has_more": False})}
    | problems(*ANY, "validation_failed"),
}
CREATE_KEY: Final[dict[str, Any]] = {
    "requestBody": _body("NewKey", {"name": "shop", "scopes": ["send", "read"]}),
    "responses": {"201": answer("Made. Its secret is shown here, and never again.", "MadeApiKey", _MADE_KEY, _LOCATION)}
    | problems(*BODY, "invalid_header"),
}
SHOW_KEY: Final[dict[str, Any]] = {
    "responses": {"200": answer("The key, without its secret.", "ApiKey", _KEY)} | problems(*ANY, "not_found")
}
REVOKE_KEY: Final[dict[str, Any]] = {
    "responses": {
        "200": answer(
            "Refused everywhere within five seconds.", "ApiKey", _KEY | {"revoked_at": AT, "revoked_by": "Ada"}
        )
    }
    | problems(*ANY, "validation_failed", "not_found")
}
ROTATE_KEY: Final[dict[str, Any]] = {
    "requestBody": _body("RotateKey", {"overlap_s": 3600}, required=False),
    "responses": {
        "200": answer(
            "Its new secret, shown here and never again.", "MadeApiKey", _MADE_KEY | {"previous_expires_at": AT}
        )
    }
    | problems(*BODY, "not_found", "wrong_state", "invalid_header"),
}
