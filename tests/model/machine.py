"""What may happen, one rule each. Hypothesis draws the order; after every step all promises are looked at."""

import sys
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any, Final, get_args
from uuid import UUID

from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from api_service.accept import NotificationRequest, Origin, prepare, write
from api_service.idempotency import Answer, KeyedRequest, accept_once
from api_service.problems import Problem
from shared.db import dlq_actions, notifications, suppressions
from shared.model import Channel, OnUnknown, Priority
from shared.records import record_headers
from tests.model import broker as kafka
from tests.model.consumer import HIGH, NORMAL, STORE, TOPICS, ConsumerNode
from tests.model.database import Administrator, Trap
from tests.model.promises import Accepted, broken
from tests.model.provider import REPLIES, Gate
from tests.model.services import KEEP_KEYS_S, Stage
from tests.model.world import NODES, TASKS, World, open_application

MOST: Final = 14  # notifications of one example: what is small is soon repeated
MOST_REPEATS: Final = 8  # of requests that were answered before: they are always possible, and would fill the example
KINDS: Final = ("plain", "plain", "high", "key a", "key a", "key b", "scheduled", "expires", "hold", "too large")
TRAPS: Final = st.one_of(
    st.none(),
    st.builds(Trap, st.integers(1, 4), st.sampled_from(["before", "after"]), st.booleans()),
)
WHICH: Final = st.integers(0, NODES - 1)
NUMBERS: Final = st.integers(0, 30)
WAITS: Final = st.sampled_from([1.0, 40.0, 100.0, 700.0, 3_500.0, 9_000.0])


STAGES: Final = ("published", "received", "called", "answered", "committed", "tracked")


def disaster(when: Callable[["Pipeline"], bool] = lambda _: True) -> Callable[[Any], Any]:
    """Let a rule run only after as many quiet steps as the example has drawn, so that there is something to hurt."""
    return precondition(lambda self: self.calm_steps >= self.calm_wanted and when(self))


DISASTERS: Final = frozenset(
    {
        "relay_crashes",
        "relay_stops_or_wakes",
        "broker_loses_or_repeats",
        "topic_is_deleted",
        "offsets_are_lost",
        "consumer_crashes",
        "consumer_stops",
        "consumer_is_asked_to_stop",
        "group_rebalances",
        "stranger_writes",
    }
)


class Counted:
    """What ran, over all examples."""

    def __init__(self) -> None:
        self.rules: Counter[str] = Counter()
        self.bites: Counter[str] = Counter()
        self.examples = self.torn = 0

    @property
    def steps(self) -> int:
        """How many rules ran and had something to do."""
        return self.rules.total()


