"""A small pipeline for crash tests: two relays, one process of each other service, traps in all of them, and a careful
client.

Everything is hurried, so that a lease, a ladder and a sweep take seconds. The safety nets that would hide a bug behind
a rescue, the sweeper and the relay's look for missed rows, are off until a scenario wants them: what is lost without
them stays lost, and shows.
"""

import itertools
import json
import shutil
import signal
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Self

from infra.local.errors import LocalStackError
from infra.local.processes import ManagedProcess
from infra.local.watchdog import is_alive
from shared.records import Topics
from tests.chaos import config as files
from tests.chaos import launch, traps
from tests.chaos.asking import Asking, Sender
from tests.chaos.config import Config
from tests.chaos.crash_points import CrashPoint
from tests.chaos.dump import dump
from tests.chaos.faults import connections
from tests.chaos.faults.carrier import Carrier
from tests.chaos.keeper import Keeper
from tests.chaos.ledger import Ledger, now
from tests.chaos.plan import Destination, Plan
from tests.chaos.topology import Topology
from tests.chaos.traps import Armed
from tests.chaos.world import World

LADDER_S = (0.4, 0.6, 0.8, 1.0, 1.0, 1.0, 1.5, 1.5)
LEASE_S = 5.0  # the least the product takes
RELAYS = ("relay-1", "relay-2")
USED = ("api", *RELAYS, "delivery-1", "dlq-1")
_READY_S = 60.0
_STARTS = 4
_FAR_S = 1e6
_OFF = "604800"
_SETTINGS = {
    "RETRY_LADDER_S": ",".join(map(str, LADDER_S)),
    "DLQ_POLL_S": "0.1",
    "DELIVERY_LEASE_S": str(LEASE_S),
    "WEBHOOK_TIMEOUT_S": "1.5",
    "SMTP_TIMEOUT_S": "2",
}
# The broker notices a consumer that was killed after a second instead of six.
_KAFKA = {
    "group.consumer.min.session.timeout.ms": 1000,
    "group.consumer.session.timeout.ms": 1000,
    "group.consumer.min.heartbeat.interval.ms": 200,
    "group.consumer.heartbeat.interval.ms": 250,
}
# A breaker opens for half a second instead of ten and more; a process is in order after seconds instead of a minute.
_DELIVERY: dict[str, object] = {
    "delivery_consumer.destinations.COOL_DOWN_S": 0.5,
    "delivery_consumer.destinations.MAX_COOL_DOWN_S": 1.0,
    "delivery_consumer.delivery._BUSY_RETRY_S": 0.5,
    "delivery_consumer.parent.STEADY_S": 3.0,  # crash points kill one process after the other
}
_BEHAVIOURS = {"ok": 12, "slow": 4, "http_503": 3, "dead": 3, "ambiguous": 3, "hang": 2, "gone": 1}
_OPEN = """
    SELECT count(*) FILTER (WHERE n.status IN ('pending', 'scheduled', 'processing')),
           count(*) FILTER (WHERE n.status = 'failed' AND (d.id IS NULL OR d.status <> 'failed'
                                                           OR d.attempt < n.attempt OR d.retry_at IS NOT NULL)),
           (SELECT count(*) FROM outbox), (SELECT count(*) FROM outbox_due),
           (SELECT count(*) FROM delivery_attempts WHERE outcome = 'begun'),
           (SELECT count(*) FROM dlq_messages d WHERE d.status = 'retrying')
      FROM notifications n LEFT JOIN dlq_messages d ON n.status = 'failed' AND d.notification_id = n.id
"""


class NotSeenError(Exception):
    """Something without which a test means nothing did not happen."""


