"""What the relay reads from the environment."""

from dataclasses import dataclass

from shared.settings import Environment, Fault, KafkaSettings, ServiceSettings, read_kafka, read_service


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the relay; each comment names the variable and its effect."""

    service: ServiceSettings
    kafka: KafkaSettings
    batch_rows: int  # RELAY_BATCH_ROWS: rows read and sent at a time; four such batches may be in flight
    topic_partitions: int  # KAFKA_TOPIC_PARTITIONS: for topics the relay has to create
    topic_replication: int  # KAFKA_TOPIC_REPLICATION: the same; -1 takes the broker's default
    sweep_after_s: float  # SWEEP_AFTER_S: what stood still for longer, with no outbox row, is published again
    idempotency_keep_s: float  # IDEMPOTENCY_KEEP_S: how long stored answers are kept
    retention_days: int = 30  # RETENTION_DAYS: what ended longer ago is deleted; 0 keeps it for ever
    outage_wait_s: float = 0.5


def read_settings(env: Environment) -> Settings:
    """Read the relay's settings; faults stay with `env`."""
    return Settings(
        service=read_service(env, port_variable="RELAY_PORT", port=8081),
        kafka=read_kafka(env),
        batch_rows=env.integer("RELAY_BATCH_ROWS", 1000, low=1, high=10_000),
        topic_partitions=env.integer("KAFKA_TOPIC_PARTITIONS", 10, low=1, high=1000),
        topic_replication=_replication(env),
        sweep_after_s=env.seconds("SWEEP_AFTER_S", 300, low=1, high=604_800),
        idempotency_keep_s=env.seconds("IDEMPOTENCY_KEEP_S", 86_400, low=86_400, high=31_536_000),
        retention_days=env.integer("RETENTION_DAYS", 30, low=0, high=36_500),
    )


def _replication(env: Environment) -> int:
    copies = env.integer("KAFKA_TOPIC_REPLICATION", -1, low=-1, high=9)
    if copies == 0:
        env.faults.append(Fault("KAFKA_TOPIC_REPLICATION", "0", "-1 for the broker's default, or 1 to 9"))
    return copies
