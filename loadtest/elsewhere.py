"""What is wrong with the installation that the environment names, found out before anything is started."""

import re
from collections.abc import Mapping
from typing import Final
from urllib.parse import urlsplit

import httpx
import psycopg

from infra.local.processes import answers_ok
from loadtest.limits import NEEDS
from loadtest.profiles import Profile
from shared.model import Channel

_ANSWERS: Final = {
    "TARGET_URL": "/health/ready",
    "TARGET_RELAY_URL": "/metrics",
    "TARGET_DELIVERY_URL": "/metrics",
}
_DATABASE: Final = "TARGET_DATABASE_URL"
API_KEY: Final = "TARGET_API_KEY"
_WITHIN_S: Final = 5


def faults(profile: Profile, environ: Mapping[str, str]) -> list[str]:
    """Name everything that is wrong; whether anybody answers is asked only where nothing else is."""
    return _unusable(environ) + _unfollowed(profile, environ) + _unjudged(profile, environ) or _unanswered(environ)


def _unusable(environ: Mapping[str, str]) -> list[str]:
    found = []
    for name in _ANSWERS:
        if value := environ.get(name):
            try:
                parts = urlsplit(value)
                usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
            except ValueError:
                usable = False
            if "@" in value:
                found.append(f"{name}: a URL without user and password is expected: it stands in the report")
            elif not usable:
                found.append(f"{name}: {value!r}; expected an http or https URL")
    return found


def _unfollowed(profile: Profile, environ: Mapping[str, str]) -> list[str]:
    smtp = environ.get("SINK_SMTP_PORT", "")
    if smtp and not (smtp.isascii() and smtp.isdigit() and 0 < int(smtp) < 65_536):
        return [f"SINK_SMTP_PORT: {smtp!r}; expected a port"]
    if not smtp and Channel.EMAIL in profile.mix.channels:
        also = "without it the profile's e-mails could not be followed; or --set mix.channels={webhook=1}"
        return [f"SINK_SMTP_PORT: nothing; {also}"]
    return []


def _unjudged(profile: Profile, environ: Mapping[str, str]) -> list[str]:
    if profile.kind == "dlq" and not environ.get(_DATABASE):
        return [f"{_DATABASE}: nothing; expected the target's database, as the DLQ test looks at every dead letter"]
    unjudged: dict[str, list[str]] = {}
    for limit in profile.limits:
        if limit in NEEDS and not environ.get(NEEDS[limit]):
            unjudged.setdefault(NEEDS[limit], []).append(limit)
    return [
        f"limits {', '.join(names)}: cannot be judged without {needed}; to do without: "
        + " ".join(f"--set limits.{name}=false" for name in names)
        for needed, names in unjudged.items()
    ]


def _unanswered(environ: Mapping[str, str]) -> list[str]:
    found = []
    for name, path in _ANSWERS.items():
        if environ.get(name):
            url = environ[name].rstrip("/") + path
            if not answers_ok(url, timeout_s=_WITHIN_S):
                found.append(f"{name}: {url} is not answered; expected 200 within {_WITHIN_S} s")
    if not found and environ.get("TARGET_URL") and not _is_known(environ["TARGET_URL"], environ.get(API_KEY)):
        found.append(f"{API_KEY}: the API answers 401; expected an API key of the scope send")
    if environ.get(_DATABASE) and (why := _closed(environ[_DATABASE])):
        found.append(f"{_DATABASE}: {why}; expected postgresql://user:password@host:port/name of the target's database")
    return found


def _is_known(url: str, api_key: str | None) -> bool:
    headers = {"Authorization": f"Bearer {api_key}"} if api_key else None
    try:
        answer = httpx.get(f"{url.rstrip('/')}/auth/me", headers=headers, timeout=_WITHIN_S, trust_env=False)
    except httpx.HTTPError:
        return True  # it answered a moment ago; the run will tell
    except ValueError:
        return False  # what no header can hold is no key
    return answer.status_code != httpx.codes.UNAUTHORIZED


def _closed(url: str) -> str:
    """Say why a database is not the target's, without what stands in quotes, which may be part of a password."""
    try:
        with psycopg.connect(url, connect_timeout=_WITHIN_S) as conn:
            table = conn.execute("SELECT to_regclass('notifications')").fetchone()
    except psycopg.Error as error:
        return re.sub(r"""(["']).*?\1""", "…", " ".join(str(error).split()))
    return "" if table and table[0] else "it has no table of notifications"
