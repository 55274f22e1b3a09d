"""What is held against one destination so that it harms no other: slots, breaker, retry budget. No I/O, no clock.

Instants are seconds of one monotonic clock, given by the caller.
"""

from collections import OrderedDict
from dataclasses import dataclass
from itertools import islice
from types import MappingProxyType
from typing import Final

from delivery_consumer.tenants import Tenant, Tenants
from shared.model import BreakerState

WINDOW_S: Final = 30.0
MIN_CALLS: Final = 10
FAILURE_RATE: Final = 0.5
COOL_DOWN_S: Final = 10.0
MAX_COOL_DOWN_S: Final = 300.0
SILENCE_S: Final = 1.0
SILENT_CALLS: Final = 3
BUDGET_SHARE: Final = 0.1
BUDGET_PER_S: Final = 1.0
BUDGET_CAP: Final = 10.0
AHEAD_S: Final = 0.05
_LOOKED_AT: Final = 64


class Breaker:
    """Opens when half of the recent calls failed, or three in a row met silence; then one probe at a time.

    Recent is the current and the previous half of a 30 s window: a destination that hangs has too few calls in it, as
    each takes as long as it may. Each probe that fails doubles the pause, up to 5 min.
    """

    def __init__(self) -> None:
        self._half_began = 0.0
        self._current, self._previous = [0, 0], [0, 0]  # calls, failures
        self._pause_s = COOL_DOWN_S
        self._open_until: float | None = None
        self._probing = False
        self._silent = 0  # calls in a row

    @property
    def closed(self) -> bool:
        """Say whether calls go through freely."""
        return self._open_until is None

    @property
    def open_until(self) -> float | None:
        """Return the instant from which a probe may be made; None while closed."""
        return self._open_until

    def state(self, now: float) -> BreakerState:
        """Return where it stands: half open once a probe may be made, or is under way."""
        if self._open_until is None:
            return BreakerState.CLOSED
        return BreakerState.OPEN if now < self._open_until else BreakerState.HALF_OPEN

    def recent(self, now: float) -> tuple[int, int]:
        """Return how many calls it judges by at this instant, and how many of them failed."""
        age = now - self._half_began
        if age >= WINDOW_S:
            return 0, 0
        calls, failures = self._current
        if age < WINDOW_S / 2:
            calls, failures = calls + self._previous[0], failures + self._previous[1]
        return calls, failures

    def blocked_for_s(self, now: float) -> float | None:
        """Return None if a call may begin, which in the half-open state makes it the probe; else the seconds left."""
        if self._open_until is None:
            return None
        if now < self._open_until:
            return self._open_until - now
        if self._probing:
            return self._pause_s
        self._probing = True
        return None

    def blocks(self, now: float) -> bool:
        """Say whether a call would be refused now; asking changes nothing."""
        return self._open_until is not None and (now < self._open_until or self._probing)

    def note(self, *, failed: bool, now: float, silent: bool = False) -> None:
        """Count how a call ended; `silent`: nothing was heard of the destination as long as it lasted."""
        self._silent = self._silent + 1 if silent else 0
        if self._open_until is not None:
            self._note_probe(failed=failed, now=now)
            return
        self._turn(now)
        self._current[0] += 1
        self._current[1] += failed
        calls, failures = self._current[0] + self._previous[0], self._current[1] + self._previous[1]
        often = calls >= MIN_CALLS and failures >= FAILURE_RATE * calls
        if failed and (often or self._silent >= SILENT_CALLS):
            self._open_until = now + self._pause_s

    def _note_probe(self, *, failed: bool, now: float) -> None:
        if failed and self._probing:
            self._pause_s = min(2 * self._pause_s, MAX_COOL_DOWN_S)
            self._open_until = now + self._pause_s
        elif not failed:  # a call from before it opened counts too: the destination works
            self._open_until, self._pause_s = None, COOL_DOWN_S
            self._current, self._previous = [0, 0], [0, 0]
        self._probing = False

    def _turn(self, now: float) -> None:
        age = now - self._half_began
        if age < WINDOW_S / 2:
            return
        self._previous = self._current if age < WINDOW_S else [0, 0]
        self._current = [0, 0]
        self._half_began = now


class RetryBudget:
    """Quick repeats within an attempt: one per ten first calls, and one a second; at most ten saved up."""

    def __init__(self) -> None:
        self._tokens = BUDGET_CAP
        self._at: float | None = None

    def note_first_call(self) -> None:
        """Earn a tenth of a repeat."""
        self._tokens = min(self._tokens + BUDGET_SHARE, BUDGET_CAP)

    def take(self, now: float) -> bool:
        """Spend one repeat if there is one."""
        if self._at is not None:
            self._tokens = min(self._tokens + (now - self._at) * BUDGET_PER_S, BUDGET_CAP)
        self._at = now
        if self._tokens < 1 - 1e-9:  # ten tenths
            return False
        self._tokens -= 1
        return True


@dataclass(frozen=True, slots=True)
class Limits:
    """What a provider allows each of its destinations."""

    slots: int  # calls under way at most
    first_slots: int  # the same until it has proved itself; grows by one with each success
    waiting: int | None  # how many may wait once it has fallen silent; None: any number
    shared: bool = False  # by all tenants, as our own mail host is; else each of them has its own


DestinationKey = tuple[str, str]
"""Tenant and name; the tenant is empty where all share it."""


