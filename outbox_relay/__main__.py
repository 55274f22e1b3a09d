"""Wires and runs the relay: `python -m outbox_relay`."""

import logging
import sys
from typing import Final

from outbox_relay.relay import Relay
from outbox_relay.settings import read_settings
from outbox_relay.upkeep import Upkeep
from shared.lifecycle import run_beside, seek_cycles_seldom, stop_on_signals
from shared.settings import settings_or_exit
from shared.telemetry import HealthServer, set_up_logging

log = logging.getLogger(__name__)
SERVICE = "outbox_relay"
_OBJECTS_BEFORE_COLLECTION: Final = 50_000
"""Ten pages of rows."""


def main() -> None:
    """Run the relay until SIGTERM; exit 2 on a bad configuration."""
    settings = settings_or_exit(SERVICE, read_settings)
    set_up_logging(SERVICE, settings.service.log_level)
    stop = stop_on_signals()
    seek_cycles_seldom(_OBJECTS_BEFORE_COLLECTION)
    relay = Relay(settings, stop)
    upkeep = Upkeep(settings, stop, passed=lambda: relay.passed, front=lambda: relay.front)
    health = HealthServer(
        SERVICE,
        settings.service.bind_host,
        settings.service.port,
        {"postgres": relay.postgres_fault, "kafka": relay.kafka_fault, "upkeep": upkeep.fault},
    )
    keeper = run_beside("upkeep", upkeep.run, stop)
    log.info("started", extra={"port": settings.service.port})
    try:
        relay.run()
    finally:
        stop.set()  # the upkeep ends with the loop, however that ended
        keeper.join(timeout=5)
        health.close()
    log.info("stopped")
    sys.exit(keeper.failed)


if __name__ == "__main__":
    main()
