"""Preparing a round of delivery: notifications accepted and relayed, so that their records wait in Kafka."""

import sys

from loadtest.bench.rig import Installation
from loadtest.bench.waiting import wait_for

_PREPARE_S = 900.0


def feed(
    installation: Installation, *, count: int, channel: str, seed: int, url: str | None = None, item_bytes: int = 600
) -> None:
    """Accept so many notifications through the API's functions."""
    argv = [sys.executable, "-m", "loadtest.bench.inside.feed", f"--count={count}", f"--channel={channel}"]
    argv += [f"--seed={seed}", f"--item-bytes={item_bytes}", *([f"--url={url}"] if url else [])]
    installation.rig.run_program("feed", argv, installation.environ(), timeout_s=_PREPARE_S)


def relay_all(installation: Installation) -> None:
    """Run a relay until the outbox is empty."""
    with installation.running("outbox_relay"), installation.connect() as conn:
        wait_for(
            lambda: conn.execute("SELECT NOT EXISTS (SELECT FROM outbox)").fetchall()[0][0],
            timeout_s=_PREPARE_S,
            what="the outbox to drain",
            poll_s=0.2,
        )