class Pace:
    """How many end in the time that a claim takes: so many may be claimed ahead of what is free.

    Counted over AHEAD_S at the least: what began together ends together, and a burst is no pace.
    """

    def __init__(self) -> None:
        self.rest()

    def rest(self) -> None:
        """Begin anew."""
        self.ahead = 0
        self._ended, self._began_at = 0, float("-inf")  # of the window
        self._ended_before, self._before_s = 0.0, 0.0  # of AHEAD_S before it

    def note_end(self) -> None:
        """Count one."""
        self._ended += 1

    def look(self, now: float, *, took_s: float, ran_dry: bool) -> None:
        """Learn from a claim that has just been answered; twice as much may be ahead where all was used up by then.

        A claim that was held up counts as one of AHEAD_S: so long at most does what is claimed ahead wait.
        """
        if self._began_at == float("-inf"):
            self._began_at = now - took_s
        since_s = max(now - self._began_at, took_s)
        ended, in_s = self._ended + self._ended_before, max(since_s + self._before_s, AHEAD_S)
        expected = ended * min(took_s, AHEAD_S) / in_s
        self.ahead = round(2 * expected if ran_dry else expected)
        if since_s >= AHEAD_S:
            self._ended_before, self._before_s = self._ended * AHEAD_S / since_s, AHEAD_S
            self._ended, self._began_at = 0, now


class Destination:
    """One tenant's webhook origin, or the SMTP host of all of them."""

    def __init__(self, name: str, limits: Limits, tenant: Tenant | None = None) -> None:
        self.name, self.limits, self.tenant = name, limits, tenant or Tenant("")
        self.breaker, self.budget = Breaker(), RetryBudget()
        self.in_use = 0  # slots taken: by attempts under way, and by jobs that may be claimed or wait for a worker
        self.pace = Pace()
        self.under_way = 0  # attempts
        self._calls = 0
        self.allowed = limits.first_slots
        self.last_reason: str | None = None  # why a call was last not accepted; a constant such as http_503
        self.hangs = False  # its last call met nothing but silence
        self._heard_at = 0.0

    @property
    def key(self) -> DestinationKey:
        """Return what it is known by."""
        return self.tenant.id, self.name

    @property
    def proven(self) -> bool:
        """Say whether its last calls worked; a configured relay counts as proven from the start."""
        return self.allowed > 1

    def has_room(self, now: float) -> bool:
        """Say whether another job may be claimed.

        None may while earlier ones are under way and nothing was heard for a second: a destination that hangs is
        thereby left with what it got in its first second. With an open breaker any number may, to be ended at once.
        """
        if self.breaker.blocks(now):
            return True
        return self.in_use < self.allowed + self.pace.ahead and not self.silent(now)

    def free(self, now: float) -> int | None:
        """Return how many attempts may begin beside those under way; None for any number, to be ended at once."""
        return None if self.breaker.blocks(now) else self.allowed - self.under_way

    def silent(self, now: float) -> bool:
        """Say whether calls are under way of which none has ended for a second."""
        return self._calls > 0 and now - self._heard_at >= SILENCE_S

    def enter(self) -> None:
        """Take a slot."""
        self.in_use += 1

    def leave(self) -> None:
        """Return a slot."""
        self.in_use -= 1
        self.pace.note_end()
        if not self.in_use:
            self.pace.rest()

    def call_began(self, now: float) -> None:
        """Note that a call is under way."""
        if not self._calls:
            self._heard_at = now
        self._calls += 1

    def call_ended(self, now: float, *, began_at: float, answered: bool) -> None:
        """Note that something was heard, or that a call was given up after which nothing was: it hangs."""
        self._calls -= 1
        self.hangs = not answered and now - began_at >= SILENCE_S and self._heard_at <= began_at
        if not self.hangs:
            self._heard_at = now

    def note(self, *, worked: bool, answered: bool, now: float) -> None:
        """Learn from a call: `worked` means it was accepted, or refused for reasons of that one notification.

        One that hangs has to prove itself again: what waits for it must not begin all at once.
        """
        self.breaker.note(failed=not worked, now=now, silent=self.hangs)
        floor = min(self.limits.first_slots, self.limits.slots)
        if worked:
            self.allowed = min(self.allowed + 1, self.limits.slots)
        elif self.hangs:
            self.allowed = floor
            self.pace.rest()
        else:
            self.allowed = max(self.allowed - 1 if answered else self.allowed // 2, floor)


class Destinations:
    """The destinations in use and the most recent idle ones; an idle one that is forgotten starts afresh.

    They are known by tenant and name: what fails or hangs for one tenant closes nothing to another. A tenant with more
    than its share of them forgets its own.
    """

    def __init__(self, tenants: Tenants, *, keep: int = 10_000) -> None:
        self._tenants, self._keep = tenants, keep
        self._everybody = Tenant("")
        self._known: OrderedDict[DestinationKey, Destination] = OrderedDict()

    def get(self, tenant: Tenant, name: str, limits: Limits) -> Destination:
        """Return a tenant's destination of this name, or everybody's."""
        owner = self._everybody if limits.shared else tenant
        known = self._known.get(key := (owner.id, name))
        if known is None:
            self._forget_idle(owner)
            known = self._known[key] = Destination(name, limits, owner)
            owner.destinations += 1
        else:
            self._known.move_to_end(key)
        return known

    @property
    def known(self) -> MappingProxyType[DestinationKey, Destination]:
        """Return all by tenant and name, the one used least recently first. Looking one up here is not using it."""
        return MappingProxyType(self._known)

    def open_breakers(self) -> int:
        """Count the destinations whose breaker is not closed."""
        return sum(not destination.breaker.closed for destination in self._known.values())

    def _forget_idle(self, owner: Tenant) -> None:
        free = self._keep - len(self._known)
        if free > 0 and self._tenants.may_have(owner.destinations, free):
            return
        for key, one in list(islice(self._known.items(), _LOOKED_AT)):
            if one.in_use:
                self._known.move_to_end(key)
            elif free <= 0 or one.tenant is owner:
                del self._known[key]
                one.tenant.destinations -= 1
                return
