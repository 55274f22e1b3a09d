"""Secrets at rest: sealed with AES-256-GCM under a ring of keys, bound to the row and tenant they belong to.

A sealed value is

    version (1 byte, 0x01) | length of the kid (1 byte) | kid | nonce (12 bytes) | ciphertext and tag (16 bytes)

and everything before the nonce is authenticated along with table, row and tenant. So a sealed value that was copied to
another row, or to another tenant's, does not open, and neither does one that says it was made with another key.

Nonces are random, so one key should seal no more than 2^32 values (NIST SP 800-38D §8.3): 136 a second for a year.

Only api_service and delivery_consumer import this; the other images have no `cryptography`.
"""

import secrets
from collections.abc import Sequence
from typing import Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from shared.key_rings import NamedKey, has_a_kid_twice

_VERSION: Final = 1
_NONCE_BYTES: Final = 12
_TAG_BYTES: Final = 16


class SecretError(Exception):
    """A secret cannot be sealed or opened. The message says why, and holds nothing of it."""


class Keyring:
    """Seals with its first key and opens with any. Safe to share between threads; its `repr` shows names alone."""

    __slots__ = ("_ciphers", "_first")

    def __init__(self, keys: Sequence[NamedKey]) -> None:
        if has_a_kid_twice(tuple(keys)):
            raise ValueError("two keys of one ring have the same kid")
        self._ciphers = {one.kid: AESGCM(one.key) for one in keys}
        self._first = keys[0].kid if keys else ""

    def __repr__(self) -> str:
        return f"Keyring({', '.join(self._ciphers)})"

    def __bool__(self) -> bool:
        return bool(self._ciphers)

    @property
    def kid(self) -> str:
        """The name of the key that seals; empty where there is none."""
        return self._first

    @property
    def head(self) -> bytes:
        """What everything begins with that the first key has sealed, and nothing else. Raises SecretError."""
        if not self._first:
            raise SecretError("there is no key to seal a secret with: SECRETS_KEYS is not set")
        return _head(self._first)

    def seal(self, plain: bytes, *, table: str, row_id: str, tenant_id: str) -> bytes:
        """Return `plain` sealed for one row. Raises SecretError where there is no key."""
        head, nonce = self.head, secrets.token_bytes(_NONCE_BYTES)
        return head + nonce + self._ciphers[self._first].encrypt(nonce, plain, _bound(head, table, row_id, tenant_id))

    def open(self, sealed: bytes, *, table: str, row_id: str, tenant_id: str) -> bytes:
        """Return what was sealed for this very row. Raises SecretError; whatever was changed, nothing is returned."""
        kid, head, rest = _taken_apart(bytes(sealed))
        cipher = self._ciphers.get(kid)
        if cipher is None:
            raise SecretError(f"a secret of {table} was sealed with the key {kid!r}, which SECRETS_KEYS does not have")
        try:
            return cipher.decrypt(rest[:_NONCE_BYTES], rest[_NONCE_BYTES:], _bound(head, table, row_id, tenant_id))
        except InvalidTag as error:
            raise SecretError(f"a secret of {table} does not open: it was changed, or made for another row") from error


def _head(kid: str) -> bytes:
    return bytes((_VERSION, len(kid))) + kid.encode("ascii")


def _taken_apart(sealed: bytes) -> tuple[str, bytes, bytes]:
    """Return kid, what stands before the nonce, and the rest."""
    if not sealed or sealed[0] != _VERSION:
        raise SecretError("this is no sealed secret, or one of a later version")
    end = 2 + sealed[1] if len(sealed) > 1 else 2
    kid = sealed[2:end]
    if not kid.isascii() or not kid.decode().isprintable() or len(sealed) < end + _NONCE_BYTES + _TAG_BYTES:
        raise SecretError("this is no sealed secret: it was cut short, or changed")
    return kid.decode(), sealed[:end], sealed[end:]


def _bound(head: bytes, *names: str) -> bytes:
    """Return what is authenticated beside the secret; each part with its length, so that none can lend to the next."""
    parts = (head, *(name.encode() for name in names))
    return b"".join(len(part).to_bytes(4, "big") + part for part in parts)
