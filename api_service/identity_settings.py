"""What the API reads about who may call it."""

import ipaddress
import re
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from api_service.tokens import MAX_LIFETIME_S
from shared.key_rings import NamedKey
from shared.settings import Environment

MIN_SECRET_BYTES: Final = 32
_MAX_SECRET_BYTES: Final = 128
_DAY_S: Final = 86_400
_LIFETIME: Final = re.compile(r"(\d{1,8})([smhd]?)")
_UNITS: Final = {"": 1, "s": 1, "m": 60, "h": 3600, "d": _DAY_S}
_TENANT: Final = re.compile(r"[a-z0-9][a-z0-9_-]{0,62}")


class AuthMode(StrEnum):
    """Whether callers have to say who they are."""

    KEYS = "keys"
    OPEN = "open"


@dataclass(frozen=True, slots=True)
class IdentitySettings:
    """Who may call this API."""

    mode: AuthMode  # AUTH_MODE
    jwt_keys: tuple[NamedKey, ...] = field(repr=False)  # JWT_KEYS, or JWT_SECRET: the first signs, all verify
    jwt_lifetime_s: int  # JWT_EXPIRES_IN, or JWT_EXPIRATION
    registration_tenant: str | None  # REGISTRATION_TENANT: which tenant people join by themselves; None: they cannot
    metrics_token: str | None = field(repr=False)  # METRICS_TOKEN: opens /metrics, beside keys of an operator
    serves_test_webhook: bool  # TEST_WEBHOOK


def read_identity(env: Environment, *, bind_host: str) -> IdentitySettings:
    """Read who may call; `bind_host` is where the API will listen."""
    mode = env.choice("AUTH_MODE", AuthMode.KEYS, AuthMode)
    everywhere = env.switch("AUTH_OPEN_ON_ALL_ADDRESSES", default=False)
    if mode is AuthMode.OPEN and not everywhere and is_public(bind_host):
        env.refuse(
            "AUTH_MODE",
            mode.value,
            "keys, or BIND_HOST a loopback or private address: with open, whoever reaches "
            f"{bind_host} may send (AUTH_OPEN_ON_ALL_ADDRESSES=yes permits it)",
        )
    tenant = env.optional_text("REGISTRATION_TENANT")
    if tenant is not None and not _TENANT.fullmatch(tenant):
        env.refuse("REGISTRATION_TENANT", tenant, "the id of a tenant: lower case letters, digits, - and _")
    return IdentitySettings(
        mode=mode,
        jwt_keys=_read_keys(env),
        jwt_lifetime_s=_read_lifetime(env),
        registration_tenant=tenant,
        metrics_token=env.secret("METRICS_TOKEN", at_least=MIN_SECRET_BYTES),
        serves_test_webhook=_read_test_webhook(env, mode),
    )


def is_public(host: str) -> bool:
    """Say whether others than this machine and a private network could reach an address that is listened on."""
    if host == "localhost":
        return False
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return True
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_unspecified or not (address.is_loopback or address.is_private)


def _read_keys(env: Environment) -> tuple[NamedKey, ...]:
    keys = env.key_ring("JWT_KEYS", low=MIN_SECRET_BYTES, high=_MAX_SECRET_BYTES)
    older = env.secret("JWT_SECRET", at_least=MIN_SECRET_BYTES)
    return keys or ((NamedKey("secret", older.encode()),) if older else ())


def _read_lifetime(env: Environment) -> int:
    newer, older = env.optional_text("JWT_EXPIRES_IN"), env.optional_text("JWT_EXPIRATION")
    text = newer or older or "24h"
    found = _LIFETIME.fullmatch(text)
    seconds = int(found[1]) * _UNITS[found[2]] if found else 0
    if not 60 <= seconds <= MAX_LIFETIME_S:
        name = "JWT_EXPIRES_IN" if newer else "JWT_EXPIRATION"
        env.refuse(name, text, "60 seconds to 30 days, such as 3600, 24h or 7d")
        return _DAY_S
    return seconds


def _read_test_webhook(env: Environment, mode: AuthMode) -> bool:
    """Read whether the receiver is served that shows everybody what all tenants got."""
    if env.optional_text("TEST_WEBHOOK") is None:
        return mode is AuthMode.OPEN
    return env.switch("TEST_WEBHOOK", default=False)
