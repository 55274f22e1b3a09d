"""What the API reads about how much is too much."""

import re
from typing import Final
from urllib.parse import SplitResult, parse_qs, quote, unquote, urlsplit

from api_service.limiting import policies
from api_service.limiting.policies import Texts
from shared.settings import Environment

_EXPECTED: Final = "limits such as 3/second;100/minute, or interactive, or steady"
_THIS_MACHINE: Final = ("localhost", "127.0.0.1", "::1")
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
    """Read where requests are counted together, with the authority that vouches for it; faults stay with `env`.

    A certificate is always verified, and a password is sent in clear within this machine alone.
    """
    url, authority = env.optional_text("REDIS_URL"), env.ca_file("REDIS_CA_FILE")
    if url is None:
        return None
    parts = _parts_of(url)
    if parts is None:
        env.refuse("REDIS_URL", "(hidden)", "redis://host:port/0, rediss://, valkey:// or valkeys://")
        return None
    encrypts = parts.scheme in ("rediss", "valkeys")
    if parse_qs(parts.query).keys() & {"ssl_cert_reqs", "ssl_check_hostname"}:
        env.refuse("REDIS_URL", "(hidden)", "a URL that does not say how far its certificate is verified: it always is")
    elif authority and not encrypts:
        env.refuse("REDIS_URL", "(hidden)", "rediss:// or valkeys://, since REDIS_CA_FILE says who vouches for it")
    elif parts.password and not encrypts and parts.hostname not in _THIS_MACHINE:
        env.refuse("REDIS_URL", "(hidden)", "rediss:// or valkeys://: without TLS its password would be sent in clear")
    if parts.password:
        env.refuse_public("REDIS_URL", unquote(parts.password), user=unquote(parts.username or "") or None)
    return f"{url}{'&' if parts.query else '?'}ssl_ca_certs={quote(authority)}" if authority and encrypts else url


def _parts_of(url: str) -> SplitResult | None:
    """Return what a URL of Redis or Valkey consists of; None where it is none."""
    try:
        parts = urlsplit(url)
        return parts if _REDIS_URL.fullmatch(url) and parts.port != 0 else None
    except ValueError:  # half an address of IPv6, a port that is no number
        return None


def _limits(env: Environment, name: str, default: str) -> str:
    text = env.text(name, default)
    try:
        return policies.checked(text)
    except ValueError:
        env.refuse(name, text, _EXPECTED)
        return policies.checked(default)
