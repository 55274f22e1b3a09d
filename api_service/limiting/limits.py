"""Whether a request may be served now, and what its answer says about the next one."""

import functools
import hashlib
import logging
import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final, Protocol

from api_service import metrics
from api_service.callers import Caller, CallerKind, Scope
from api_service.clients import neighbourhood
from api_service.limiting import policies
from api_service.limiting.memory import Asked
from api_service.limiting.policies import Policy, Subject, Texts
from api_service.limiting.windows import Taken, retry_after
from api_service.problems import Problem

log = logging.getLogger(__name__)
Headers = list[tuple[str, str]]
_DAY_S: Final = 86_400
_KEPT: Final = 10_000


class Counts(Protocol):
    """Where requests are counted: Memory, or Shared."""

    def take(self, asked: Sequence[Asked], cost: int, now: float) -> Taken:
        """Count a request against all windows, or, where one refuses it, against none."""
        ...

    def spend(self, key: str, amount: int, cost: int, *, now: float, until: float) -> bool:
        """Take from a quota, all or nothing."""
        ...

    def give_back(self, key: str, cost: int) -> None:
        """Return what was taken for nothing."""
        ...


@dataclass(frozen=True, slots=True)
class _Asked:
    """What one caller's requests are counted against, with the words for it."""

    windows: tuple[Asked, ...]
    policy: str


