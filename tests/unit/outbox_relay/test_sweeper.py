"""The sweeper's two walks and its patience, over a table made by hand."""

from uuid import UUID

import pytest

from outbox_relay.upkeep import Sweeper
from shared.db import sweeping
from shared.db.sweeping import Chunk

LOST = UUID(int=5)


@pytest.fixture
def published(monkeypatch: pytest.MonkeyPatch) -> list[UUID]:
    """What was published again; every look finds the same lost notification."""
    again: list[UUID] = []

    def publish_again(conn: object, ids: list[UUID], *, dlq_topic: str) -> int:
        again.extend(ids)
        return len(ids)

    monkeypatch.setattr(sweeping, "look", lambda *_, **__: Chunk(None, [LOST]))
    monkeypatch.setattr(sweeping, "publish_again", publish_again)
    return again


def test_the_same_loss_is_published_again_after_longer_waits(published: list[UUID]) -> None:
    """A consumer that is slow, not broken, is not buried in copies: 2, then 4 times the first wait, and no more."""
    now = 1_000_000.0
    sweeper = Sweeper(10, "dlq", lambda: now)
    seen_at = []

    for second in range(0, 200, 5):
        now = 1_000_000.0 + second
        if sweeper.run_once(None):  # type: ignore[arg-type]
            seen_at.append(second)

    assert seen_at == [0, 20, 60, 100, 140, 180]
    assert set(published) == {LOST}
