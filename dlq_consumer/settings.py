"""What the DLQ consumer reads from the environment."""

from dataclasses import dataclass

from shared.settings import Environment, KafkaSettings, ServiceSettings, read_kafka, read_service


@dataclass(frozen=True, slots=True)
class Settings:
    """Settings of the DLQ consumer; each comment names the variable and its effect."""

    service: ServiceSettings
    kafka: KafkaSettings
    retry_ladder_s: tuple[float, ...]  # RETRY_LADDER_S: seconds before each retry; its length is the limit of retries
    poll_s: float  # DLQ_POLL_S: how often due retries and new bulk retries are looked for
    batch_rows: int = 500
    outage_wait_s: float = 0.5


def read_settings(env: Environment) -> Settings:
    """Read the DLQ consumer's settings; faults stay with `env`."""
    return Settings(
        service=read_service(env, port_variable="DLQ_PORT", port=8083),
        kafka=read_kafka(env),
        retry_ladder_s=env.listed(
            "RETRY_LADDER_S", "60,300,1800,7200,28800,86400", "positive seconds, separated by commas", _delay_s
        ),
        poll_s=env.seconds("DLQ_POLL_S", 0.2, low=0.05, high=60),
    )


def _delay_s(text: str) -> float:
    delay_s = float(text)
    if not 0 < delay_s <= 2_592_000:  # thirty days, how long the topic keeps dead letters
        raise ValueError
    return delay_s
