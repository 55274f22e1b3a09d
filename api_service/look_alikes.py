"""Names of domains that look like another one: stored in ASCII, where nobody sees it, and therefore flagged.

A label that mixes scripts, or whose every letter has a twin in ASCII (all of `аррӏе` is Cyrillic), may be meant to be
taken for another. That is a reason to look, not to refuse: such names exist honestly.
Source: UTS 39, sections 4 and 5.2 ("highly restrictive"); the twins are those of common fonts.
"""

import re
import unicodedata
from typing import Final

_ACE: Final = "xn--"
_LABEL: Final = re.compile(r"xn--[a-z0-9-]+")
_TWINS: Final = frozenset("асԁеһіјӏорԛѕԝхуѵкмтнвгьαεικνορτυχγηօոսցհյզıɑɡɩʟᴏ")
"""Cyrillic, Greek, Armenian and Latin letters that are easily taken for one of ASCII."""
_EAST_ASIAN: Final = frozenset({"LATIN", "CJK", "IDEOGRAPHIC"})
_TOGETHER: Final = (
    _EAST_ASIAN | {"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"},
    _EAST_ASIAN | {"BOPOMOFO"},
    _EAST_ASIAN | {"HANGUL"},
)
"""Scripts that are written together, by the first word of their characters' names."""


def warning_of(recipient: str) -> str | None:
    """Say what is odd about the domain of a stored recipient: `mixed_script`, `look_alike`, or nothing."""
    if _ACE not in recipient:
        return None
    labels = [_shown(label) for label in _LABEL.findall(recipient)]
    if any(_mixes(label) for label in labels):
        return "mixed_script"
    return "look_alike" if any(_has_a_twin(label) for label in labels) else None


def _shown(label: str) -> str:
    """Return a label as people see it."""
    try:
        return label[len(_ACE) :].encode("ascii").decode("punycode")
    except UnicodeError:
        return label


def _mixes(label: str) -> bool:
    scripts = {unicodedata.name(letter, "").partition(" ")[0] for letter in label if letter.isalpha()}
    return len(scripts) > 1 and not any(scripts <= together for together in _TOGETHER)


def _has_a_twin(label: str) -> bool:
    return not label.isascii() and all(letter.isascii() or letter in _TWINS for letter in label)
