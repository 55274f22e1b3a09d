"""The five profiles as k6 scripts. `python -m loadtest.k6` writes what they know of profiles.toml into profiles.js."""

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from loadtest import profiles

PROFILES: Final = Path(__file__).with_name("profiles.js")
_TAKEN: Final = ("name", "kind", "about", "drain_s", "stages", "mix", "generator", "search")
_LIMITS: Final = ("refused", "unanswered", "accept_", "receiver_", "capacity_")  # what k6 can judge, by their beginning
_HEAD: Final = "// Written by `python -m loadtest.k6` from loadtest/profiles.toml; do not edit.\n"


def script() -> str:
    """Return profiles.js: what k6 can take from each profile."""
    known = {name: _for_k6(profiles.load(name)) for name in profiles.names()}
    return f"{_HEAD}export const profiles = {json.dumps(known, indent=2)};\n"


def _for_k6(profile: profiles.Profile) -> dict[str, Any]:
    whole = asdict(profile)
    limits = {name: value for name, value in profile.limits.items() if name.startswith(_LIMITS)}
    return {name: whole[name] for name in _TAKEN} | {"limits": limits}
