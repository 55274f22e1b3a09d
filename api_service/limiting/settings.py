"""What the API reads about how much is too much."""

import re
from typing import Final
from urllib.parse import unquote, urlsplit

from api_service.limiting import policies
from api_service.limiting.policies import Texts
from shared.settings import Environment

_EXPECTED: Final = "limits such as 3/second;100/minute, or interactive, or steady"
_REDIS_URL: Final = re.compile(r"(?:redis|rediss|valkey|valkeys)://[^\s/]+\S*")


def read_limits(env: Environment) -> Texts:
    """Read how many requests are served of whom."""
    usual = Texts()
    return Texts(
        enabled=env.switch("ENABLE_RATE_LIMITING", default=usual.enabled),
        users=_limits(env, "RATE_LIMIT_USERS", "interactive"),
        admins=_limits(env, "RATE_LIMIT_ADMINS", usual.admins),
        keys=_limits(env, "RATE_LIMIT_KEYS", usual.keys),
        tenants=_limits(env, "RATE_LIMIT_TENANTS", usual.tenants),
        actions=_limits(env, "RATE_LIMIT_ACTIONS", usual.actions),
        addresses=_limits(env, "RATE_LIMIT_ADDRESSES", usual.addresses),
        logins_of_address=_limits(env, "RATE_LIMIT_LOGINS_ADDRESS", usual.logins_of_address),
        logins_of_account=_limits(env, "RATE_LIMIT_LOGINS_ACCOUNT", usual.logins_of_account),
    )


def read_redis_url(env: Environment) -> str | None:
    """Read where requests are counted together."""
    url = env.optional_text("REDIS_URL")
    if url is None:
        return None
    try:
        parts = urlsplit(url)
        is_url = _REDIS_URL.fullmatch(url) is not None and parts.port != 0
    except ValueError:  # half an address of IPv6, a port that is no number
        is_url = False
    if not is_url:
        env.refuse("REDIS_URL", "(hidden)", "redis://host:port/0, rediss://, valkey:// or valkeys://")
        return None
    if parts.password:
        env.refuse_public("REDIS_URL", unquote(parts.password), user=unquote(parts.username or "") or None)
    return url


def _limits(env: Environment, name: str, default: str) -> str:
    text = env.text(name, default)
    try:
        return policies.checked(text)
    except ValueError:
        env.refuse(name, text, _EXPECTED)
        return policies.checked(default)