class Pipeline(RuleBasedStateMachine):
    """The pipeline under everything that may happen to it."""

    def __init__(self, stage: Stage, administrator: Administrator, counted: Counted) -> None:
        super().__init__()
        self.counted = counted
        counted.examples += 1
        self.world = World(stage, administrator)
        self.promises, self.broker = self.world.promises, self.world.broker
        self._sent = self._repeats = 0
        self.calm_steps = self.calm_wanted = 0

    @initialize(calm=st.sampled_from([3, 8, 8, 20, 50]))
    def begin(self, calm: int) -> None:
        """Draw how quiet this example is."""
        self.calm_wanted = calm

    def _ran(self, name: str, *bites: str) -> None:
        self.calm_steps = 0 if name in DISASTERS else self.calm_steps + 1
        self.counted.rules[name] += 1
        self.counted.bites.update(bites)

    @property
    def _has_room(self) -> bool:
        return len(self.promises.accepted) < MOST

    def _request(self, kind: str) -> NotificationRequest:
        self._sent += 1
        options: dict[str, Any] = {}
        if kind == "high":
            options["priority"] = Priority.HIGH
        elif kind.startswith("key"):
            options["ordering_key"] = kind
        elif kind == "scheduled":
            options["scheduled_for"] = datetime.now(UTC) + timedelta(seconds=650)
            if self._sent % 2:
                options["expires_at"] = options["scheduled_for"] + timedelta(seconds=2_000)
        elif kind == "expires":
            options["expires_in_s"] = 650.0
        elif kind == "hold":
            options["on_unknown"] = OnUnknown.HOLD
        text = f"{kafka.TOO_LARGE.decode()} {self._sent}" if kind == "too large" else f"{kind} {self._sent}"
        host = "a" if self._sent % 3 else "b"
        return NotificationRequest(Channel.WEBHOOK, f"https://{host}.example/hook", text, **options)

    def _prepared(self, kind: str, *, in_line: bool = True) -> tuple[Any, Accepted]:
        new = prepare(self._request(kind), topics=TOPICS, origin=Origin())
        hold = new.on_unknown is OnUnknown.HOLD
        return new, Accepted(str(new.id), new.record, new.ordering_key, hold, in_line)

    # Producers and people

    @precondition(lambda self: self._has_room)
    @rule(kind=st.sampled_from(KINDS))
    def accept(self, kind: str) -> None:
        """A request without a key."""
        new, entry = self._prepared(kind)
        write(self.world.api, [new])
        self.promises.accept(entry)
        self._ran("accept")

    @precondition(lambda self: self._has_room and self._repeats < MOST_REPEATS)
    @rule(key=st.sampled_from("kl"), body=st.sampled_from("xy"))
    def accept_with_key(self, key: str, body: str) -> None:
        """A request with an idempotency key, or the repeat of one whose answer was lost (I2)."""
        new, entry = self._prepared("plain")
        keyed = KeyedRequest("default", key, body.encode() * 32)
        earlier = self.promises.keys.get(key)
        self._repeats += earlier is not None
        self._ran("accept_with_key", *(["key repeated"] if earlier else []))
        try:
            answer = accept_once(self.world.api, keyed, [new], Answer(202, entry.id.encode()))
        except Problem as problem:
            if earlier is None or earlier[0] == body:
                raise broken(f"I2: {key} was refused: {problem}") from problem
            return
        if not answer.replayed and (earlier is None or self.world.clock.elapsed_s - earlier[2] >= KEEP_KEYS_S):
            self.promises.accept(entry)
            self.promises.keys[key] = (body, entry.id, self.world.clock.elapsed_s)
        elif earlier is None or answer.body.decode() != earlier[1] or not answer.replayed:
            raise broken(f"I2: {key} stands for {earlier}, the answer was {answer.body!r}")

    @precondition(lambda self: self._has_room and self.world.application is None)
    @rule(kind=st.sampled_from(["plain", "key a", "hold"]))
    def application_begins(self, kind: str) -> None:
        """An application accepts inside a transaction of its own, and takes its time."""
        self.world.application = open_application(self.world.stage)
        new, self._uncommitted = self._prepared(kind, in_line=False)
        write(self.world.application, [new])
        self._ran("application_begins")

    @precondition(lambda self: self.world.application is not None)
    @rule(commit=st.booleans())
    def application_ends(self, commit: bool) -> None:
        """It commits or rolls back."""
        self.world.end_application(commit=commit)
        if commit:
            self.promises.accept(self._uncommitted)
        self._ran("application_ends")

    @precondition(lambda self: self.promises.accepted and self._repeats < MOST_REPEATS)
    @rule(number=NUMBERS)
    def cancel(self, number: int) -> None:
        """A producer cancels; a yes holds for ever (I13)."""
        ids = list(self.promises.accepted)
        id_ = ids[number % len(ids)]
        self._repeats += id_ in self.promises.cancelled
        cancelled = notifications.cancel(self.world.api, UUID(id_), tenant_id="default")
        if cancelled:
            self.promises.cancelled.add(id_)
        elif id_ in self.promises.cancelled:
            raise broken(f"I13: {id_} is not cancelled any more")
        self._ran("cancel", "cancel answered 200" if cancelled else "cancel too late")

    def _letter(self, number: int) -> tuple[Any, str | None] | None:
        rows = self.world.administrator.rows(
            "SELECT id, notification_id::text FROM dlq_messages ORDER BY notification_id, topic, original_payload"
        )
        return rows[number % len(rows)] if rows else None

    @precondition(lambda self: self.promises.accepted)
    @rule(number=NUMBERS)
    def replay(self, number: int) -> None:
        """A person replays a dead letter."""
        if (letter := self._letter(number)) is None:
            return
        if dlq_actions.replay(self.world.api, letter[0], tenant_id="default", by="model", note=None):
            self.promises.accepted[str(letter[1])].replays += 1
            self._ran("replay", "replayed")

    @precondition(lambda self: self.promises.accepted)
    @rule(number=NUMBERS)
    def discard(self, number: int) -> None:
        """A person discards a dead letter."""
        if (letter := self._letter(number)) is not None:
            dlq_actions.discard(self.world.api, letter[0], tenant_id="default", by="model", note="")
            self._ran("discard")

    @precondition(lambda self: self.promises.gone)
    @rule()
    def suppression_is_lifted(self) -> None:
        """A person knows that a recipient which was gone is back: what was held goes on."""
        for (id_,) in self.world.administrator.rows("SELECT id FROM suppressions WHERE lifted_at IS NULL"):
            suppressions.lift(self.world.api, id_, tenant_id="default", by="model")
            self.counted.bites["suppressions lifted"] += 1
        self.promises.gone = False
        self._ran("suppression_is_lifted")

    @disaster()
    @rule(topic=st.sampled_from([NORMAL, HIGH, TOPICS.dlq]))
    def stranger_writes(self, topic: str) -> None:
        """Somebody writes bytes that are no record of ours."""
        if self.broker.has(topic) and len(self.promises.poison) < 4:
            value = f"no record {len(self.promises.poison)}".encode()
            self.promises.poison.add(value)
            self.broker.store(topic, b"k", value, record_headers(attempt=1).items())
            self._ran("stranger_writes")

    # Relays

    @rule(which=WHICH, times=st.integers(1, 3), trap=TRAPS)
    def relay_runs(self, which: int, times: int, trap: Trap | None) -> None:
        """A relay goes round; its session, or itself, may end at any statement."""
        relay = self.world.relays[which]
        if relay.frozen:
            return
        self._trapped(trap, lambda: [relay.run_once() for _ in range(times)], lambda: self.world.crash_relay(which))
        self._ran("relay_runs", *(["rows in flight"] if relay.producer.queue else []))

    def _trapped(self, trap: Trap | None, step: Callable[[], Any], crash: Callable[[], None]) -> None:
        links = self.world.stage.links
        links.trap, sprung = trap, links.sprung
        self.world.guarded(step, crash)
        if links.sprung > sprung:
            self.counted.bites["crashes at a statement" if trap and trap.crash else "sessions lost"] += 1

    @disaster()
    @rule(which=WHICH)
    def relay_crashes(self, which: int) -> None:
        """kill -9 between two rounds; what it has produced may still arrive."""
        waiting = bool(self.world.relays[which].producer.queue)
        self.world.crash_relay(which)
        self._ran("relay_crashes", *(["relay killed with rows in flight"] if waiting else []))

    @disaster()
    @rule(which=WHICH)
    def relay_stops_or_wakes(self, which: int) -> None:
        """SIGSTOP until its sessions are over, or SIGCONT."""
        relay = self.world.relays[which]
        relay.frozen = not relay.frozen
        if relay.frozen:
            relay.lose_sessions()
            self._ran("relay_stops_or_wakes")

    @rule(which=WHICH, task=st.sampled_from(TASKS), trap=TRAPS)
    def upkeep_works(self, which: int, task: str, trap: Trap | None) -> None:
        """One task of the upkeep, by whoever leads."""
        relay = self.world.relays[which]
        if relay.frozen:
            return
        moved: list[int] = []
        if task == "sweep":
            relay.keep_up("gauges")
        self._trapped(trap, lambda: moved.append(relay.keep_up(task)), lambda: self.world.crash_relay(which))
        self._ran("upkeep_works", *([f"{task} moved rows"] if any(moved) else []))

    # Kafka

    @precondition(lambda self: any(producer.queue for producer in self.broker.producers))
    @rule(number=NUMBERS, count=st.integers(1, 6), how=st.sampled_from(["stored"] * 6 + list(get_args(kafka.Answer))))
    def broker_answers(self, number: int, count: int, how: kafka.Answer) -> None:
        """Kafka stores what a relay has produced, or does not, and reports it truly, or does not."""
        waiting = [producer for producer in self.broker.producers if producer.queue]
        producer = waiting[number % len(waiting)]
        for _ in range(min(count, len(producer.queue))):
            if producer.queue:
                producer.answer(how)
        self._ran("broker_answers", how)

    @precondition(lambda self: any(self.broker.limbo))
    @rule(number=NUMBERS, count=st.integers(1, 4))
    def late_produce_arrives(self, number: int, count: int) -> None:
        """What a relay that is gone had on the wire arrives after all, in its order."""
        queues = [queue for queue in self.broker.limbo if queue]
        queue = queues[number % len(queues)]
        for _ in range(min(count, len(queue))):
            kafka.arrive(self.broker, queue.popleft())
        self._ran("late_produce_arrives")

    @disaster(lambda self: any(log.records for log in self.broker.logs.values()))
    @rule(number=NUMBERS, repeat=st.booleans())
    def broker_loses_or_repeats(self, number: int, repeat: bool) -> None:
        """A record is gone, or there twice."""
        places = sorted(place for place, log in self.broker.logs.items() if log.records)
        if places:
            place = places[number % len(places)]
            log = self.broker.logs[place]
            unread = [record for record in log.records if record.offset >= self.broker.safe(place)]
            record = (among := log.records if repeat else unread or log.records)[number % len(among)]
            if repeat:
                self.broker.store(place[0], record.key, record.value, record.headers)
            else:
                self.broker.forget(place, [record])
            self._ran("broker_loses_or_repeats", "record repeated" if repeat else "record lost")

    @disaster()
    @rule(topic=st.sampled_from([NORMAL, HIGH, TOPICS.dlq]))
    def topic_is_deleted(self, topic: str) -> None:
        """A topic is deleted; its readers hear of it, the relay makes it anew when it misses it."""
        if not self.broker.has(topic):
            return
        self.broker.delete_topic(topic)
        for place, owner in list(self.world.owners.items()):
            if place[0] == topic and owner is not None:
                self.world.lose_places(owner, [place])
                owner.unheard_losses.discard(place) if owner.frozen else owner.hear_of_losses()
        self.world.assign()
        self._ran("topic_is_deleted")

    @disaster()
    @rule(number=NUMBERS, forward=st.booleans())
    def offsets_are_lost(self, number: int, forward: bool) -> None:
        """A group's committed offsets are gone, or set to the end by somebody. It restarts from there."""
        if forward:
            places = sorted(self.broker.logs)
            if not places:
                return
            self.broker.jump_to_end(places[number % len(places)])
        else:
            self.broker.forget_offsets("dlq" if number % 2 else "delivery")
        for node in list(self.world.consumers):
            self.world.crash_consumer(node, calls_arrived=False)
        for which in range(NODES):
            self.world.crash_dlq(which)
        self.world.assign()
        self._ran("offsets_are_lost")

    # Delivery consumers

    def _consumer(self, which: int) -> ConsumerNode:
        nodes = [*self.world.consumers, *self.world.zombies]
        return nodes[which % len(nodes)]

    def _gates(self, *names: str) -> list[tuple[ConsumerNode, Gate]]:
        nodes = [node for node in [*self.world.consumers, *self.world.zombies] if not node.frozen]
        return [(node, gate) for node in nodes for gate in node.gates.of(*names)]

    @precondition(lambda self: any(node.could_poll for node in self.world.consumers))
    @rule(which=WHICH, count=st.integers(1, 6))
    def consumer_polls(self, which: int, count: int) -> None:
        """Records reach a consumer."""
        nodes = [node for node in self.world.consumers if node.could_poll]
        nodes[which % len(nodes)].poll(count)
        self._ran("consumer_polls")

    @precondition(lambda self: self._gates(*STORE))
    @rule(number=NUMBERS, word=st.sampled_from(["go", "go", "go", "lost", "busy", "locked"]))
    def consumer_goes_on(self, number: int, word: str) -> None:
        """One statement of a consumer goes out, or its answer comes in, or the connection breaks there."""
        gates = self._gates(*STORE)
        node, gate = gates[number % len(gates)]
        word = "go" if gate.name.endswith("after") and word != "lost" else word
        node.say(gate, word)
        self._ran("consumer_goes_on", f"{gate.name}, {word}")

    @precondition(lambda self: self._gates(*STORE))
    @rule(number=NUMBERS)
    def consumer_runs_on(self, number: int) -> None:
        """All statements of a consumer come through, until it waits for its calls."""
        gates = self._gates(*STORE)
        gates[number % len(gates)][0].run_on()
        self._ran("consumer_runs_on")

    @precondition(lambda self: self._gates("provider"))
    @rule(number=NUMBERS, reply=st.sampled_from(("accepted", *REPLIES)))
    def receiver_answers(self, number: int, reply: str) -> None:
        """A call ends."""
        gates = self._gates("provider")
        node, gate = gates[number % len(gates)]
        node.say(gate, reply)
        self.promises.gone |= reply == "gone"
        self._ran("receiver_answers", f"receiver: {reply}")

    @precondition(lambda self: any(node.positions for node in self.world.consumers))
    @rule(which=WHICH)
    def consumer_commits(self, which: int) -> None:
        """Safe offsets are committed."""
        self._consumer(which).commit_safe()
        self._ran("consumer_commits")

    @disaster()
    @rule(which=NUMBERS, calls_arrived=st.booleans())
    def consumer_crashes(self, which: int, calls_arrived: bool) -> None:
        """kill -9, wherever it stands."""
        node = self._consumer(which)
        under_way = [gate.name for gate in node.gates.waiting]
        self.world.crash_consumer(node, calls_arrived=calls_arrived)
        self.world.assign()
        self._ran("consumer_crashes", *(f"consumer killed at {name}" for name in under_way))

    @disaster(lambda self: len(self.world.zombies) < NODES)
    @rule(which=WHICH)
    def consumer_stops(self, which: int) -> None:
        """SIGSTOP, for so long that the group goes on without it and another is started."""
        node = self.world.consumers[which]
        node.frozen = True
        self.world.lose_places(node, self.world.owned(node))
        self.world.replace_consumer(node)
        self.world.zombies.append(node)
        self.world.assign()
        self._ran("consumer_stops")

    @precondition(lambda self: self.world.zombies)
    @rule(number=NUMBERS, hears=st.booleans())
    def consumer_wakes(self, number: int, hears: bool) -> None:
        """SIGCONT: it goes on where it was, sooner or later hears that it lost its partitions, and has no others."""
        node = self.world.zombies[number % len(self.world.zombies)]
        node.frozen = False
        node.settle()
        if hears and node.unheard_losses:
            node.hear_of_losses()
        self._ran("consumer_wakes", *(["zombie woke with work in hand"] if node.gates.waiting else []))

    @disaster()
    @rule(which=WHICH, number=NUMBERS)
    def group_rebalances(self, which: int, number: int) -> None:
        """A partition moves to another consumer, once this one has given it back."""
        node = self.world.consumers[which]
        owned = self.world.owned(node)
        if owned and not (node.frozen or node.stopping or node.leaving):
            node.revoke([owned[number % len(owned)]])
            self.world.assign()
            self._ran("group_rebalances")

    @disaster()
    @rule(which=WHICH)
    def consumer_is_asked_to_stop(self, which: int) -> None:
        """SIGTERM: it gives everything back, and ends once that is done."""
        node = self.world.consumers[which]
        if not (node.frozen or node.stopping or node.leaving):
            node.revoke(self.world.owned(node), stop=True)
            self.world.assign()
            self._ran("consumer_is_asked_to_stop")
        elif node.stopping and not node.leaving:
            node.end()
            self.world.replace_consumer(node)
            self.world.assign()

    # DLQ consumers

    @rule(which=WHICH, trap=TRAPS, at=st.sampled_from([None, None, "before commit", "after commit"]))
    def dlq_consumer_runs(self, which: int, trap: Trap | None, at: Any) -> None:
        """A DLQ consumer goes round; it, or its session, may end on the way."""
        node = self.world.dlq[which]
        node.reader.crash_at = at
        self._trapped(trap, node.run_once, lambda: self.world.crash_dlq(which))
        node.reader.crash_at = None
        self.world.assign()
        self._ran("dlq_consumer_runs")

    @rule(stage=st.sampled_from(STAGES), reply=st.sampled_from(("accepted", *REPLIES)))
    def all_goes_well(self, stage: str, reply: str) -> None:
        """Everything that is on its way gets as far as this stage."""
        self.world.go_well(STAGES.index(stage), reply)
        self.promises.gone |= reply == "gone"
        self._ran("all_goes_well")

    # Time

    @rule(seconds=WAITS)
    def time_passes(self, seconds: float) -> None:
        """For everybody alike."""
        self.world.pass_time(seconds)
        self.world.assign()
        self._ran("time_passes")

    @invariant()
    def promises_hold(self) -> None:
        """I2 to I4, I6 to I9, I11 to I16 at this instant."""
        self.world.check()

    def teardown(self) -> None:
        """I5, I10: left alone, everything ends."""
        try:
            if sys.exc_info()[0] is None:  # or the example has failed already
                self.world.come_to_rest()
        finally:
            self.world.close()
