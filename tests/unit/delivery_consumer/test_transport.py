"""What a transport remembers is bounded, and divided by use: a flood of origins takes nothing from those in use."""

from typing import cast

import pytest

from delivery_consumer.providers import transport as module
from delivery_consumer.providers.connecting import Connector, Stream
from delivery_consumer.providers.transport import Connection, Origin, OriginTransport


class Open:
    """A stream that stays open until it is told."""

    usable, ended_at = True, None

    def end(self) -> None:
        """The request is over."""

    def abort(self) -> None:
        """Closed."""
        self.usable = False


def origin(name: str) -> Origin:
    """Where nobody goes."""
    return "http", name, 80


def used(transport: OriginTransport, name: str) -> Connection:
    """A connection that has just served a request."""
    connection = Connection(origin(name), cast(Stream, Open()))
    transport._give_back(connection)
    return connection


async def test_connections_unused_for_longest_make_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """A thousand origins that are called once push one another out, not the one that is called all the time."""
    transport = OriginTransport(Connector(), timeout_s=1.0)
    monkeypatch.setattr(module, "MAX_IDLE", 20)
    monkeypatch.setattr(module, "SETTLE_S", 0.0)
    kept, others = used(transport, "kept"), []
    for number in range(1_000):
        others.append(used(transport, str(number)))
        if number % 10 == 0:
            assert await transport._take(origin("kept"), 1e9, "a") is kept
            transport._give_back(kept)

    assert [one.stream.usable for one in others[:980]] == [False] * 980
    assert sum(one.stream.usable for one in others) == 19
    assert transport._idle_count == 20
    await transport.aclose()
    assert not kept.stream.usable


async def test_those_that_close_after_each_answer_are_forgotten_the_oldest_first(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Not all at once: a request to one that is forgotten may end unknown."""
    transport = OriginTransport(Connector(), timeout_s=1.0)
    monkeypatch.setattr(module, "_MAX_CLOSERS", 3)
    for name in "abcad":
        transport._note_closer(origin(name))

    assert list(transport._closers) == [origin("c"), origin("a"), origin("d")]
