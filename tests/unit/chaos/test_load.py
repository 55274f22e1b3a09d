"""What producers ask for: the same for the same seed, of every sort, and right but for what is wrong on purpose."""

import itertools
from collections import Counter
from random import Random

import pytest

from api_service import accept, schemas
from api_service.accept import COPY_FROM_ROWS, Origin
from shared.db import accepting
from shared.records import Topics
from tests.chaos.asking import Asking
from tests.chaos.load import MAIL, Drawer, Item, Request
from tests.chaos.plan import draw_destinations

DESTINATIONS = draw_destinations(Random(1))


def requests(seed: int, count: int = 150) -> list[Request]:
    drawer = Drawer(Random(seed), 3, DESTINATIONS, 20_000)
    return list(itertools.islice(drawer.requests(), count))


def items(seed: int = 1) -> list[Item]:
    return [item for request in requests(seed) for item in request.items]


def test_a_seed_asks_for_the_same_content() -> None:
    first, second = items(4), items(4)

    assert [item.digest for item in first] == [item.digest for item in second]
    assert len({item.token for item in first}) == len(first)


def test_the_api_takes_each_item_and_refuses_what_is_wrong_on_purpose() -> None:
    for item in items():
        schemas.load(item.body)
    wrong = [request.invalid for seed in range(3) for request in requests(seed) if request.kind == "invalid"]
    assert wrong
    for body in wrong:
        with pytest.raises(schemas.InvalidRequestError):
            schemas.load(body)


def test_there_is_some_of_everything() -> None:
    drawn = items()
    fields = Counter(name for item in drawn for name in item.body)

    assert {item.target for item in drawn} >= {"ok", "http_503", "http_429", "gone", *MAIL}
    for name in ("ordering_key", "scheduled_for", "expires_at", "expires_in", "on_unknown", "priority", "payload"):
        assert fields[name] > 0.002 * len(drawn)
    assert 0.02 < sum(item.cancel_after_s is not None for item in drawn) / len(drawn) < 0.08
    assert {request.repeat for request in requests(1)} == {None, "same", "other"}


def test_a_key_is_one_channel_s_and_is_never_scheduled() -> None:
    channels: dict[str, set[str]] = {}
    for item in items():
        if key := item.body.get("ordering_key"):
            channels.setdefault(key, set()).add(item.body["channel"])
            assert "scheduled_for" not in item.body

    assert channels
    assert all(len(found) == 1 for found in channels.values())


def goes_by_copy(items: list[Item]) -> bool:
    """Whether the API writes a batch of these without a key by COPY."""
    wanted = [schemas.load(item.body) for item in items]
    news = accept.prepare_many(wanted, topics=Topics(), origin=Origin())
    return len(news) >= COPY_FROM_ROWS and accepting.can_copy(news)


def test_some_batches_are_written_by_copy() -> None:
    """And some without a key are not."""
    unkeyed = [one.items for one in requests(1, 400) if one.kind == "batch" and one.key is None]

    assert {goes_by_copy(items) for items in unkeyed} == {True, False}


def test_a_crash_test_asks_in_every_way_of_writing() -> None:
    """The first one single and without a key, then one with each key and without, and one by COPY, at every round."""
    behaviours = ("ok", "slow", "http_503", "gone", "ambiguous")
    asked = list(Asking({name: ["127.31.9.1"] for name in behaviours}, 20_000).mixed())
    by_copy = [goes_by_copy(items) for items, keyed in asked if not keyed and len(items) > 1]

    assert [(len(items) > 1, keyed) for items, keyed in asked[:3]] == [(False, False), (True, True), (False, True)]
    assert sorted(by_copy) == [False, True]