class Limits:
    """Counts requests. Pure but for its counts: a caller in, the headers of its answer or a Problem out."""

    def __init__(self, texts: Texts, counts: Counts, *, clock: Callable[[], float] = time.time) -> None:
        self._counts, self._clock, self._enabled = counts, clock, texts.enabled
        self._policies: dict[Subject, Policy] = {
            subject: policies.policy(subject, text)
            for subject, text in (
                (Subject.USER, texts.users),
                (Subject.ADMIN, texts.admins),
                (Subject.KEY, texts.keys),
                (Subject.TENANT, texts.tenants),
                (Subject.ACTION, texts.actions),
                (Subject.ADDRESS, texts.addresses),
                (Subject.LOGIN_ADDRESS, texts.logins_of_address),
                (Subject.LOGIN_ACCOUNT, texts.logins_of_account),
            )
        }
        self._policy_of_key = functools.lru_cache(_KEPT)(self._read_policy)
        self._asked_of = functools.lru_cache(_KEPT)(self._ask)

    def admit(self, caller: Caller, *, is_action: bool = False) -> Headers:
        """Count one request of a caller. Raises Problem 429.

        `is_action` is what changes something and is no sending: it has a limit of its own besides.
        """
        if not self._enabled or caller.kind is CallerKind.OPEN:
            return []
        who = caller.kind, caller.id, caller.tenant_id, caller.limits, Scope.ADMIN in caller.scopes
        return self._counted(self._asked_of(who, is_action))

    def admit_stranger(self, address: str) -> None:
        """Count one request of whoever does not say who they are, by address. Raises Problem 429."""
        if self._enabled:
            self._counted(self._one(Subject.ADDRESS, neighbourhood(address)))

    def hold_stranger(self, address: str) -> None:
        """Raise Problem 429 where an address has used up what admit_stranger counts; count nothing otherwise."""
        if self._enabled:
            asked = self._one(Subject.ADDRESS, neighbourhood(address))
            if self._counts.take(asked.windows, 0, self._clock()).remaining == 0:
                self._counted(asked)

    def admit_login(self, address: str, account: str) -> None:
        """Count one try to log in, before its password is looked at. Raises Problem 429.

        By address first: it has less, so that nobody keeps others out of their accounts from one address.
        """
        name = hashlib.blake2b(account.strip().lower().encode("utf-8", "replace"), digest_size=16).hexdigest()
        self._counted(self._one(Subject.LOGIN_ADDRESS, neighbourhood(address)))
        self._counted(self._one(Subject.LOGIN_ACCOUNT, name))

    def spend(self, caller: Caller, count: int) -> None:
        """Take so many notifications from the day's quota of a caller's tenant. Raises Problem 429."""
        if caller.daily_quota is None:
            return
        now = self._clock()
        ends = (now // _DAY_S + 1) * _DAY_S
        if self._counts.spend(_quota_key(caller, now), caller.daily_quota, count, now=now, until=ends):
            return
        metrics.RATE_LIMITED.labels(Subject.QUOTA).inc()
        wait = retry_after(ends - now)
        raise Problem(
            "quota_used_up",
            f"the tenant's quota is {caller.daily_quota} notifications a day, from midnight to midnight in UTC",
            headers={
                "Retry-After": str(wait),
                "RateLimit-Policy": f'"{Subject.QUOTA}";q={caller.daily_quota};w={_DAY_S}',
                "RateLimit": f'"{Subject.QUOTA}";r=0;t={wait}',
                "X-RateLimit-Limit": str(caller.daily_quota),
                "X-RateLimit-Remaining": "0",
                "X-RateLimit-Reset": str(int(now) + wait),
            },
            extra={"violated-policies": [Subject.QUOTA], "retry_after_s": wait},
        )

    def give_back(self, caller: Caller, count: int) -> None:
        """Return what was spent on what was not accepted after all."""
        if caller.daily_quota is not None:
            self._counts.give_back(_quota_key(caller, self._clock()), count)

    def _counted(self, asked: _Asked) -> Headers:
        now = self._clock()
        taken = self._counts.take(asked.windows, 1, now)
        window = taken.window
        if taken.admitted:
            return _headers(asked.policy, taken, math.ceil(taken.reset_s), now)
        subject = window.name.rpartition("-")[0]
        metrics.RATE_LIMITED.labels(subject).inc()
        wait = retry_after(taken.reset_s)
        raise Problem(
            "rate_limited",
            f"at most {window.amount} requests in {window.seconds} s ({subject})",
            headers=dict([("Retry-After", str(wait)), *_headers(asked.policy, taken, wait, now)]),
            extra={"violated-policies": [window.name], "retry_after_s": wait},
        )

    def _ask(self, who: tuple[CallerKind, str, str, str | None, bool], is_action: bool) -> _Asked:
        """Return what a caller's requests are counted against: the narrower first, since it is what refuses."""
        kind, id_, tenant_id, limits, is_admin = who
        if kind is CallerKind.KEY:
            own = self._policies[Subject.KEY] if limits is None else self._policy_of_key(limits)
        else:
            own = self._policies[Subject.ADMIN if is_admin else Subject.USER]
        asked = [(f"{kind}:{id_}", own), (tenant_id, self._policies[Subject.TENANT])]
        if is_action:
            asked.insert(0, (f"{kind}:{id_}", self._policies[Subject.ACTION]))
        return _Asked(tuple(asked), ", ".join(policy.text for _, policy in asked))

    def _one(self, subject: Subject, name: str) -> _Asked:
        policy = self._policies[subject]
        return _Asked(((name, policy),), policy.text)

    def _read_policy(self, text: str) -> Policy:
        try:
            return policies.policy(Subject.KEY, text)
        except ValueError:
            log.error("key_limits_unreadable")  # it was checked when it was written
            return self._policies[Subject.KEY]


def _headers(policy: str, taken: Taken, seconds: int, now: float) -> Headers:
    """Return what is said of the window that has least left; the form is that of draft-ietf-httpapi-ratelimit-headers.

    The X- headers are what clients knew before: Reset is an instant, in seconds since 1970.
    """
    window = taken.window
    return [
        ("RateLimit-Policy", policy),
        ("RateLimit", f'"{window.name}";r={taken.remaining};t={seconds}'),
        ("X-RateLimit-Limit", str(window.amount)),
        ("X-RateLimit-Remaining", str(taken.remaining)),
        ("X-RateLimit-Reset", str(int(now) + seconds)),
    ]


def _quota_key(caller: Caller, now: float) -> str:
    return f"quota/{caller.tenant_id}/{datetime.fromtimestamp(now, UTC):%Y-%m-%d}"
