"""Profiles as they are read from TOML, and what is said about those that make no sense."""

from pathlib import Path

import pytest

from loadtest import profiles
from loadtest.profiles import ProfileError, Stage
from shared.model import Channel


@pytest.mark.parametrize("name", profiles.names())
def test_each_profile_of_the_file_can_be_used(name: str) -> None:
    """Nobody should learn that by waiting for a stack to start."""
    profile = profiles.load(name)

    assert profile.about
    assert profile.limits["lost"] == 0
    assert profile.idle_s + sum(stage.for_s for stage in profile.stages) < profile.limit_s


def test_the_five_profiles_are_there() -> None:
    """As documentation and make targets name them."""
    assert profiles.names() == ["smoke", "load", "stress", "spike", "soak"]


def test_a_smoke_run_ends_within_a_minute() -> None:
    """It is part of what CI runs."""
    assert profiles.load("smoke").limit_s <= 60


def test_a_value_is_changed_for_one_run() -> None:
    """Weights are taken whole: one channel is left, not two."""
    chosen = ["mix.channels={email = 1}", "mix.batch_items=7", "arrivals=even", "target.settings.API_WORKERS=2"]
    profile = profiles.load("smoke", chosen)

    assert profile.mix.channels == {Channel.EMAIL: 1.0}
    assert (profile.mix.batch_items, profile.arrivals) == (7, "even")
    assert profile.target.settings["API_WORKERS"] == "2"
    assert profile.target.settings["LOG_LEVEL"] == "warning"


def test_a_limit_may_be_taken_away() -> None:
    """Of those that `default` names for all."""
    assert "lost" in profiles.load("smoke").limits
    assert "lost" not in profiles.load("smoke", ["limits.lost=false"]).limits


def test_a_rate_scales_all_stages() -> None:
    """A spike at half the rate is half the spike."""
    profile = profiles.load("spike", ["stages=[{for_s=1,rate_per_s=10},{for_s=2,rate_per_s=10,to_per_s=100}]"])

    assert profile.at_rate(50).stages == (Stage(1.0, 5.0, 5.0), Stage(2.0, 5.0, 50.0))


def test_every_fault_is_named_at_once() -> None:
    """With its place, what stands there, and what was expected."""
    wrong = ["mix.single_share=2", "colour=red", "limits.foo=3", "mix.channels={sms=1}", "generator.processes=0"]
    more = ["limits.overdue_s=0", "limits.capacity_per_s=9"]

    with pytest.raises(ProfileError) as caught:
        profiles.load(
            "smoke", [*wrong, *more, "drain_s=soon", "stages=[]", "nothing", "target.settings.API_WORKERS=[2]"]
        )

    assert sorted(caught.value.faults) == sorted(
        [
            "colour: there is no such setting",
            "drain_s: 'soon'; expected a number from 0 to 1,000,000,000",
            "generator.processes: 0; expected a whole number from 1 to 64",
            "limits.capacity_per_s: it is of stress alone; nothing else could judge it",
            "limits.foo: there is no such limit",
            "limits.overdue_s: it is of dlq alone; nothing else could judge it",
            "mix.channels.sms: expected email or webhook",
            "mix.single_share: 2; expected a number from 0 to 1",
            "nothing: expected key=value with a key such as mix.single_share",
            "stages: []; expected a list of tables",
            "stages: none has a rate above 0",
            "target.settings.API_WORKERS: [2]; expected a text",
        ]
    )


@pytest.mark.parametrize(
    ("override", "fault"),
    [
        ("drain_s=inf", "drain_s: inf; expected a number from 0 to 1,000,000,000"),
        ("idle_s=nan", "idle_s: nan; expected a number"),
        ("limit_s=1e999", "limit_s: inf; expected a number from 1 to"),
        ("drain_s=1" + 400 * "0", "drain_s: 1000"),
        ("stages=[{for_s=inf,rate_per_s=1}]", "stages.0.for_s: inf; expected a number from 0.1 to"),
        ("limits.lost=inf", "limits.lost: inf"),
        ("mix.channels={webhook=inf}", "mix.channels: {'webhook': inf}"),
        ("target.settings.SWEEP_AFTER_S=inf", "target.settings.SWEEP_AFTER_S: inf"),
    ],
)
def test_no_number_is_infinite(override: str, fault: str) -> None:
    """TOML has inf and nan; a run of that length would never end."""
    with pytest.raises(ProfileError) as caught:
        profiles.load("smoke", [override])

    assert fault in str(caught.value)


def test_a_setting_that_no_service_has_is_refused() -> None:
    """A slip in a name would change nothing, and look as if it had; NAME_FILE is a setting, too."""
    with pytest.raises(ProfileError, match=r"target\.settings\.API_THREDS: no service has it"):
        profiles.load("smoke", ["target.settings.API_THREDS=9", "target.settings.WEBHOOK_SECRETS_FILE=x"])
    assert profiles.load("smoke", ["target.settings.WEBHOOK_SECRETS_FILE=x"]).target.settings


def test_an_unknown_profile_names_those_there_are() -> None:
    """`default` is none: it is what the others are laid over."""
    for name in ("holiday", "default"):
        with pytest.raises(ProfileError, match="smoke, load, stress, spike, soak"):
            profiles.load(name)


def test_a_file_that_is_no_toml_is_named(tmp_path: Path) -> None:
    """With the parser's words."""
    file = tmp_path / "mine.toml"
    file.write_text("[smoke")

    with pytest.raises(ProfileError, match=r"mine\.toml: "):
        profiles.names(file)
