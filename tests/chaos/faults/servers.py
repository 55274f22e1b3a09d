"""PostgreSQL and Kafka stopped, killed, frozen, and their connections cut from within."""

import time
from typing import TYPE_CHECKING

import psycopg

from infra.local.errors import LocalStackError
from infra.local.kafka import Kafka
from tests.chaos.faults import Bites, Kind, Planned

if TYPE_CHECKING:
    from tests.chaos.world import World

_PATIENCE_S = 240.0
_OURS = "datname = 'notifications' AND pid <> pg_backend_pid() AND backend_type = 'client backend'"


class PostgresCrash:
    """PostgreSQL ends as in a crash (immediate shutdown), stays away for a while and recovers."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.sessions = 0

    def inject(self, world: "World") -> None:
        """Crash it."""
        self.sessions = int(world.value(f"SELECT count(*) FROM pg_stat_activity WHERE {_OURS}", default=0))
        world.topology.postgres.stop(immediate=True)

    def heal(self, world: "World") -> None:
        """Start it; crash recovery is waited for."""
        began = time.monotonic()
        world.topology.postgres.start()
        self.recovered_s = round(time.monotonic() - began, 2)

    def bites(self, world: "World") -> Bites:
        """Sessions of ours were cut off."""
        return Bites(int(self.sessions > 0), {"sessions": self.sessions, "recovered_s": self.recovered_s})


class PostgresKill(PostgresCrash):
    """SIGKILL of PostgreSQL with all its backends."""

    def inject(self, world: "World") -> None:
        """Kill it."""
        self.sessions = int(world.value(f"SELECT count(*) FROM pg_stat_activity WHERE {_OURS}", default=0))
        world.topology.postgres.kill()


class TerminateBackends:
    """A storm of pg_terminate_backend: for a while a random half of all sessions is ended again and again."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.ended = self.busy = 0

    def inject(self, world: "World") -> None:
        """End sessions until the time is over."""
        rng = self.planned.rng()
        until = time.monotonic() + self.planned.for_s
        query = f"""
            SELECT state = 'active', pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE {_OURS} AND hashtext(pid::text || %s) %% 2 = 0
        """
        while time.monotonic() < until:
            try:
                rows = world.rows(query, str(rng.random()))
            except psycopg.OperationalError:
                break
            self.ended += sum(row[1] for row in rows)
            self.busy += sum(bool(row[0]) for row in rows)
            time.sleep(rng.uniform(0.05, 0.4))

    def heal(self, world: "World") -> None:
        """Nothing is left of it."""

    def bites(self, world: "World") -> Bites:
        """Sessions were ended."""
        return Bites(self.ended, {"sessions_ended": self.ended, "in_a_statement": self.busy})


def started(kafka: Kafka) -> None:
    """Start the broker; on a machine that is short of processors it may take minutes."""
    try:
        kafka.start()
    except LocalStackError:
        kafka.wait_ready(timeout_s=_PATIENCE_S)


class KafkaKill:
    """SIGKILL of the broker, started again later."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned

    def inject(self, world: "World") -> None:
        """Kill it."""
        self.ran = world.topology.kafka.process.is_running
        world.topology.kafka.kill()

    def heal(self, world: "World") -> None:
        """Start it, and see what had piled up meanwhile."""
        self.waiting = int(world.value("SELECT count(*) FROM outbox", default=0))
        started(world.topology.kafka)

    def bites(self, world: "World") -> Bites:
        """Rows had to wait in the outbox."""
        return Bites(int(self.ran and self.waiting > 0), {"outbox_rows_waiting": self.waiting})


class KafkaRestart(KafkaKill):
    """The broker stopped in order, started again later."""

    def inject(self, world: "World") -> None:
        """Stop it."""
        self.ran = world.topology.kafka.process.is_running
        world.topology.kafka.stop()


class KafkaStop(KafkaKill):
    """SIGSTOP of the broker: connections stay open, nothing is answered."""

    def inject(self, world: "World") -> None:
        """Freeze it."""
        self.ran = world.topology.kafka.process.is_running
        world.topology.kafka.process.pause()

    def heal(self, world: "World") -> None:
        """Let it go on."""
        self.waiting = int(world.value("SELECT count(*) FROM outbox", default=0))
        world.topology.kafka.process.resume()


KINDS = (
    Kind("postgres_crash", ("postgres",), PostgresCrash, 0.5, (0.5, 6.0)),
    Kind("postgres_kill9", ("postgres",), PostgresKill, 0.4, (0.5, 4.0)),
    Kind("postgres_terminate_backends", ("postgres",), TerminateBackends, 1.0, (0.3, 2.0)),
    Kind("kafka_kill9", ("kafka",), KafkaKill, 0.5, (0.5, 6.0)),
    Kind("kafka_restart", ("kafka",), KafkaRestart, 0.4, (0.5, 4.0)),
    Kind("kafka_sigstop", ("kafka",), KafkaStop, 0.7, (0.5, 12.0)),
)
