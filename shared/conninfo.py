"""Where PostgreSQL is, who connects, and how the connection is protected: one libpq connection string."""

import re
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from urllib.parse import parse_qs, quote, unquote, urlsplit

if TYPE_CHECKING:
    from shared.settings import Environment

_CONNINFO_PASSWORD: Final = re.compile(r"\bpassword\s*=\s*(?:'((?:[^'\\]|\\.)*)'|([^\s']+))")


class SslMode(StrEnum):
    """How a connection to PostgreSQL is protected, in libpq's words; only `verify-full` knows whom it talks to."""

    DISABLE = "disable"
    ALLOW = "allow"
    PREFER = "prefer"
    REQUIRE = "require"
    VERIFY_CA = "verify-ca"
    VERIFY_FULL = "verify-full"


def read_conninfo(env: "Environment") -> str:
    """Return the libpq connection string: DATABASE_URL if set, else put together from DB_*."""
    host = env.text("DB_HOST", "localhost")
    port = env.integer("DB_PORT", 5432, low=1, high=65535)
    user = env.text("DB_USER", "notify")
    password = env.secret("DB_PASS", user=user)
    name = env.text("DB_NAME", "notifications")
    tls = _database_tls(env)
    if url := env.optional_text("DATABASE_URL"):
        if not re.match(r"postgres(ql)?://|\w+\s*=", url):
            env.refuse("DATABASE_URL", "(hidden)", "postgresql://user:password@host:port/name")
        else:
            login, passwords = _login_in(url)
            env.refuse_public("DATABASE_URL", *passwords, user=login)
        return url
    secret = f":{quote(password, safe='')}" if password else ""
    where = f"{quote(user, safe='')}{secret}@{quote(host, safe='')}:{port}/{quote(name, safe='')}"
    return f"postgresql://{where}{tls}"


def _database_tls(env: "Environment") -> str:
    """Return the query of a connection URL that asks for TLS; empty where neither variable is set."""
    root = env.ca_file("DB_SSLROOTCERT")
    mode = env.optional_choice("DB_SSLMODE", SslMode) or (SslMode.VERIFY_FULL if root else None)
    if mode in (SslMode.VERIFY_CA, SslMode.VERIFY_FULL) and root is None:
        env.refuse("DB_SSLROOTCERT", None, f"a PEM file with the server's authority, since DB_SSLMODE is {mode}")
    asked = {"sslmode": mode, "sslrootcert": root}
    query = "&".join(f"{key}={quote(value, safe='')}" for key, value in asked.items() if value)
    return f"?{query}" if query else ""


def _login_in(url: str) -> tuple[str | None, list[str]]:
    """Return user and passwords of a connection string, of which libpq takes two forms; what is none has neither."""
    if "://" not in url:
        return None, [re.sub(r"\\(.)", r"\1", quoted) or plain for quoted, plain in _CONNINFO_PASSWORD.findall(url)]
    try:
        parts = urlsplit(url)
        asked = parse_qs(parts.query)
    except ValueError:
        return None, []
    user = unquote(parts.username) if parts.username else None
    return user, [*([unquote(parts.password)] if parts.password else []), *asked.get("password", [])]