class Stage:
    """The pipeline, and what a test does with it. Use it as a context manager."""

    def __init__(self, base_dir: Path, *, say: Callable[[str], None] = print) -> None:
        self._base_dir, self.say = base_dir.absolute(), say
        self._stack, self._run = ExitStack(), ExitStack()
        self._senders, self._runs = itertools.count(), itertools.count(1)
        self._mutant: str | None = None
        self._nets_on = False
        self._delivering_by = 1

    def __enter__(self) -> Self:
        shutil.rmtree(self._base_dir, ignore_errors=True)
        try:
            self.topology = self._stack.enter_context(Topology(self._base_dir))
            connections.install_kafka(self.topology, _KAFKA)
            self.topology.start()
            connections.install_postgres(self.topology)
        except BaseException:
            self._stack.close()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._run.close()
        self._stack.close()

    def begin(self, name: str, *, mutant: str | None = None, nets: bool = False) -> None:
        """Begin a run in a directory, a database and topics of its own; whatever ran before is gone."""
        self._end()
        self.run_dir = self._base_dir / name
        self.traps = self.run_dir / "traps"
        self.traps.mkdir(parents=True)
        self._mutant, self._nets_on = mutant, nets
        topology = self.topology
        topology.run_dir = self.run_dir
        topology.topics = Topics(f"crash{next(self._runs)}")
        topology.extra_environ[""] = dict(_SETTINGS)
        topology.launchers[""] = self._launcher
        self._spread_nets()
        plan = Plan(0, _FAR_S, 0.0, 1, (), destinations())
        plan.save(self.run_dir / files.PLAN)
        self.hosts = {name: [one.host for one in plan.destinations if one.behaviour == name] for name in _BEHAVIOURS}
        self.config = Config(
            0, topology.api_url, topology.ports["hooks"], topology.ports["smtp"], topology.secret,
            topology.key.text, now(), now() + _FAR_S, now() + _FAR_S, 0.0, 1,
        )  # fmt: skip
        self.config.save(self.run_dir)
        self.ledger = self._run.enter_context(Ledger(self.run_dir / "ledgers" / "faults.jsonl"))
        self.world = World(topology, Keeper(topology, self.ledger, Random(0)), self.ledger, self.run_dir, now())
        self.carrier = Carrier(topology)
        self._wall = time.time() - now()
        self._start_all()
        self.asking = Asking(self.hosts, topology.ports["hooks"])
        self.sender = self.new_sender()

    def _end(self) -> None:
        self._run.close()
        for process in (*self.topology.services.values(), *self.topology.receivers.values()):
            process.kill()
        self.topology.services.clear()

    def _start_all(self) -> None:
        topology = self.topology
        topology.make_database()
        topology.make_topics()
        with ThreadPoolExecutor(2) as pool:
            for part in [pool.submit(topology.start_receivers), pool.submit(self.start, *USED)]:
                part.result()

    def new_sender(self) -> Sender:
        """A client with a ledger of its own; one for each thread."""
        number = next(self._senders)
        ledger = self._run.enter_context(Ledger(self.run_dir / "ledgers" / f"producer-{number}.jsonl"))
        return Sender(self.config, ledger, number)

    # Services

    def _launcher(self, service: str, package: str) -> list[str]:
        constants: dict[str, object] = {}
        if package == "outbox_relay":
            constants = {"outbox_relay.upkeep.LEASE_GRACE_S": 0.2, "outbox_relay.relay._REBALANCE_EVERY_S": 0.1}
            if not self._nets_on:
                constants["outbox_relay.relay._LOOK_FOR_MISSED_EVERY_S"] = _FAR_S
        if package == "delivery_consumer":
            constants = _DELIVERY
        directory = self.traps if service in USED else None  # a second one comes and goes, and dies at no point
        return launch.arguments(package, traps=directory, name=service, mutant=self._mutant, constants=constants)

    def nets(self, *, on: bool) -> None:
        """Have the sweeper and the look for missed rows, or not."""
        if on is not self._nets_on:
            self._nets_on = on
            self._spread_nets()
            for name in RELAYS:
                self.process(name).terminate()
            self.start(*RELAYS)

    def _spread_nets(self) -> None:
        for name in RELAYS:
            self.topology.extra_environ[name] = {"SWEEP_AFTER_S": "3" if self._nets_on else _OFF}

    def deliver_by(self, processes: int) -> None:
        """Have the delivery consumer be so many processes; a crash point counts the calls of all of them."""
        if processes != self._delivering_by:
            self._delivering_by = processes
            self.topology.extra_environ["delivery-1"] = {"DELIVERY_PROCESSES": str(processes)}
            self.process("delivery-1").terminate()
            self.start("delivery-1")

    def note_deaths_below(self) -> None:
        """Report delivery processes that ended by themselves: their parent has replaced them, nobody else saw it."""
        for code in set(self.topology.replaced_below("delivery-1")) - {-signal.SIGKILL}:
            self.finding("unexpected_death", target="a process of delivery-1", code=code)

    def start(self, *names: str) -> None:
        """Start services that do not run, and return once each is ready; one that walks into its trap starts again.

        Raises LocalStackError when one is not up after a few starts.
        """
        for left in reversed(range(_STARTS)):
            started = [(name, self.topology.start_service(name)) for name in names if not self.runs(name)]
            try:
                for name, process in started:
                    process.wait_healthy(self.topology.ready_url(name), timeout_s=_READY_S)
            except LocalStackError:
                if not left:
                    raise
            else:
                return

    def runs(self, name: str) -> bool:
        """Say whether a service's process is there."""
        process = self.topology.services.get(name)
        return process is not None and process.is_running

    def process(self, name: str) -> ManagedProcess:
        """A service's process."""
        return self.topology.services[name]

    def dead(self) -> list[str]:
        """The services that should run and do not."""
        return [name for name in USED if not self.runs(name)]

    def kill(self, *names: str) -> None:
        """SIGKILL."""
        for name in names:
            self.process(name).kill()

    def back(self) -> None:
        """Start whatever is dead, as it usually is."""
        self.start(*USED)

    def recover(self) -> None:
        """After a scenario that broke off: wake, heal and start everything."""
        for process in (self.topology.kafka.process, self.topology.postgres.process, *self.topology.services.values()):
            process.resume()
        for proxy in self.topology.proxies.values():
            proxy.heal()
        if self.runs("delivery-2"):
            self.process("delivery-2").terminate()
        self.back()

    # Crash points

    def arm(self, point: CrashPoint, hit: int, *, only: str | None = None, along: Iterable[str] = ()) -> None:
        """Have a service die at a point: whichever of its processes comes first, or one; and others with it."""
        traps.arm(Armed(point, hit, only, tuple(self.process(name).pid for name in along)), self.traps)

    def wait_fired(self, points: Iterable[CrashPoint], *, timeout_s: float, give_up: bool = True) -> list[CrashPoint]:
        """Wait until all have fired; return those that have not, disarmed if it is to give up."""
        deadline, left = now() + timeout_s, [point for point in points if not self._has_fired(point)]
        while left and now() < deadline:
            time.sleep(0.05)
            left = [point for point in left if not self._has_fired(point)]
        for point in left if give_up else ():
            traps.disarm(point, self.traps)
        return left

    def _has_fired(self, point: CrashPoint) -> bool:
        pids = traps.killed(point, self.traps)
        return bool(pids) and not any(self._is_there(pid) for pid in pids)

    def _is_there(self, pid: int) -> bool:
        """One that we started is gone when it can be waited for: its first thread may have ended before the others.

        Whatever is below one of those is gone when it no longer runs.
        """
        ours = self.topology.services.values()
        return any(process.is_running and process.pid == pid for process in ours) or is_alive(pid)

    # Looking

    def wait(self, condition: Callable[[], bool], what: str, *, timeout_s: float = 15.0) -> None:
        """Wait for something without which the test would mean nothing. Raises NotSeenError."""
        deadline = now() + timeout_s
        while not condition():
            if now() > deadline:
                raise NotSeenError(f"not seen within {timeout_s:.0f} s: {what}")
            time.sleep(0.05)

    def count(self, query: Any, *parameters: Any) -> int:
        """One number out of the database."""
        return int(self.world.value(query, *parameters, default=-1))

    def counts(self, ids: Sequence[str]) -> dict[str, int]:
        """How many of these notifications stand where."""
        query = "SELECT status, count(*) FROM notifications WHERE id = ANY(%s::uuid[]) GROUP BY status"
        return dict(self.world.rows(query, list(ids)))

    def wait_relayed(self) -> None:
        """Wait until Kafka has everything."""
        self.wait(lambda: self.count("SELECT count(*) FROM outbox") == 0, "an empty outbox")

    def quiet(self, *, within_s: float) -> tuple[bool, tuple[Any, ...]]:
        """Wait until everything has ended; say whether it has, and what was open last."""
        deadline, left = now() + within_s, (-1,)
        while now() < deadline:
            left = self.world.rows(_OPEN)[0]
            if not any(left):
                return True, left
            time.sleep(0.2)
        return False, left

    def finding(self, what: str, **evidence: Any) -> None:
        """Something promised that did not hold, seen on the way; the checker reports it with its own."""
        self.world.note("finding", what=what, **evidence)

    @contextmanager
    def noted(self, kind: str) -> Iterator[None]:
        """Leave in the ledger of faults that one was under way: what Kafka forgets may come out of order."""
        self.world.note("injecting", n=0, kind=kind, target="kafka_topics")
        yield
        self.world.note("healed", n=0, kind=kind, target="kafka_topics")

    def close_books(self, *, reached: bool, left: tuple[Any, ...], took_s: float) -> None:
        """Write what the checker reads besides the ledgers: the database as it is, and what is known of the run."""
        for receiver in self.topology.receivers.values():
            receiver.terminate()  # its ledger is complete then
        with self.world.connection() as conn:
            dump(conn, self.run_dir / "database")
        meta = {
            "seed": 0, "command": "crash-test", "wall_minus_clock": self._wall, "began_at": self.config.began_at,
            "quiet": {"reached": reached, "took_s": took_s, "left": left}, "harness_errors": [],
        }  # fmt: skip
        (self.run_dir / files.META).write_text(json.dumps(meta))


def destinations() -> tuple[Destination, ...]:
    """A few addresses for each behaviour."""
    behaviours = [name for name, count in _BEHAVIOURS.items() for _ in range(count)]
    return tuple(Destination(f"127.31.9.{n + 1}", behaviour, 1.0) for n, behaviour in enumerate(behaviours))
