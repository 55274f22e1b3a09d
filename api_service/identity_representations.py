"""What callers, users and API keys look like to a client."""

from typing import Any, Final
from uuid import UUID

from api_service import api_keys
from api_service.callers import Caller, Scope
from shared.db.api_keys import ApiKey
from shared.db.users import User

USERS_PATH: Final = "/api/v1/users"
API_KEYS_PATH: Final = "/api/v1/api-keys"


def user_path(user_id: UUID) -> str:
    """Return where a user is found."""
    return f"{USERS_PATH}/{user_id}"


def key_path(key_id: str) -> str:
    """Return where a key is found."""
    return f"{API_KEYS_PATH}/{key_id}"


def user_shown(user: User) -> dict[str, Any]:
    """Return a user. Whose tenant it is the client knows: it is its own."""
    return {
        "id": user.id,
        "email": user.email,
        "name": user.name,
        "role": user.role,
        "created_at": user.created_at,
        "updated_at": user.updated_at,
        "disabled_at": user.disabled_at,
        "last_login_at": user.last_login_at,
        "href": user_path(user.id),
    }


def key_shown(key: ApiKey) -> dict[str, Any]:
    """Return a key, of which nothing but its beginning is known."""
    return {
        "id": key.id,
        "starts_with": api_keys.shown(key.id),
        "name": key.name,
        "scopes": key.scopes,
        "limits": key.limits,
        "created_at": key.created_at,
        "created_by": key.created_by,
        "expires_at": key.expires_at,
        "previous_expires_at": key.previous_expires_at,
        "revoked_at": key.revoked_at,
        "revoked_by": key.revoked_by,
        "last_used_at": key.last_used_at,
        "href": key_path(key.id),
    }


def key_noted(key: ApiKey) -> dict[str, Any]:
    """Return what the audit log holds of a key: nothing that somebody typed."""
    return {
        "scopes": key.scopes,
        "limits": key.limits,
        "expires_at": key.expires_at and key.expires_at.isoformat(),
        "previous_expires_at": key.previous_expires_at and key.previous_expires_at.isoformat(),
    }


def caller_shown(caller: Caller, user: User | None) -> dict[str, Any]:
    """Return who a request is from."""
    return {
        "kind": caller.kind,
        "id": caller.id,
        "name": caller.name,
        "tenant_id": caller.tenant_id,
        "scopes": [scope for scope in Scope if scope in caller.scopes],
        "user": user_shown(user) if user else None,
    }
