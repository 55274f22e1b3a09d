"""What runs beside the work, as long as that does."""

import asyncio
import threading
from typing import Any

import pytest

from delivery_consumer import service as entry
from delivery_consumer.settings import read_settings
from shared.settings import Environment
from tests.unit.delivery_consumer.test_settings import GOOD


def test_the_event_loop_is_guarded(monkeypatch: pytest.MonkeyPatch) -> None:
    """From before the first connection until the work has ended, and not any longer."""
    seen: list[str] = []

    async def guard() -> None:
        seen.append("guarded")
        try:
            await asyncio.sleep(3600)
        finally:
            seen.append("left alone")

    class Service:
        store = pump = type("Part", (), {"fault": staticmethod(lambda: None)})

        def __init__(self, settings: object) -> None:
            """Take what the real one takes."""

        async def run(self, stop: threading.Event) -> None:
            """Work for a moment."""
            await asyncio.sleep(0)
            seen.append("works")

    class Health:
        def __init__(self, *_: Any) -> None:
            """Listen nowhere."""

        def close(self) -> None:
            """Nothing was opened."""

    monkeypatch.setattr(entry, "end_if_stuck", guard)
    monkeypatch.setattr(entry, "Service", Service)
    monkeypatch.setattr(entry, "HealthServer", Health)

    asyncio.run(entry._serve(read_settings(Environment(GOOD)), threading.Event()))

    assert seen == ["guarded", "works", "left alone"]
