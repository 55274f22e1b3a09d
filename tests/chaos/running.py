"""One run: start everything, load it, hurt it, heal it, wait until it is quiet, write down what the database says."""

import json
import platform
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import asdict, dataclass, field
from importlib.metadata import version
from pathlib import Path
from random import Random
from typing import Any

import psycopg
from confluent_kafka import libversion

from infra.local.kafka_jars import KAFKA_VERSION
from infra.local.processes import ManagedProcess, answers_ok
from tests.chaos import config as files
from tests.chaos.config import Config
from tests.chaos.dump import dump
from tests.chaos.faults import connections
from tests.chaos.faults.processes import SEVERAL
from tests.chaos.injecting import Injector
from tests.chaos.keeper import Keeper
from tests.chaos.ledger import Ledger, now
from tests.chaos.plan import Plan
from tests.chaos.quiet import Quiet, wait_for_quiet
from tests.chaos.resources import Sampler
from tests.chaos.topology import REPOSITORY, SERVICES, Topology
from tests.chaos.world import World

_LEAD_S = 3.0
_LATE_S = 60.0
_TELL_EVERY_S = 15.0
_READY_AGAIN_S = 120.0


@dataclass(slots=True)
class Meta:
    """What is known of a run besides its ledgers."""

    seed: int
    command: str
    commit: str
    versions: dict[str, str]
    machine: str
    wall_minus_clock: float = 0.0
    wall_minus_clock_at_end: float = 0.0
    began_at: float = 0.0
    ends_at: float = 0.0
    quiet: dict[str, Any] = field(default_factory=dict)
    harness_errors: list[str] = field(default_factory=list)

    def save(self, run_dir: Path) -> None:
        """Write it."""
        (run_dir / files.META).write_text(json.dumps(asdict(self), indent=1))


