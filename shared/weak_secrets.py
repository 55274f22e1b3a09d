"""Which secrets protect nothing: those that everybody can read somewhere, and those that are easily guessed."""

from typing import Final

# What docker-compose.yml and the pages of this repository show. tests/unit/test_weak_secrets.py holds them to it.
_PRINTED: Final = frozenset(
    (
        "whsec_a25vd24gdG8gYWxsOiBmb3IgdGhpcyBtYWNoaW5lLi4=",
        "ZXZlcnlib2R5IGtub3dzIHRoaXMgc2VhbGluZyBrZXk=",
        "ZXZlcnlib2R5IGtub3dzIHRoaXMgc2lnbmluZyBrZXk=",
        "for-these-containers-alone-everybody-knows-it",
    )
)
# The first is docker-compose.yml's; the others are what servers come with, and what people write until later.
_KNOWN_PASSWORDS: Final = frozenset(
    ("notify", "notifications", "postgres", "postgresql", "password", "passwd", "pass", "secret", "changeme",
     "change-me", "change_me", "admin", "root", "guest", "user", "example", "test", "demo", "default", "letmein",
     "qwerty", "123456", "12345678", "123456789", "kafka", "redis", "valkey", "smtp")
)  # fmt: skip
_PLACEHOLDERS: Final = (b"secret", b"changeme", b"change-me", b"change_me", b"password", b"example", b"default")
_DIFFERENT_BYTES: Final = 10
"""Of 24 random bytes 23 are different, as a rule; of 43 characters of base64 or 64 of hexadecimal more than 10."""


def is_public(value: str) -> bool:
    """Say whether everybody knows this secret: a password, a webhook secret, or a key with or without its kid."""
    return value.lower() in _KNOWN_PASSWORDS or value.rpartition(":")[2] in _PRINTED


def is_guessable(key: bytes) -> bool:
    """Say whether a key that should be random is not: hardly two bytes differ, or it has a placeholder's words in it.

    What a person made up may pass. It is here for what was filled in to get started.
    """
    lower = key.lower()
    return len(set(key)) < _DIFFERENT_BYTES or any(word in lower for word in _PLACEHOLDERS)
