"""What producers ask for: the same for the same seed, of every sort, and right but for what is wrong on purpose."""

import itertools
from collections import Counter
from random import Random

import pytest

from api_service import schemas
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


def test_one_and_many_are_asked_for_with_a_key_and_without() -> None:
    found = Counter((request.kind, request.key is not None) for request in requests(1))

    assert all(found[kind, keyed] > 3 for kind in ("single", "batch") for keyed in (True, False))


def test_a_crash_test_asks_for_one_and_many_with_a_key_and_without() -> None:
    """These four first, in every round."""
    behaviours = ("ok", "slow", "http_503", "gone", "ambiguous")
    asked = list(Asking({name: ["127.31.9.1"] for name in behaviours}, 20_000).mixed())

    ways = [(len(items) > 1, keyed) for items, keyed in asked[:4]]
    assert ways == [(False, False), (True, True), (False, True), (True, False)]
