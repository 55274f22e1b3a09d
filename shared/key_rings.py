"""Rings of named keys, as settings write them: `<kid>:<base64>[,<kid>:<base64>…]`, the first of them in use."""

import base64
import binascii
import re
from dataclasses import dataclass, field
from typing import Final

from shared.weak_secrets import is_guessable

_KID: Final = re.compile(r"[A-Za-z0-9._-]{1,32}")


@dataclass(frozen=True, slots=True)
class NamedKey:
    """One key of a ring; what is made with it carries `kid`, so that it is found again after the next rotation."""

    kid: str
    key: bytes = field(repr=False)


def parse_named_key(text: str, *, low: int, high: int) -> NamedKey:
    """Read `<kid>:<base64>` of `low` to `high` random bytes. Raises ValueError, which quotes nothing of the key."""
    kid, colon, encoded = text.partition(":")
    if not colon or not _KID.fullmatch(kid):
        raise ValueError("no kid")
    try:
        key = base64.b64decode(encoded, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("not base64") from None  # the error it had could quote the key
    if not low <= len(key) <= high or is_guessable(key):
        raise ValueError("size, or not random")
    return NamedKey(kid, key)


def has_a_kid_twice(keys: tuple[NamedKey, ...]) -> bool:
    """Say whether two keys of a ring have one name, which would leave it open which of them is meant."""
    return len({one.kid for one in keys}) < len(keys)