class Run:
    """A plan carried out in a directory of its own."""

    def __init__(self, plan: Plan, run_dir: Path, *, say: Callable[[str], None]) -> None:
        self._plan, self._dir, self._say = plan, run_dir.absolute(), say
        self._ledgers = self._dir / "ledgers"
        self._producers: list[ManagedProcess] = []

    def carry_out(self) -> None:
        """Do everything but the checking."""
        self._dir.mkdir(parents=True)
        self._plan.save(self._dir / files.PLAN)
        meta = Meta(self._plan.seed, _command(self._plan), _commit(), {}, _machine(), _offset())
        with ExitStack() as stack:
            topology = stack.enter_context(Topology(self._dir))
            ledger = stack.enter_context(Ledger(self._ledgers / "faults.jsonl"))
            samples = stack.enter_context(Ledger(self._ledgers / "resources.jsonl"))
            connections.install_kafka(topology, {})
            topology.extra_environ[SEVERAL] = {"DELIVERY_PROCESSES": "2"}
            topology.start()
            connections.install_postgres(topology)
            topology.start_services()
            config = self._configure(topology)
            topology.start_receivers()
            meta.began_at, meta.ends_at = config.began_at, config.ends_at
            keeper = Keeper(topology, ledger, Random(f"{self._plan.seed}/keeper"))
            world = World(topology, keeper, ledger, self._dir, config.began_at)
            self._say(f"ready; load for {self._plan.load_s:.0f} s at {self._plan.rate:.0f}/s")
            self._hurt(world, config, Sampler(topology, samples), meta)
            meta.versions = _versions(world)
            with world.connection() as conn:
                dump(conn, self._dir / "database")
            keeper.end()
            meta.wall_minus_clock_at_end = _offset()
            meta.save(self._dir)

    def _configure(self, topology: Topology) -> Config:
        began_at = now() + _LEAD_S
        ends_at = began_at + self._plan.load_s
        config = Config(
            seed=self._plan.seed,
            api_url=topology.api_url,
            hooks_port=topology.ports["hooks"],
            smtp_port=topology.ports["smtp"],
            secret=topology.secret,
            api_key=topology.key.text,
            began_at=began_at,
            ends_at=ends_at,
            heal_at=ends_at,
            rate=self._plan.rate,
            producers=self._plan.producers,
        )
        config.save(self._dir)
        return config

    def _hurt(self, world: World, config: Config, sampler: Sampler, meta: Meta) -> None:
        injector = Injector(world, self._plan.faults, ends_at=config.ends_at)
        for thread in (world.keeper, sampler, injector):
            thread.start()
        self._produce(world)
        self._watch(world, until=config.ends_at)
        injector.join()
        self._wait_until_up(world)
        for producer in self._producers:
            self._wait_for(producer, meta)
        self._say("load and faults have ended; waiting until all is quiet")
        quiet = wait_for_quiet(world)
        self._tell(world)
        self._say(_described(quiet))
        injector.judge()
        for code in set(world.topology.replaced_below(SEVERAL)) - {0, -signal.SIGKILL}:  # faults ask and kill
            world.note("unexpected_death", target=f"a process of {SEVERAL}", code=code)
        sampler.end()
        meta.quiet = asdict(quiet)
        meta.harness_errors += injector.errors

    def _produce(self, world: World) -> None:
        for number in range(self._plan.producers):
            argv = [sys.executable, "-m", "tests.chaos.producer", str(self._dir), str(number)]
            process = world.topology.supervisor.process(f"producer-{number}", argv, cwd=REPOSITORY)
            self._producers.append(process.start())

    def _watch(self, world: World, *, until: float) -> None:
        while now() < until:
            time.sleep(max(0.0, min(_TELL_EVERY_S, until - now())))
            self._tell(world)

    def _tell(self, world: World) -> None:
        query = "SELECT json_object_agg(status, n) FROM (SELECT status, count(*) n FROM notifications GROUP BY 1) s"
        counts = world.value(query, default="PostgreSQL is away")
        self._say(f"{now() - world.began_at:6.0f} s  {counts}")

    def _wait_until_up(self, world: World) -> None:
        """Heal all: what the keeper has still to start is waited for."""
        topology, deadline = world.topology, now() + _READY_AGAIN_S
        for server in (topology.postgres, topology.kafka):
            server.process.resume()
            if not server.process.is_running:
                server.start()
        for process in topology.services.values():
            process.resume()
        ready = [topology.ready_url(service) for service in SERVICES]
        while now() < deadline and not all(answers_ok(url) for url in ready):
            time.sleep(0.2)

    @staticmethod
    def _wait_for(producer: ManagedProcess, meta: Meta) -> None:
        deadline = now() + _LATE_S
        while producer.is_running and now() < deadline:
            time.sleep(0.1)
        if producer.returncode != 0:
            meta.harness_errors.append(f"{producer.name} ended with {producer.returncode}")


def _offset() -> float:
    return time.time() - now()


def _command(plan: Plan) -> str:
    calm = "" if plan.faults else " --calm"
    return f"python -m tests.chaos chaos --seed {plan.seed} --minutes {plan.load_s / 60:g} --rate {plan.rate:g}{calm}"


def _commit() -> str:
    done = subprocess.run(
        ["git", "describe", "--always", "--dirty", "--abbrev=12"],
        cwd=REPOSITORY, capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.stdout.strip() or "unknown"


def _machine() -> str:
    memory = next((line for line in Path("/proc/meminfo").read_text().splitlines() if "MemTotal" in line), "")
    cores = subprocess.run(["nproc"], capture_output=True, text=True, check=False).stdout.strip()
    return f"{cores} cores, {int(memory.split()[1]) // 1024**2 if memory else '?'} GiB, {platform.platform(terse=True)}"


def _versions(world: World) -> dict[str, str]:
    return {
        "python": platform.python_version(),
        "postgresql": str(world.value("SHOW server_version")),
        "kafka": KAFKA_VERSION,
        "librdkafka": libversion()[0],
        "psycopg": psycopg.__version__,
        "confluent-kafka": version("confluent-kafka"),
        "gunicorn": version("gunicorn"),
    }


def _described(quiet: Quiet) -> str:
    if quiet.reached:
        return f"quiet after {quiet.took_s} s; {quiet.replayed} retries planned far ahead were made by hand"
    return f"NOT quiet after {quiet.took_s} s: {quiet.left}"
