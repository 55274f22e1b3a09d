"""Passwords: which are taken, and how they are kept.

Hashes are argon2id (RFC 9106). People who came from another system may have bcrypt hashes, which are renewed when they
sign in. Hashing takes tens of milliseconds of a core, on purpose, so no more than two are under way in a process: who
comes third is told to come back, and requests of other kinds find threads free.
"""

import re
from dataclasses import dataclass, field
from typing import Final

import argon2
import bcrypt

from api_service.common_passwords import is_common
from api_service.faults import FaultyValueError
from api_service.places import Places

MIN_CHARS: Final = 12
MAX_CHARS: Final = 128
AT_ONCE: Final = 2
_BCRYPT: Final = re.compile(r"\$2[aby]\$(?:0[4-9]|1[0-4])\$[./A-Za-z0-9]{53}")  # of cost 14 at most: about a second
_BCRYPT_BYTES: Final = 72  # it looks at no more, and refuses to guess what was meant
_HASHER: Final = argon2.PasswordHasher(time_cost=2, memory_cost=19 * 1024, parallelism=1)
"""19 MiB and two passes: the first choice of OWASP's password storage cheat sheet."""
_NOBODYS: Final = "$argon2id$v=19$m=19456,t=2,p=1$TIvUUOqk+fPJ/txpdcecdg$Emo7DSOU1F5NqsuzHijxw105WogsK8RuEbPGSKsEnPs"
"""Of a password that was thrown away: unknown addresses are compared with this, so as to take as long as known ones."""


def checked_password(password: str) -> str:
    """Return a password that may be one, exactly as it was given. Raises FaultyValueError."""
    if not MIN_CHARS <= len(password) <= MAX_CHARS:
        raise FaultyValueError("invalid_password", f"a password has {MIN_CHARS} to {MAX_CHARS} characters")
    if is_common(password):
        raise FaultyValueError("common_password", "this is one of the passwords that are tried first")
    return password


def is_accepted_hash(text: str) -> bool:
    """Say whether a hash may be imported: bcrypt, of a cost that does not hold a thread for long."""
    return _BCRYPT.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a password was right; if so, and its hash is not as hashes are made today, the one to keep instead."""

    right: bool
    renewed: str | None = field(default=None, repr=False)


class Passwords:
    """Hashes and compares, a bounded number at once."""

    def __init__(self, *, at_once: int = AT_ONCE) -> None:
        self._places = Places(at_once, when_taken="too many sign in at this moment; repeat this")

    def hashed(self, password: str) -> str:
        """Return the hash to keep. Raises Problem 503 where others are at it."""
        with self._places.one():
            return _HASHER.hash(password)

    def compared(self, password: str, kept: str | None) -> Verdict:
        """Compare a password with what is kept of it, None for nobody's. Raises Problem 503 where others are at it."""
        with self._places.one():
            if kept is not None and kept.startswith("$2"):
                right = bcrypt.checkpw(password.encode()[:_BCRYPT_BYTES], kept.encode())
                return Verdict(right, _HASHER.hash(password) if right else None)
            try:
                _HASHER.verify(kept or _NOBODYS, password)
            except (argon2.exceptions.VerifyMismatchError, argon2.exceptions.InvalidHashError):
                return Verdict(right=False)
            if kept is None:
                return Verdict(right=False)
            return Verdict(right=True, renewed=_HASHER.hash(password) if _HASHER.check_needs_rehash(kept) else None)
