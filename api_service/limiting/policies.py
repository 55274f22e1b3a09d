"""What is allowed: limits as they are written in settings and on keys, such as 3/second;20/10 seconds;100/minute."""

from collections.abc import Iterable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from limits import RateLimitItem, parse_many

MAX_TEXT_CHARS: Final = 200  # as of api_keys.limits
MAX_WINDOWS: Final = 5
INTERACTIVE: Final = "3/second;20/10 seconds;100/minute"
STEADY: Final = "100/minute;500/5 minutes;10000/hour"
PRESETS: Final = {"interactive": INTERACTIVE, "steady": STEADY}
"""Two sets for people, by name: the first for a person at a screen, the second for scripts that come in bursts."""


class Subject(StrEnum):
    """Who, or what, is counted. Closed: these are labels of a metric."""

    USER = "user"
    ADMIN = "admin"
    KEY = "key"
    TENANT = "tenant"
    ACTION = "action"  # what one caller changes besides sending: cancels, retries, replays, settings
    ADDRESS = "address"  # who does not say who they are
    LOGIN_ADDRESS = "login_address"
    LOGIN_ACCOUNT = "login_account"
    QUOTA = "quota"


@dataclass(frozen=True, slots=True, eq=False)
class Window:
    """So many requests in so many seconds."""

    name: str
    amount: int
    seconds: int
    item: RateLimitItem = field(repr=False)


@dataclass(frozen=True, slots=True, eq=False)
class Policy:
    """All windows of one subject; a request has to fit into each. Compared by identity: it is part of hot keys."""

    subject: Subject
    windows: tuple[Window, ...]

    @property
    def text(self) -> str:
        """Return what RateLimit-Policy says of it."""
        return ", ".join(f'"{one.name}";q={one.amount};w={one.seconds}' for one in self.windows)


@dataclass(frozen=True, slots=True)
class Texts:
    """The limits of the settings, checked."""

    enabled: bool = True
    users: str = INTERACTIVE
    admins: str = "20/second;600/minute"
    keys: str = "2000/second"
    tenants: str = "4000/second"
    actions: str = "50/second;1000/minute"
    addresses: str = "20/second;300/minute"
    logins_of_address: str = "10/minute;100/hour"
    logins_of_account: str = "30/minute;300/hour"


def checked(text: str) -> str:
    """Return limits as they are kept, presets written out. Raises ValueError for what cannot be limits."""
    text = PRESETS.get(text.strip().lower(), text.strip())
    windows = _windows(text)
    if len(text) > MAX_TEXT_CHARS or not 1 <= len(windows) <= MAX_WINDOWS:
        raise ValueError("too long")
    if any(one.amount < 1 or not 1 <= one.get_expiry() <= 31 * 86_400 for one in windows):
        raise ValueError("an amount of at least 1 within 1 second to 31 days")
    return text


def policy(subject: Subject, text: str) -> Policy:
    """Return the policy that checked limits are for a subject."""
    return Policy(subject, tuple(_of(subject, _windows(checked(text)))))


def _windows(text: str) -> list[RateLimitItem]:
    return sorted(parse_many(text), key=lambda one: (one.get_expiry(), one.amount))


def _of(subject: Subject, items: Iterable[RateLimitItem]) -> Iterable[Window]:
    for one in items:
        item = type(one)(one.amount, one.multiples, namespace=subject)  # what is counted apart has a name of its own
        yield Window(f"{subject}-{item.get_expiry()}s", item.amount, item.get_expiry(), item)
