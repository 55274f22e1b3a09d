"""Connections cut, swallowed and delayed, by proxies between our services and their servers.

`install_kafka` and `install_postgres` put the proxies in the way.
"""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal

from infra.local.kafka import Kafka
from tests.chaos.faults import Bites, Kind, Planned
from tests.chaos.proxy import Proxy, Rule

if TYPE_CHECKING:
    from tests.chaos.topology import Topology
    from tests.chaos.world import World

# What tells each of the statements that must survive a lost answer.
STATEMENTS = {
    "accept": "INSERT INTO notifications (",  # one or many
    "claim": "INSERT INTO delivery_attempts",
    "end": "UPDATE delivery_attempts a",  # write-back, rescue and renewal
    "delete": "DELETE FROM outbox",
    "requeue": "SET status = 'pending', attempt = n.attempt + 1",
    "cancel": "SET status = 'cancelled'",
    "track": "INSERT INTO dlq_messages",
}
POSTGRES, KAFKA = "postgres_proxy", "kafka_proxy"


def install_kafka(topology: "Topology", settings: Mapping[str, str | int]) -> None:
    """Put a proxy in front of Kafka, before anything starts: clients go where the broker says it is, so it says so."""
    proxy = Proxy(topology.supervisor, KAFKA, target_port=topology.kafka.port).start()
    advertised = {"advertised.listeners": f"PLAINTEXT://127.0.0.1:{proxy.port}"}
    topology.kafka = Kafka(
        topology.run_dir / "kafka", topology.supervisor, port=topology.kafka.port, settings={**settings, **advertised}
    )
    topology.proxies[KAFKA] = proxy


def install_postgres(topology: "Topology") -> None:
    """Have the services reach PostgreSQL through a proxy; between its start and theirs."""
    proxy = Proxy(topology.supervisor, POSTGRES, target_port=topology.postgres.port, protocol="postgres").start()
    topology.database_port = proxy.port
    topology.proxies[POSTGRES] = proxy


class _ThroughProxy:
    """A rule of a proxy for a while. It bit as often as the proxy did what the rule says."""

    def __init__(self, planned: Planned) -> None:
        self.planned = planned
        self.counts: dict[str, int] = {}

    def rule(self) -> Rule:
        """What the proxy is told."""
        raise NotImplementedError

    @property
    def counted(self) -> str:
        """Which of its counts says that it bit."""
        return self.rule().kind

    def inject(self, world: "World") -> None:
        """Set the rule."""
        world.topology.proxies[self.planned.target].tell(self.rule())

    def heal(self, world: "World") -> None:
        """Let everything pass again."""
        self.counts = world.topology.proxies[self.planned.target].heal()

    def bites(self, world: "World") -> Bites:
        """What the proxy counted."""
        return Bites(self.counts.get(self.counted, 0), self.counts)


class CutAt(_ThroughProxy):
    """A connection is gone when a statement of one kind passes: before the server hears it, or before the client
    hears the answer. Named in the kind: postgres_cut_after_claim.
    """

    def rule(self) -> Rule:
        """A few times, each time with an even chance."""
        _, _, when, statement = self.planned.kind.split("_")
        kind: Literal["cut_before", "cut_after"] = "cut_after" if when == "after" else "cut_before"
        return Rule(kind, (STATEMENTS[statement],), times=5, probability=0.5, seed=self.planned.seed)

    @property
    def counted(self) -> str:
        """An answer that never came cannot be swallowed."""
        return "answers_swallowed" if self.rule().kind == "cut_after" else "cut_before"


class CutAtRandom(_ThroughProxy):
    """Connections are cut at any moment."""

    def rule(self) -> Rule:
        """A busy connection lives for about fifty chunks."""
        return Rule("cut", probability=0.02, times=200, seed=self.planned.seed)


class Blackhole(_ThroughProxy):
    """Nothing passes and nothing closes: a firewall that forgot."""

    def rule(self) -> Rule:
        """Nothing passes."""
        return Rule("blackhole")


class Refuse(_ThroughProxy):
    """All connections are cut, and new ones at once."""

    def rule(self) -> Rule:
        """Nobody connects."""
        return Rule("refuse")


class Delay(_ThroughProxy):
    """Everything takes longer: a server on another continent."""

    def rule(self) -> Rule:
        """A tenth of a second each way."""
        return Rule("delay", delay_s=0.1)


KINDS = (
    *(
        Kind(f"postgres_cut_{when}_{statement}", (POSTGRES,), CutAt, 0.4, (1.0, 4.0))
        for statement in ("accept", "claim", "end", "delete", "requeue", "track")
        for when in ("before", "after")
    ),
    Kind("postgres_cut_random", (POSTGRES,), CutAtRandom, 0.8, (0.5, 3.0)),
    Kind("postgres_blackhole", (POSTGRES,), Blackhole, 0.5, (0.5, 5.0)),
    Kind("postgres_refuse", (POSTGRES,), Refuse, 0.5, (0.3, 4.0)),
    Kind("postgres_delay", (POSTGRES,), Delay, 0.5, (0.5, 3.0)),
    Kind("kafka_cut_random", (KAFKA,), CutAtRandom, 0.5, (0.5, 3.0)),
    Kind("kafka_blackhole", (KAFKA,), Blackhole, 0.5, (0.5, 8.0)),
    Kind("kafka_refuse", (KAFKA,), Refuse, 0.5, (0.3, 4.0)),
    Kind("kafka_delay", (KAFKA,), Delay, 0.5, (0.5, 3.0)),
)
