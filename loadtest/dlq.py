"""The DLQ test: receivers that fail in six ways and heal at set times; every dead letter is followed to its end.

    refused     nobody listens at the port          transient   retried until it heals, then sent
    error_500   500                                 transient   the same
    busy_503    503 with Retry-After                transient   the same, no sooner than asked for
    timeout     takes the request, never answers    unknown     the same: nobody can know whether it arrived
    garbage     answers what is no HTTP             unknown     the same
    gone_410    410                                 permanent   at rest, for a person; it does not heal

Each way is an origin of its own, and gets a sixth of the notifications.
"""

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import click
import psycopg

from loadtest import profiles
from loadtest.command import carry_out, refusing
from loadtest.errors import RunError
from loadtest.letters import End, Letters, Standing
from loadtest.limits import at_most
from loadtest.measuring import Look
from loadtest.options import reports_option, seed_option
from loadtest.profiles import ProfileError
from loadtest.results import Limit
from loadtest.running import Running
from loadtest.stamps import now_us
from loadtest.target import maker

NAME: Final = "dlq"
_SETTLED_LOOKS: Final = 3


@dataclass(frozen=True, slots=True)
class Way:
    """One way of failing."""

    name: str
    manner: dict[str, Any]
    heals_after_s: float | None  # from the beginning of the load; None: never


WAYS: Final = (
    Way("refused", {"way": "refused"}, 20),
    Way("error_500", {"way": "status", "status": 500}, 25),
    Way("busy_503", {"way": "status", "status": 503, "retry_after_s": 5}, 30),
    Way("timeout", {"way": "hang"}, 35),
    Way("garbage", {"way": "garbage"}, 40),
    Way("gone_410", {"way": "status", "status": 410}, None),
)
STATES: Final = ("failed", "retrying", "resolved", "at rest")


@dataclass(slots=True)
class Watch:
    """Follows the dead letters, a look at a time."""

    running: Running
    letters: Letters
    began_s: float
    healed: set[str] = field(default_factory=set)
    recovered_s: dict[str, float] = field(default_factory=dict)  # by way: from healing to its last dead letter
    overdue_s: float = 0.0
    settled_looks: int = 0
    _last: Standing = field(default_factory=Standing)

    def look(self, look: Look) -> None:
        """Look once."""
        standing = self.letters.standing()
        self._draw(look, standing)
        self.overdue_s = max(self.overdue_s, standing.overdue_s)
        for way in WAYS:
            if way.heals_after_s is not None:
                self._follow(way, standing, look.at_s, self.began_s + way.heals_after_s)
        calm = look.under_way == 0 and all(standing.settled(way.name) for way in WAYS)
        ended = calm and self.letters.unended() == 0 and self.letters.untracked() == 0
        self.settled_looks = self.settled_looks + 1 if ended else 0
        self._last = standing

    def _follow(self, way: Way, standing: Standing, at_s: float, heals_at_s: float) -> None:
        if at_s >= heals_at_s and way.name not in self.healed:
            self.healed.add(way.name)
            self.running.event(f"{way.name} heals")
        if way.name in self.healed and standing.settled(way.name):
            if way.name not in self.recovered_s:
                self.running.event(f"{way.name}: every dead letter is resolved")
                self.recovered_s[way.name] = at_s - heals_at_s
        else:
            self.recovered_s.pop(way.name, None)

    def _draw(self, look: Look, standing: Standing) -> None:
        lines, at_s = self.running.lines, look.at_s
        for state in STATES:
            lines.add("backlog", f"dead letters {state}", "dead letters", at_s, standing.total(state))
        for way in WAYS:
            retried = standing.retries[way.name] - self._last.retries[way.name]
            lines.add("retries", f"retries to {way.name}", "1/s", at_s, max(0, retried) / look.took_s)
        lines.add("lag", "oldest retry that is due", "s", at_s, standing.overdue_s)


