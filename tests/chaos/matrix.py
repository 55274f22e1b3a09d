"""Every crash point, at its first and at its second call: armed under a small load, fired, restarted, brought to rest.

Points of different services are armed together where neither needs the other alive; each round is one wave. A relay
dies alone, the one at the first call and the other at the second, and at each point both die at once as well.
"""

import threading
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from tests.chaos.asking import Sender, after
from tests.chaos.crash_points import BY_NAME, POINTS, CrashPoint
from tests.chaos.ledger import now
from tests.chaos.stage import RELAYS, NotSeenError, Stage
from tests.chaos.traps import killed

_FIRES_WITHIN_S = 20.0
_QUIET_WITHIN_S = 45.0
_ROUNDS = 8
# Hit -> of how many processes the delivery consumer is.
_DELIVERING_BY = {1: 1, 2: 2}
# What one relay does for all: which one is not ours to choose.
_LED = frozenset({"relay_after_promote", "relay_after_end_leases", "relay_after_sweep"})


@dataclass(frozen=True, slots=True)
class Wave:
    """Points armed together. `provoke`: what has to be done besides the load for them to be passed. `both_at`: at these
    hits both relays die, whichever of them comes to the relay's point first.
    """

    points: tuple[CrashPoint, ...]
    provoke: Callable[[Stage], None] | None = None
    nets: bool = False
    both_at: tuple[int, ...] = ()

    def arm(self, stage: Stage, hit: int) -> None:
        """Arm its points."""
        for point in self.points:
            if point.service != "outbox_relay":
                stage.arm(point, hit)
            elif hit in self.both_at:
                stage.arm(point, hit, along=RELAYS)
            else:
                stage.arm(point, hit, only=None if point.name in _LED else RELAYS[(hit - 1) % len(RELAYS)])

    def said(self, hit: int) -> str:
        """Its points, for a person."""
        names = (point.name for point in self.points)
        return ", ".join(f"{name} (both)" if name[:6] == "relay_" and hit in self.both_at else name for name in names)


@dataclass(slots=True)
class Outcome:
    """How a wave went."""

    wave: Wave
    hit: int
    silent: list[str] = field(default_factory=list)  # points that never fired
    took_s: float = 0.0
    rested: bool = False
    left: tuple[Any, ...] = ()


def _wave(
    *names: str,
    provoke: Callable[[Stage], None] | None = None,
    nets: bool = False,
    both_at: tuple[int, ...] = (),
) -> Wave:
    return Wave(tuple(BY_NAME[name] for name in names), provoke, nets, both_at)


def _ask_to_end(stage: Stage) -> None:
    """SIGTERM in the middle of the work. Of several processes one dies, and the others drain."""
    time.sleep(0.3)
    process = stage.process("delivery-1")
    process.send_signal(process.stop_signal)
    stage.wait(lambda: not process.is_running, "its end", timeout_s=_FIRES_WITHIN_S)


def _rebalance(stage: Stage) -> None:
    """Others join and leave until the one that is trapped has had its partitions asked back."""
    point = BY_NAME["delivery_in_rebalance"]
    until = now() + 2 * _FIRES_WITHIN_S
    while not killed(point, stage.traps) and now() < until:
        stage.start("delivery-2")
        stage.wait(lambda: bool(killed(point, stage.traps)) or _has_partitions(stage), "a share of the partitions")
        stage.process("delivery-2").terminate()
    if stage.runs("delivery-2"):
        stage.process("delivery-2").terminate()


def _has_partitions(stage: Stage) -> bool:
    log = stage.process("delivery-2").log_path.read_bytes()
    return log.rfind(b"partitions_assigned") > log.rfind(b'"event":"started"')


def _kill_sender(stage: Stage) -> None:
    """Kill the consumer while it sends, until leases have run out often enough: what it ended in time has none left."""
    point = BY_NAME["relay_after_end_leases"]
    query = "SELECT count(*) FROM delivery_attempts WHERE outcome = 'begun' AND began_at > now() - interval '1 second'"
    until = now() + _FIRES_WITHIN_S
    while not killed(point, stage.traps) and now() < until:
        stage.start("delivery-1")
        stage.wait(lambda: stage.count(query) > 0, "a claim")
        stage.kill("delivery-1")
        time.sleep(1.5)


def _lose_records(stage: Stage) -> None:
    """Have Kafka forget what was relayed and not read, twice: the sweeper publishes in two rounds."""
    stage.kill("delivery-1")
    for _ in range(2):
        stage.sender.send(stage.asking.hooks(10))
        stage.wait_relayed()
        time.sleep(1.2)
    with stage.noted("records_dropped"):
        stage.carrier.drop_records(stage.carrier.delivery_topics())


