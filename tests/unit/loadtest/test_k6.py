"""The k6 scripts ask for what profiles.toml says."""

import re

import pytest

from loadtest import profiles
from loadtest.k6 import PROFILES, script

FOLDER = PROFILES.parent


def test_k6_knows_the_profiles_as_they_are() -> None:
    """After a change of profiles.toml: `python -m loadtest.k6`."""
    assert PROFILES.read_text(encoding="utf-8") == script()


@pytest.mark.parametrize("name", profiles.names())
def test_each_profile_has_its_script(name: str) -> None:
    """It takes the options of its own profile, and the functions that its scenarios run."""
    text = (FOLDER / f"{name}.js").read_text(encoding="utf-8")

    assert f'optionsOf("{name}")' in text
    assert "export { batch, follow, single }" in text


def test_the_page_names_every_script_and_variable() -> None:
    """What can be set is written down, and what is written down can be set."""
    page = (FOLDER / "README.md").read_text(encoding="utf-8")
    read = set(re.findall(r"__ENV\.(\w+)", (FOLDER / "pipeline.js").read_text(encoding="utf-8")))

    assert set(re.findall(r"(?m)^\| `([A-Z_]+)` \|", page)) == read
    assert set(re.findall(r"(?m)^\| `(\w+)\.js` \|", page)) == set(profiles.names())
