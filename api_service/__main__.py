"""Wire and run the API: `python -m api_service`."""

import os
import shutil
import tempfile
from pathlib import Path

from api_service.settings import read_settings
from shared.settings import refuse_to_start, settings_or_exit

SERVICE = "api_service"


def main() -> None:
    """Serve until SIGTERM. Exits 2 when the settings cannot be used or the port is taken."""
    settings = settings_or_exit(SERVICE, read_settings)
    runtime_dir = Path(tempfile.mkdtemp(prefix="notify-api-"))
    owner = os.getpid()
    (runtime_dir / "metrics").mkdir()
    # prometheus_client decides at import whether processes share their counts, so whatever imports it comes later.
    os.environ["PROMETHEUS_MULTIPROC_DIR"] = str(runtime_dir / "metrics")
    from api_service.server import Server, bind_fault  # noqa: PLC0415
    from shared.telemetry import set_up_logging  # noqa: PLC0415

    try:
        set_up_logging(SERVICE, settings.service.log_level)
        if fault := bind_fault(settings.service.bind_host, settings.service.port):
            refuse_to_start(SERVICE, [fault])
        Server(settings, runtime_dir).run()
    finally:
        if os.getpid() == owner:  # a worker leaves through here as well
            shutil.rmtree(runtime_dir, ignore_errors=True)


if __name__ == "__main__":
    main()
