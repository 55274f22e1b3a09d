"""Wires and runs the DLQ consumer: `python -m dlq_consumer`."""

import logging

from dlq_consumer.consumer import DlqConsumer
from dlq_consumer.settings import read_settings
from shared.lifecycle import stop_on_signals
from shared.settings import settings_or_exit
from shared.telemetry import HealthServer, set_up_logging

log = logging.getLogger(__name__)
SERVICE = "dlq_consumer"


def main() -> None:
    """Run the DLQ consumer until SIGTERM; exit 2 on a bad configuration."""
    settings = settings_or_exit(SERVICE, read_settings)
    set_up_logging(SERVICE, settings.service.log_level)
    stop = stop_on_signals()
    consumer = DlqConsumer(settings, stop)
    health = HealthServer(
        SERVICE,
        settings.service.bind_host,
        settings.service.port,
        {"postgres": consumer.postgres_fault, "kafka": consumer.kafka_fault},
    )
    log.info("started", extra={"port": settings.service.port})
    try:
        consumer.run()
    finally:
        health.close()
    log.info("stopped")


if __name__ == "__main__":
    main()
