"""When what is asked for: drawn before anything is sent."""

import itertools
import json
import math
from dataclasses import replace

import pytest

from loadtest import profiles, stamps
from loadtest.bodies import Bodies
from loadtest.profiles import Mix, Stage
from loadtest.schedule import Ask, Draw, Kind, Share, instant, kinds_of
from shared.model import Channel

MIX = Mix({Channel.WEBHOOK: 3.0, Channel.EMAIL: 1.0}, {100: 1.0, 300: 1.0}, 1.0, 50, 0.0, 0.0, 10)


def drawn(
    mix: Mix, stage: Stage, *, seed: int = 1, process: int = 0, processes: int = 1, poisson: bool = True
) -> list[Ask]:
    return list(Draw(mix, Share(seed, process, processes), poisson=poisson).stage(stage))


def test_a_seed_gives_the_same_requests_again() -> None:
    """And another one others."""
    stage = Stage(5.0, 100.0, 100.0)

    assert drawn(MIX, stage) == drawn(MIX, stage)
    assert drawn(MIX, stage) != drawn(MIX, stage, seed=2)


@pytest.mark.parametrize("processes", [1, 3])
def test_the_shares_of_all_processes_add_up_to_the_rate(processes: int) -> None:
    """Whatever the number of processes; Poisson, so within a few standard deviations."""
    stage = Stage(40.0, 250.0, 250.0)
    each = [drawn(MIX, stage, process=process, processes=processes) for process in range(processes)]

    total = sum(len(asks) for asks in each)
    assert abs(total - 10_000) < 5 * math.sqrt(10_000)
    assert all(asks == sorted(asks, key=lambda ask: ask.at_s) for asks in each)
    assert all(0 <= ask.at_s < 40.0 for asks in each for ask in asks)


def test_even_requests_of_several_processes_interleave() -> None:
    """A hundredth of a second apart, whoever sends them."""
    each = [drawn(MIX, Stage(1.0, 100, 100), process=process, processes=2, poisson=False) for process in range(2)]

    instants = sorted(ask.at_s for asks in each for ask in asks)
    assert len(instants) == 100
    assert all(later - earlier == pytest.approx(0.01) for earlier, later in itertools.pairwise(instants))


def test_rates_count_notifications_whatever_they_travel_in() -> None:
    """Half of them alone, half in batches of 50: 51 requests carry 100 notifications."""
    asks = drawn(replace(MIX, single_share=0.5), Stage(100.0, 1000, 1000))

    singles = sum(1 for ask in asks if ask.single)
    batched = sum(len(ask.kinds) for ask in asks if not ask.single)
    assert {len(ask.kinds) for ask in asks if not ask.single} == {50}
    assert singles == pytest.approx(50_000, rel=0.03)
    assert batched == pytest.approx(50_000, rel=0.1)


def test_numbers_are_given_once_over_all_stages() -> None:
    """A message is known by its number."""
    draw = Draw(replace(MIX, single_share=0.2), Share(1, 0, 1), poisson=True)
    asks = [*draw.stage(Stage(5.0, 500, 500)), *draw.stage(Stage(5.0, 500, 500))]

    numbers = [ask.first + index for ask in asks for index in range(len(ask.kinds))]
    assert numbers == list(range(len(numbers)))


def test_the_mix_is_drawn_by_its_weights() -> None:
    """Three webhooks to one e-mail, small and large alike."""
    kinds = kinds_of(MIX)
    asks = drawn(MIX, Stage(100.0, 200, 200))

    emails = sum(1 for ask in asks if kinds[ask.kinds[0]].channel is Channel.EMAIL)
    assert emails / len(asks) == pytest.approx(0.25, abs=0.02)
    assert set(kinds) == {Kind(channel, size, ordered=False) for channel in Channel for size in (100, 300)}


@pytest.mark.parametrize(
    ("stage", "due", "at_s"),
    [
        (Stage(10, 5, 5), 10, 2.0),
        (Stage(10, 0, 10), 50, 10.0),  # the area of the whole triangle
        (Stage(10, 10, 0), 50, 10.0),
        (Stage(10, 10, 0), 51, math.inf),
        (Stage(10, 0, 0), 1, math.inf),
    ],
)
def test_a_ramp_is_followed_exactly(stage: Stage, due: float, at_s: float) -> None:
    """The integral of the rate up to the instant is what is due."""
    assert instant(stage, due) == pytest.approx(at_s)


@pytest.mark.parametrize("name", profiles.names())
def test_bodies_are_what_the_api_takes(name: str) -> None:
    """JSON with the fields of their channel, as long as asked for, each with a stamp of its own."""
    mix = replace(profiles.load(name).mix, single_share=0.5, batch_items=5, ordered_share=0.5)
    bodies = Bodies(kinds_of(mix), ["http://127.0.0.1:9"], recipients=10, run="0123abcd", process=3)
    asks = drawn(mix, Stage(3.0, 100, 100))

    seen = set()
    for ask in asks:
        content = json.loads(bodies.body(ask, 12_345_678))
        for item, kind in zip([content] if ask.single else content, ask.kinds, strict=True):
            wanted = kinds_of(mix)[kind]
            found = stamps.find(item["message"].encode())
            assert found is not None
            assert (found.run, found.intended_us) == (b"0123abcd", 12_345_678)
            seen.add(stamps.parts(found.number))
            assert item["channel"] == wanted.channel
            assert len(item["message"]) == wanted.message_bytes
            assert ("ordering_key" in item) == wanted.ordered
            assert ("payload" in item) == (wanted.channel is Channel.WEBHOOK)
    assert seen == {(3, count) for count in range(len(seen))}


def test_a_message_without_a_stamp_has_none() -> None:
    """Nor has one whose stamp was cut off or spoilt."""
    whole = stamps.stamp("0123abcd", stamps.number(2, 7), 99)

    assert len(whole) == stamps.LENGTH
    assert stamps.find(b'{"message":"' + whole + b'rest"}') == (b"0123abcd", stamps.number(2, 7), 99)
    assert stamps.find(b"nothing") is None
    assert stamps.find(whole[:-1]) is None
    assert stamps.find(whole.replace(b"99.", b"9x.")) is None
