"""The five profiles as k6 scripts. `python -m loadtest.k6` writes what they know of profiles.toml into profiles.js."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from loadtest import profiles

PROFILES: Final = Path(__file__).with_name("profiles.js")
_NOT_FOR_K6: Final = (
    "arrivals",
    "idle_s",
    "limit_s",
    "sample_s",
    "share_of_capacity",
    "target",
    "receivers",
    "warm_up_s",
)
_HEAD: Final = "// Written by `python -m loadtest.k6` from loadtest/profiles.toml; do not edit.\n"


def script() -> str:
    """Return profiles.js: what k6 can take from each profile."""
    known = {name: _for_k6(profiles.load(name)) for name in profiles.names()}
    return f"{_HEAD}export const profiles = {json.dumps(known, indent=2)};\n"


def _for_k6(profile: profiles.Profile) -> dict[str, Any]:
    return {name: value for name, value in asdict(profile).items() if name not in _NOT_FOR_K6}
