"""Tokens of people who have signed in: JWT, signed with HMAC-SHA-256 under keys that the settings alone name.

A token's header says which key signed it (`kid`), and nothing else of it is believed: what names an algorithm of its
own, or a place to fetch keys from, or brings a key along, is refused without being looked at further. RFC 8725 §3.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import jwt
from jwt.types import Options

from shared.key_rings import NamedKey

ALGORITHM: Final = "HS256"
ISSUER: Final = "notification-pipeline"
AUDIENCE: Final = "notification-pipeline-api"
SKEW_S: Final = 30
"""By how much the clocks of two machines may differ; also how long a token outlives its time."""
MAX_LIFETIME_S: Final = 30 * 86_400
_MAX_CHARS: Final = 4096
_STRICTLY: Final[Options] = {
    "require": ["iss", "aud", "sub", "tenant", "ver", "iat", "exp"],
    "strict_aud": True,  # one string, not a list that has it
}
_LATEST: Final = 2**53
_HEADER: Final = frozenset(("alg", "typ", "kid"))


class TokenError(Exception):
    """A token that is not accepted. It does not say why: whoever made it up would learn from that."""


@dataclass(frozen=True, slots=True)
class Claims:
    """What a token says of whoever it was issued to."""

    user_id: UUID
    tenant_id: str
    version: int


class Tokens:
    """Issues tokens with the first of its keys, and reads those that any of them signed."""

    def __init__(self, keys: Sequence[NamedKey], *, lifetime_s: int) -> None:
        self._first = keys[0] if keys else None
        self._keys = {one.kid: one.key for one in keys}
        self.lifetime_s = lifetime_s

    def __bool__(self) -> bool:
        """Say whether there is a key, without which nobody can sign in."""
        return self._first is not None

    def issue(self, claims: Claims) -> str:
        """Return a token. Raises RuntimeError where there is no key."""
        if self._first is None:
            raise RuntimeError("there is no key to sign with")
        now = int(time.time())
        said = {
            "iss": ISSUER,
            "aud": AUDIENCE,
            "sub": str(claims.user_id),
            "tenant": claims.tenant_id,
            "ver": claims.version,
            "iat": now,
            "exp": now + self.lifetime_s,
        }
        return jwt.encode(said, self._first.key, algorithm=ALGORITHM, headers={"kid": self._first.kid})

    def read(self, text: str) -> Claims:
        """Return what a token says. Raises TokenError for any that is not ours, or not any more."""
        if len(text) > _MAX_CHARS:
            raise TokenError
        try:
            said = jwt.decode(
                text,
                self._key(jwt.get_unverified_header(text)),
                algorithms=["HS256"],  # whatever the token itself says
                audience=AUDIENCE,
                issuer=ISSUER,
                leeway=SKEW_S,
                options=_STRICTLY,
            )
        except jwt.InvalidTokenError:
            raise TokenError from None
        return _claims(said)

    def _key(self, header: dict[str, Any]) -> bytes:
        """Return the key that a header names. The name is looked up among ours, and is nothing but a name."""
        key = self._keys.get(header.get("kid", ""))
        if key is None or not header.keys() <= _HEADER:
            raise jwt.InvalidTokenError
        return key


def _claims(said: dict[str, Any]) -> Claims:
    """Return the claims of a token that was signed with our key, judged by more than PyJWT does."""
    tenant, version, issued_at, expires_at = said["tenant"], said["ver"], said["iat"], said["exp"]
    try:
        user_id = UUID(said["sub"])
    except ValueError:
        raise TokenError from None
    whole = all(type(number) is int and 0 <= number < _LATEST for number in (version, issued_at, expires_at))
    if not whole or expires_at - issued_at > MAX_LIFETIME_S or type(tenant) is not str or not tenant:
        raise TokenError
    return Claims(user_id, tenant, version)