def _retry_by_filter(stage: Stage) -> None:
    """Have what rests, since nobody knows whether it arrived, retried in bulk, one after the other."""
    ids = stage.sender.send(stage.asking.hooks(20, "ambiguous", on_unknown="hold"))
    query = (
        "SELECT count(*) FROM dlq_messages WHERE notification_id = ANY(%s::uuid[]) AND rest_reason = 'on_unknown_hold'"
    )

    def at_rest() -> bool:
        stage.back()  # the relays may have died already, and without them no dead letter gets anywhere
        return stage.count(query, ids) >= 4

    stage.wait(at_rest, "dead letters at rest", timeout_s=30)
    asked = {"filter": {"failure_class": "unknown"}, "dry_run": False, "canary": 0, "rate_per_s": 4}
    stage.wait(lambda: stage.sender.ask("POST", "/api/v1/dead-letters/retry", asked) == 202, "a bulk retry")


WAVES: tuple[Wave, ...] = (
    _wave("api_before_insert", "relay_after_read", "delivery_before_claim", "dlq_before_track"),
    _wave("api_after_insert", "relay_after_produce", "delivery_after_claim", "dlq_after_track"),
    _wave("api_after_insert_master", "relay_before_delete", "delivery_before_send", "dlq_after_requeue"),
    _wave("api_after_cancel", "relay_after_delete", "delivery_after_yes"),
    _wave("api_after_batch", "relay_after_promote", "delivery_before_write_back"),
    _wave("relay_after_read", "delivery_after_write_back", both_at=(1, 2)),
    _wave("relay_after_produce", "delivery_after_commit", both_at=(1, 2)),
    _wave("api_after_direct", "relay_before_delete", "delivery_in_give_back", provoke=_ask_to_end, both_at=(1, 2)),
    _wave("relay_after_delete", "delivery_in_rebalance", provoke=_rebalance, both_at=(1, 2)),
    _wave("relay_after_end_leases", provoke=_kill_sender, both_at=(2,)),
    _wave("relay_after_promote", "dlq_after_retry_step", provoke=_retry_by_filter, both_at=(1, 2)),
    _wave("relay_after_sweep", provoke=_lose_records, nets=True, both_at=(2,)),
)
assert {point.name for wave in WAVES for point in wave.points} == {point.name for point in POINTS}


def run(stage: Stage, *, nets: bool, waves: tuple[Wave, ...] = WAVES, hits: tuple[int, ...] = (1, 2)) -> list[Outcome]:
    """Run the waves that need the nets, or those that do not, once for each hit."""
    outcomes = []
    for hit in hits:
        stage.deliver_by(_DELIVERING_BY[hit])
        outcomes += [run_wave(stage, wave, hit) for wave in waves if wave.nets is nets]
    stage.note_deaths_below()
    stage.deliver_by(1)
    return outcomes


def run_wave(stage: Stage, wave: Wave, hit: int) -> Outcome:
    """Arm, load, provoke, wait for all to fire, start what died, wait for rest."""
    outcome, began, names = Outcome(wave, hit), now(), wave.said(hit)
    stage.world.note("wave", points=names, hit=hit)
    wave.arm(stage, hit)
    load = _Load(stage)
    load.start()
    if wave.provoke:
        with suppress(NotSeenError):  # a point that has fired early may keep what is waited for from coming
            wave.provoke(stage)
    # A service that died may be what another point waits for: it comes back while the others are waited for.
    left = list(wave.points)
    deadline = now() + _FIRES_WITHIN_S
    while left and now() < deadline:
        left = stage.wait_fired(left, timeout_s=0.5, give_up=False)
        stage.back()
    outcome.silent = [point.name for point in stage.wait_fired(left, timeout_s=0.0)]
    load.enough.set()
    stage.back()
    load.join(timeout=60)
    fired_s = now() - began
    outcome.rested, outcome.left = stage.quiet(within_s=_QUIET_WITHIN_S)
    outcome.took_s = round(now() - began, 1)
    for name in outcome.silent:
        stage.finding("crash_point_never_fired", target=name, hit=hit)
    for name in stage.dead():
        stage.finding("unexpected_death", target=name, hit=hit)
    stage.back()
    if not outcome.rested:
        stage.finding("not_ended_after_crash", target=names, hit=hit, left=list(outcome.left))
    verdict = "" if outcome.rested and not outcome.silent else "  NOT AS IT SHOULD BE"
    stage.say(f"  hit {hit}  fired {fired_s:4.1f} s, at rest {outcome.took_s:4.1f} s  {names}{verdict}")
    return outcome


class _Load(threading.Thread):
    """The load of one wave beside whatever happens: two rounds, and more until everything has fired."""

    def __init__(self, stage: Stage) -> None:
        super().__init__(name="load", daemon=True)
        self._stage, self._sender = stage, stage.new_sender()  # a connection is one thread's
        self.enough = threading.Event()

    def run(self) -> None:
        """Ask for a bit of everything, cancel some, repeat some."""
        for number in range(_ROUNDS):
            if number >= 2 and self.enough.is_set():
                return
            for items, keyed in self._stage.asking.mixed():
                self._sender.send(items, key=keyed, repeats=1)
            _cancel_some(self._stage, self._sender)
            self.enough.wait(0.3 * (number + 1))


def _cancel_some(stage: Stage, sender: Sender) -> None:
    ids = [sender.send([stage.asking.hook(scheduled_for=after(2.0))])[0] for _ in range(2)]
    ids += sender.send(stage.asking.hooks(2))[:1]
    for notification_id in ids:
        sender.cancel(notification_id)
