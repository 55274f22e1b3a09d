"""Wire and run the API: `python -m api_service`."""

import logging
import os
import sys

from api_service.identity_settings import AuthMode
from api_service.settings import ApiSettings, read_settings
from shared import runtime_dir
from shared.settings import refuse_to_start, settings_or_exit

SERVICE = "api_service"
log = logging.getLogger(__name__)


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
        if settings.identity.mode is AuthMode.OPEN:
            tell_that_it_is_open(settings)
        Server(settings, directory.path).run()


def tell_that_it_is_open(settings: ApiSettings) -> None:
    """Say loudly, to people and to the log, that nobody is asked who they are."""
    host, port = settings.service.bind_host, settings.service.port
    sys.stderr.write(
        f"AUTH_MODE=open: {SERVICE} asks nobody who they are. Whoever reaches {host} at port {port} may send, read and "
        "change everything of the tenant default, and make keys that last. AUTH_MODE=keys closes it, but for those: "
        "notify-admin list keys --tenant default shows them.\n"
    )
    log.warning("auth_mode_open", extra={"bind_host": host, "port": port})


if __name__ == "__main__":
    main()
