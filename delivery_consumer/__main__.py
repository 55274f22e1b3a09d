"""Runs the delivery consumer: `python -m delivery_consumer`. It is one process, or a parent and its processes.

Which of these this one is decides what is imported: a parent knows neither Kafka nor PostgreSQL.
"""

import os
import sys

from delivery_consumer.settings import read_settings
from delivery_consumer.tie import SERVICE, Tie, share_counts
from shared.settings import settings_or_exit


def main() -> None:
    """Deliver until SIGTERM; exit 2 on a bad configuration."""
    settings = settings_or_exit(SERVICE, read_settings)
    tie = Tie.take(os.environ)
    if tie is None and settings.processes > 1:
        from delivery_consumer.parent import run_processes  # noqa: PLC0415

        sys.exit(run_processes(settings))
    if tie is not None:
        share_counts(tie.counts, tie.number)
    from delivery_consumer.service import run  # noqa: PLC0415 - it makes the series, which are shared by now or never

    run(settings, tie)


if __name__ == "__main__":
    main()
