"""Secrets of webhooks, made and sealed here; nothing in this service opens them again."""

import base64
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final
from uuid import UUID

import orjson

from api_service.problems import Problem
from shared.model import uuid7
from shared.secrets import Keyring

SECRET_BYTES: Final = 32
"""Standard Webhooks asks for 24 to 64."""


@dataclass(frozen=True, slots=True)
class NewSecret:
    """A signing secret as it is stored, and as its owner is told once."""

    id: UUID
    sealed: bytes
    shown: str = field(repr=False)


def new_secret(keyring: Keyring, *, tenant_id: str) -> NewSecret:
    """Return a random signing secret. Raises Problem 501 where there is no key to seal it with."""
    _require(keyring)
    secret_id, key = uuid7(), secrets.token_bytes(SECRET_BYTES)
    sealed = keyring.seal(key, table="signing_secrets", row_id=str(secret_id), tenant_id=tenant_id)
    return NewSecret(secret_id, sealed, f"whsec_{base64.b64encode(key).decode()}")


def sealed_headers(keyring: Keyring, headers: Mapping[str, str], *, endpoint_id: UUID, tenant_id: str) -> bytes | None:
    """Return an endpoint's headers as they are stored, None where it has none. Raises Problem as new_secret does."""
    if not headers:
        return None
    _require(keyring)
    return keyring.seal(orjson.dumps(headers), table="endpoints", row_id=str(endpoint_id), tenant_id=tenant_id)


def _require(keyring: Keyring) -> None:
    if not keyring:
        raise Problem("not_configured", "secrets cannot be stored here: its operator has set no SECRETS_KEYS")
