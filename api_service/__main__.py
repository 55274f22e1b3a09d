"""Wire and run the API: `python -m api_service`."""

import os

from api_service.settings import read_settings
from shared import runtime_dir
from shared.settings import refuse_to_start, settings_or_exit

SERVICE = "api_service"


def main() -> None:
    """Serve until SIGTERM. Exits 2 when the settings cannot be used or the port is taken."""
    settings = settings_or_exit(SERVICE, read_settings)
    with runtime_dir.held("notify-api") as directory:
        # prometheus_client decides at import whether processes share their counts, so whatever imports it comes later.
        os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(directory.counts)
        from api_service.server import Server, bind_fault  # noqa: PLC0415
        from shared.telemetry import set_up_logging  # noqa: PLC0415

        set_up_logging(SERVICE, settings.service.log_level)
        if fault := bind_fault(settings.service.bind_host, settings.service.port):
            refuse_to_start(SERVICE, [fault])
        Server(settings, directory.path).run()


if __name__ == "__main__":
    main()
