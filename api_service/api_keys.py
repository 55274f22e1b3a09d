"""What an API key looks like: `nk_live_<id>_<secret>`, the id to find it by, the secret to prove it."""

import hashlib
import re
import secrets
import string
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "nk_live_"
_ALPHABET: Final = string.ascii_letters + string.digits
_SECRET_CHARS: Final = 43  # of 62: 256 bits
_ID_BYTES: Final = 8
KEY_ID: Final = re.compile(r"[0-9a-f]{16}")
_KEY: Final = re.compile(PREFIX + r"([0-9a-f]{16})_([0-9A-Za-z]{43})")


@dataclass(frozen=True, slots=True)
class MadeKey:
    """A key that has just been made. Its text is shown once and kept nowhere."""

    id: str
    text: str = field(repr=False)
    sha256: bytes = field(repr=False)


def make(key_id: str | None = None) -> MadeKey:
    """Make a key, or another secret for one there is."""
    key_id = key_id or secrets.token_hex(_ID_BYTES)
    secret = "".join(secrets.choice(_ALPHABET) for _ in range(_SECRET_CHARS))
    return MadeKey(key_id, f"{PREFIX}{key_id}_{secret}", digest(secret))


def taken_apart(text: str) -> tuple[str, str] | None:
    """Return the id and the secret of a key; None for what cannot be one."""
    found = _KEY.fullmatch(text)
    return (found[1], found[2]) if found else None


def digest(secret: str) -> bytes:
    """Return what is kept of a secret. It has 256 random bits, so a slow hash would protect nothing more."""
    return hashlib.sha256(secret.encode("ascii")).digest()


def shown(key_id: str) -> str:
    """Return how a key begins, by which a person knows it again."""
    return f"{PREFIX}{key_id}_"
