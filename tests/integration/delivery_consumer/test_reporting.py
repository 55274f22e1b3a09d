"""A running consumer says what it holds against its destinations."""

import threading
from typing import Any

from shared.db import destinations
from shared.db.destinations import Filter, Seen
from tests.integration.delivery_consumer.parts import Desk, Receiver, running, settings_for

UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\n\r\n"


async def unavailable(_headers: dict[str, str]) -> bytes:
    return UNAVAILABLE


def wait_for(desk: Desk, timeout_s: float = 20, **fields: Any) -> Seen:
    """Wait until the only destination is reported with these fields."""
    pause = threading.Event()
    seen: list[Seen] = []
    for _ in range(int(timeout_s / 0.1)):
        seen = destinations.list_page(desk.conn, Filter("default"), limit=9)
        if seen and all(getattr(seen[0], name) == value for name, value in fields.items()):
            return seen[0]
        pause.wait(0.1)
    raise AssertionError(f"not seen: {fields}, but {seen}")


def test_a_receiver_that_is_down_shows_its_breaker_and_its_reason(desk: Desk, hook: Receiver) -> None:
    """Within a few seconds of its opening, under its origin; it is found by whoever asks."""
    hook.answer = unavailable
    desk.accept([hook.url + "?token=hush"] * 20)

    with running(settings_for(desk.database, desk.topics)) as consumer:
        seen = wait_for(desk, breaker="open")
        desk.wait_for(failed=20)

    assert seen.destination == f"http://127.0.0.1:{hook.port}"
    assert (seen.channel, seen.last_reason, seen.consumer_count) == ("webhook", "http_503", 1)
    assert seen.failures >= 10
    assert seen.next_probe_at is not None
    assert consumer.error is None


def test_a_table_that_is_locked_holds_up_no_delivery(desk: Desk, hook: Receiver) -> None:
    """Reports are skipped, and made up for; notifications are sent meanwhile."""
    settings = settings_for(desk.database, desk.topics)
    with running(settings), desk.database.connect(autocommit=True) as other:
        with other.transaction():
            other.execute("LOCK TABLE destination_reports, delivery_consumers")
            desk.accept([hook.url] * 50)
            desk.wait_for(sent=50)
            threading.Event().wait(4)
            desk.accept([hook.url] * 50)
            desk.wait_for(sent=100)
        wait_for(desk, slots_in_use=0, breaker="closed", failures=0)
