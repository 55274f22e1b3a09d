"""All processes of the pipeline around one database and one broker, and how they come to rest."""

from collections.abc import Callable, Sequence
from typing import Any, Final

from tests.model.broker import PARTITIONS, Place
from tests.model.consumer import HIGH, NORMAL, TOPICS, ConsumerNode, PromiseBrokenError
from tests.model.database import Administrator, Crash
from tests.model.promises import Promises
from tests.model.provider import Gate
from tests.model.services import DlqNode, RelayNode, Stage

NODES: Final = 2
CHANNEL_PLACES: Final[tuple[Place, ...]] = tuple((topic, n) for topic in (NORMAL, HIGH) for n in range(PARTITIONS))
DLQ_PLACES: Final[tuple[Place, ...]] = tuple((TOPICS.dlq, n) for n in range(PARTITIONS))
ROUNDS: Final = 30
TASKS: Final = ("promote", "end_leases", "resume_held", "sweep", "prune_keys")
ROUND_S: Final = 8_000.0


class World:
    """Two relays, two delivery consumers, two DLQ consumers; each can end at any step, and another takes its place."""

    def __init__(self, stage: Stage, administrator: Administrator) -> None:
        stage.begin()
        administrator.empty()
        self.stage, self.administrator, self.broker, self.clock = stage, administrator, stage.broker, stage.clock
        self.promises = Promises(administrator, self.broker)
        self.broker.make_topics(TOPICS.all())
        self.api: Any = stage.links.connect("", application_name="api", settings=("SET lock_timeout = '5s'",))
        self.application: Any = None  # an application's own connection, its transaction open
        self._numbers = 0
        self.owners: dict[Place, ConsumerNode | None] = dict.fromkeys(CHANNEL_PLACES)
        self.relays = [RelayNode(stage) for _ in range(NODES)]
        self.consumers = [self._new_consumer() for _ in range(NODES)]
        self.zombies: list[ConsumerNode] = []
        self.dlq = [self._new_dlq() for _ in range(NODES)]
        self.assign()

    def _new_consumer(self) -> ConsumerNode:
        self._numbers += 1
        return ConsumerNode(
            self._numbers,
            clock=self.clock,
            broker=self.broker,
            administrator=self.administrator,
            witness=self.promises,
        )

    def _new_dlq(self) -> DlqNode:
        self._numbers += 1
        return DlqNode(self.stage, self._numbers)

    # Groups

    def assign(self) -> None:
        """Give partitions that nobody owns to whoever has the fewest."""
        for node in self.consumers:
            for place in node.left():
                self.owners[place] = None
        for place in [place for place, owner in self.owners.items() if owner is None]:
            ready = [node for node in self.consumers if not (node.frozen or node.stopping or node.leaving)]
            if ready and place in self.broker.logs:
                node = min(ready, key=lambda one: len(one.positions))
                self.owners[place] = node
                node.assign(place)
        for number, reader in enumerate(node.reader for node in self.dlq):
            mine = [place for place in DLQ_PLACES if place[1] % NODES == number and place in self.broker.logs]
            if set(reader.positions) != set(mine):
                reader.assign(mine)

    def lose_places(self, node: ConsumerNode, places: Sequence[Place]) -> None:
        """The group goes on without this member; it will hear of it when it polls."""
        for place in places:
            self.owners[place] = None
            node.unheard_losses.add(place)

    def owned(self, node: ConsumerNode) -> list[Place]:
        """The partitions that the group thinks are this node's."""
        return [place for place, owner in self.owners.items() if owner is node]

    # Ends of processes

    def crash_consumer(self, node: ConsumerNode, *, calls_arrived: bool) -> None:
        """Kill a consumer; its calls under way have reached the receiver, or not. Another is started."""
        if calls_arrived:
            for gate in node.gates.of("provider"):
                id_, attempt = gate.ticket
                self.promises.delivered(id_, attempt, "cut")
        for place in self.owned(node):
            self.owners[place] = None
        node.end()
        if node in self.consumers:
            self.consumers[self.consumers.index(node)] = self._new_consumer()
        else:
            self.zombies.remove(node)

    def replace_consumer(self, node: ConsumerNode) -> None:
        """One that has stopped by itself, or hangs, is replaced."""
        if node in self.consumers:
            self.consumers[self.consumers.index(node)] = self._new_consumer()

    def crash_relay(self, number: int) -> None:
        """Kill a relay and start another."""
        self.relays[number].end()
        self.relays[number] = RelayNode(self.stage)

    def crash_dlq(self, number: int) -> None:
        """Kill a DLQ consumer and start another."""
        self.dlq[number].end()
        self.dlq[number] = self._new_dlq()

    def guarded(self, step: Callable[[], Any], crash: Callable[[], None]) -> Any:
        """Run a step of a process in which a trap may be sprung."""
        try:
            return step()
        except Crash:
            crash()
            return None
        finally:
            self.stage.links.trap = None

    def pass_time(self, seconds: float) -> None:
        """Let the clock of every process and of PostgreSQL move on."""
        self.clock.elapsed_s += seconds
        self.administrator.pass_time(seconds)
        for node in [*self.consumers, *self.zombies]:
            node.settle()

    def end_application(self, *, commit: bool) -> None:
        """End the open transaction of the application."""
        conn, self.application = self.application, None
        conn.execute("COMMIT" if commit else "ROLLBACK")
        conn.close()

    # Rest

    def check(self) -> None:
        """Hold all promises against the moment; and no service leaves a transaction open between two steps."""
        if waiting := set(self.stage.links.in_transaction()) - {"application"}:
            raise PromiseBrokenError(f"a transaction of {', '.join(sorted(waiting))} was left open")
        self.promises.check(self.administrator.snapshot())

    def come_to_rest(self) -> None:
        """Heal everything, let it run, and see that everything has ended."""
        if self.application is not None:
            self.end_application(commit=False)
        self.broker.limbo.clear()
        self.broker.make_topics(TOPICS.all())
        for zombie in list(self.zombies):
            self.crash_consumer(zombie, calls_arrived=False)
        for node in self.consumers:
            if node.frozen:
                node.frozen = False
                node.settle()
            if node.unheard_losses:
                node.hear_of_losses()
        for relay in self.relays:
            relay.frozen = False
        for _ in range(ROUNDS):
            self._round()
            if self._is_at_rest():
                break
            self.pass_time(ROUND_S)
        now = self.administrator.snapshot()
        self.promises.check(now)
        self.promises.check_rest(now)

    def _round(self) -> None:
        for relay in self.relays:
            for _ in range(3):
                relay.run_once()
                while relay.producer.queue:
                    relay.producer.answer("stored")
            if relay.upkeep.lead():
                for name in ("gauges", *TASKS):
                    relay.keep_up(name)
        self.assign()
        for node in list(self.consumers):
            self._finish(node)
        for dlq in self.dlq:
            while dlq.run_once():
                pass

    def go_well(self, stage: int, reply: str) -> None:
        """Let whatever is on its way go on, as far as a stage: see machine.STAGES."""
        for relay in self.relays:
            if not relay.frozen:
                relay.run_once()
                while relay.producer.queue:
                    relay.producer.answer("stored")
                relay.run_once()
        self.assign()
        for node in [one for one in self.consumers if not one.frozen and stage >= 1]:
            node.poll(6)
            if stage >= 2:
                node.run_on()
            if stage >= 3:
                for gate in node.gates.of("provider"):
                    node.say(gate, reply)
                node.run_on()
            if stage >= 4:
                node.commit_safe()
        for dlq in self.dlq if stage >= 5 else []:
            dlq.run_once()
        self.assign()

    def _finish(self, node: ConsumerNode) -> None:
        for _ in range(200):
            polled = node.poll(10)
            said = node.run_on()
            calls: list[Gate] = node.gates.of("provider")
            for gate in calls:
                node.say(gate, "accepted")
            self.assign()
            if not (polled or said or calls):
                break
        else:
            raise PromiseBrokenError("a consumer is busy for ever")
        node.commit_safe()
        if node.stopping and not node.leaving:
            node.end()
            self.replace_consumer(node)
            self.assign()

    def _is_at_rest(self) -> bool:
        row = self.administrator.rows(
            """SELECT NOT EXISTS (SELECT FROM outbox) AND NOT EXISTS (
                   SELECT FROM notifications WHERE status IN ('pending', 'scheduled', 'processing'))
                 AND NOT EXISTS (SELECT FROM dlq_messages WHERE retry_at IS NOT NULL OR status = 'retrying')
                 AND NOT EXISTS (SELECT FROM notifications n WHERE status = 'failed' AND NOT EXISTS (
                   SELECT FROM dlq_messages d WHERE d.notification_id = n.id AND d.attempt >= n.attempt))"""
        )
        unread = any(
            record.offset >= self.broker.safe(place)
            for place, log in self.broker.logs.items()
            for record in log.records
        )
        return bool(row[0][0]) and not unread

    def close(self) -> None:
        """End every process."""
        if self.application is not None:
            self.end_application(commit=False)
        for node in [*self.consumers, *self.zombies]:
            node.end()
        for relay in self.relays:
            relay.end()
        for dlq in self.dlq:
            dlq.end()
        self.api.close()


def open_application(stage: Stage) -> Any:
    """Open a transaction of an application's own."""
    conn = stage.links.connect("", application_name="application")
    conn.execute("BEGIN")
    return conn