def dead_letters(running: Running) -> None:
    """Have receivers fail, load them, watch them heal, and judge what became of every dead letter."""
    assert running.target.database_url is not None  # noqa: S101 - nothing is started without it
    begin_us, began_s = now_us(), running.clock()
    for origin, way in enumerate(WAYS):
        heals = {} if way.heals_after_s is None else {"until_us": begin_us + round(way.heals_after_s * 1e6)}
        running.crew.behave(origin, **way.manner, **heals)
    letters = Letters(running.target.database_url, destinations(running.target.hooks))
    watch = Watch(running, letters, began_s)
    try:
        running.on_look = watch.look
        running.event("the load begins; all receivers fail")
        running.play(*running.profile.stages)
        running.event("the load has ended; waiting for every dead letter")
        running.watch(running.profile.drain_s, until=lambda _: watch.settled_looks >= _SETTLED_LOOKS)
        running.on_look = lambda _: None
        judge(running, watch)
    except psycopg.Error as error:
        raise RunError(f"the database could not be asked: {error}") from error
    finally:
        running.on_look = lambda _: None
        letters.close()


def destinations(hooks: Sequence[str]) -> dict[str, str]:
    """Which way of failing a destination is."""
    return {hook: way.name for hook, way in zip(hooks, WAYS, strict=True)}


def judge(running: Running, watch: Watch) -> None:
    """Note what was promised of the dead letters, and what came of it."""
    found, limits, letters = running.found, running.profile.limits, watch.letters
    ends = letters.ends()
    unfit = sum(end.count for end in ends if not is_fitting(end))
    standing, seen = letters.standing(), running.measured.retries_by
    unfailed = sum(not standing.stands.get(way.name) for way in WAYS)
    # Not the other way round: at a closed port, or a breaker that is open, an attempt ends without a call.
    unwritten = sum(max(0, seen[str(origin)] - standing.retries[way.name]) for origin, way in enumerate(WAYS))
    for name, count, of in (
        ("each receiver failed", unfailed, "without dead letters"),
        ("each retry is an attempt", unwritten, "seen by a receiver beyond those written down"),
        ("each failure is tracked", letters.untracked(), "without a dead letter"),
        ("each ended for its reason", unfit, "neither resolved nor at rest as they should be"),
        ("retries are counted", letters.miscounted(), "whose count is not that of their attempts"),
        ("everything ended", letters.unended(), "still pending or processing"),
    ):
        found.limits.append(Limit(name, f"none {of}", f"{count:,}", count == 0))
    if "overdue_s" in limits:
        found.limits.append(at_most("overdue_s", limits["overdue_s"], watch.overdue_s, "s"))
    for way in WAYS:
        if way.heals_after_s is not None and "recovery_s" in limits:
            found.limits.append(
                at_most(f"recovery_s {way.name}", limits["recovery_s"], watch.recovered_s.get(way.name), "s")
            )
    for end in ends:
        found.counts[f"{end.name}: {end.status}, {end.why}"] = end.count
    for name, retries in sorted(standing.retries.items()):
        found.counts[f"{name}: retries"] = retries


def is_fitting(end: End) -> bool:
    """Say whether dead letters ended as they should."""
    if end.name == "gone_410":
        return (end.status, end.why, end.failure_class, end.is_due_never) == ("failed", "permanent", "permanent", True)
    return (end.status, end.why) == ("resolved", "sent")


@click.command("dlq")
@seed_option
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Change a value of the profile dlq.")
@reports_option
def command(*, seed: int, overrides: tuple[str, ...], reports: Path) -> None:
    """Send 10,000 notifications to receivers that fail in six ways and heal; follow every dead letter to its end.

    Exit 0: every limit held. 1: some did not. 2: bad usage or configuration. 3: the run broke, or was ended by Ctrl-C.
    """
    with refusing():
        profile = profiles.load(NAME, overrides)
        if profile.receivers.origins != len(WAYS):
            raise ProfileError([f"receivers.origins: {profile.receivers.origins}; expected {len(WAYS)}, one per way"])
        target = maker(profile, os.environ, say=lambda _: None)
    sys.exit(carry_out("dlq", profile, dead_letters, seed=seed, overrides=overrides, target=target, reports=reports))
