"""Finds out who calls: by an API key, or by the token of somebody who has signed in.

What PostgreSQL said of a key or a user is believed for a few seconds, so that a request costs it nothing as a rule and
whoever is shut out is shut out everywhere within five. Keys are remembered by the digest of the whole credential: a
wrong secret of a known key is as unknown as any, and each costs the same look into the table, as long as its address
has not guessed too often.
"""

import hashlib
import hmac
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final, NamedTuple
from uuid import UUID
from wsgiref.types import WSGIEnvironment

from psycopg import Connection

from api_service import api_keys, metrics
from api_service.callers import Caller, CallerKind, Scope, unauthorized
from api_service.database import Database, DatabaseUnavailableError
from api_service.kept import Kept
from api_service.key_uses import KeyUses
from api_service.problems import Problem
from api_service.tokens import Claims, TokenError, Tokens
from shared.db import api_keys as keys_table
from shared.db import users
from shared.db.api_keys import FoundKey
from shared.db.users import SignedIn

BELIEVED_S: Final = 4.0
"""How long what PostgreSQL said is believed. A key that is revoked is refused by all processes after this."""
AWAY_S: Final = 60.0
"""How long it is believed while PostgreSQL is away: it cannot say then, nor could anybody revoke anything."""
_ASK_AGAIN_S: Final = 1.0
_AT_MOST: Final = 20_000
"""Of each kind; about 10 MiB of keys. A process that serves more asks for some of them more often."""
_REFUSED_AT_MOST: Final = 2_000
_ROLES: Final = {"user": frozenset((Scope.SEND, Scope.READ)), "admin": frozenset(Scope)}
_NO_SECRET: Final = bytes(32)


class _Refusal(NamedTuple):
    """Why somebody is not let in."""

    reason: str  # for the count: one of a handful
    code: str
    detail: str

    def problem(self) -> Problem:
        """Return the problem, and count it."""
        metrics.CALLERS_REFUSED.labels(self.reason).inc()
        if self.code != "unauthorized":
            return Problem(self.code, self.detail)
        return unauthorized(self.detail, was_given=self is not _NOTHING_SAID)


_HOW: Final = "send an API key, as in Authorization: Bearer nk_live_...; notify-admin create-key makes one"
_NOTHING_SAID: Final = _Refusal("nothing_said", "unauthorized", _HOW)
_OTHER_SCHEME: Final = _Refusal("other_scheme", "unauthorized", _HOW)
_TWICE: Final = _Refusal("said_twice", "unauthorized", "say who you are once, in Authorization or in X-API-Key")
_NO_KEY: Final = _Refusal("key", "unauthorized", "this is no API key: one reads nk_live_... and has 68 characters")
_UNKNOWN_KEY: Final = _Refusal("key", "unauthorized", "there is no such API key; it may be revoked, or have expired")
_NOT_VALID: Final = _Refusal("token", "unauthorized", "the token is not valid, or not any more: sign in again")
_SUSPENDED: Final = _Refusal("suspended", "forbidden", "this tenant is suspended")


@dataclass(slots=True)
class _Known:
    """What was found out of a credential, and until when it is believed."""

    caller: Caller | _Refusal
    until: float
    at_the_latest: float


class Identity:
    """The gate of an API that asks who calls. To be made after the fork."""

    def __init__(
        self,
        database: Database,
        tokens: Tokens,
        *,
        hold: Callable[[WSGIEnvironment], None],
        uses: KeyUses | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        """`hold` raises Problem 429 for requests from where too many keys were guessed."""
        self._database, self._tokens, self._hold, self._clock = database, tokens, hold, clock
        self._uses = uses or KeyUses(database)
        self._keys: Kept[bytes, _Known] = Kept(_AT_MOST)
        self._refused: Kept[bytes, _Known] = Kept(_REFUSED_AT_MOST)
        self._users: Kept[UUID, tuple[SignedIn | None, float, float]] = Kept(_AT_MOST)

    def caller(self, environ: WSGIEnvironment) -> Caller:
        """Return who a request is from, as Gate has it. A known key costs two microseconds."""
        credential = _credential(environ)
        if not credential.startswith(api_keys.PREFIX):
            return self._signed_in(credential)
        digest = hashlib.sha256(credential.encode("latin-1")).digest()
        known = self._keys.get(digest)
        if known is None or known.until <= self._clock():
            known = self._look_up(digest, credential, environ)
        if isinstance(known.caller, _Refusal):
            raise known.caller.problem()
        return known.caller

    def close(self) -> None:
        """Write down which keys were used."""
        self._uses.close()

    def _look_up(self, digest: bytes, credential: str, environ: WSGIEnvironment) -> _Known:
        now = self._clock()
        refused = self._refused.get(digest)
        if refused is not None and refused.until > now:
            return refused
        parts = api_keys.taken_apart(credential)
        if parts is None:
            raise _no_credential(credential, _NO_KEY)
        if self._keys.get(digest) is None:
            self._hold(environ)  # what was let in before is looked up whoever guesses at the same address
        key_id, secret = parts
        try:
            found = self._database.run(lambda conn: keys_table.judge(conn, key_id))
        except DatabaseUnavailableError:
            known = self._keys.get(digest)
            if known is None or known.at_the_latest <= now:
                raise
            known.until = min(now + _ASK_AGAIN_S, known.at_the_latest)
            return known
        known = _judged(key_id, secret, found, now)
        if isinstance(known.caller, _Refusal):
            self._keys.drop(digest)  # or it would be let in again by what was known before, with PostgreSQL away
            self._refused.put(digest, known)
        else:
            self._keys.put(digest, known)
            self._uses.note(key_id)
        return known

    def _signed_in(self, token: str) -> Caller:
        try:
            claims = self._tokens.read(token)
        except TokenError:
            raise _no_credential(token, _NOT_VALID) from None
        user = self._user(claims)
        if (
            user is None
            or user.is_disabled
            or (user.tenant_id, user.token_version) != (claims.tenant_id, claims.version)
        ):
            raise _NOT_VALID.problem()
        if user.is_suspended:
            raise _SUSPENDED.problem()
        return Caller(
            tenant_id=user.tenant_id,
            kind=CallerKind.USER,
            id=str(user.id),
            name=user.name,
            scopes=_ROLES[user.role],
            is_operator=user.is_operator,
            daily_quota=user.daily_quota,
        )

    def _user(self, claims: Claims) -> SignedIn | None:
        now = self._clock()
        known = self._users.get(claims.user_id)
        if known is not None and known[1] > now and not _is_older(known[0], claims):
            return known[0]

        def read(conn: Connection[Any]) -> SignedIn | None:
            return users.signed_in(conn, claims.user_id)

        try:
            user = self._database.run(read)
        except DatabaseUnavailableError:
            if known is None or known[0] is None or known[2] <= now or _is_older(known[0], claims):
                raise
            self._users.put(claims.user_id, (known[0], min(now + _ASK_AGAIN_S, known[2]), known[2]))
            return known[0]
        self._users.put(claims.user_id, (user, now + BELIEVED_S, now + AWAY_S))
        return user


def _no_credential(said: str, otherwise: _Refusal) -> Problem:
    """Return the problem of what is no key and no token; neither has a comma, which joins headers that come twice."""
    return (_TWICE if "," in said else otherwise).problem()


def _is_older(known: SignedIn | None, claims: Claims) -> bool:
    """Say whether a token was issued after what is known of its owner: after a new password, say."""
    return known is not None and known.token_version < claims.version


def _credential(environ: WSGIEnvironment) -> str:
    """Return the key or token of a request: of its headers, never of its URL, which ends up in logs and histories."""
    authorization, key = environ.get("HTTP_AUTHORIZATION"), environ.get("HTTP_X_API_KEY")
    if authorization is None:
        if key is None:
            raise _NOTHING_SAID.problem()
        if not key.startswith(api_keys.PREFIX):
            raise _NO_KEY.problem()
        return str(key)
    if key is not None:
        raise _TWICE.problem()
    if authorization.startswith("Bearer nk_"):
        return str(authorization[7:])
    scheme, _, credential = authorization.partition(" ")
    if scheme.lower() != "bearer":
        raise _OTHER_SCHEME.problem()
    if not credential.strip():  # what a shell makes of Bearer $KEY where there is no KEY
        raise _NOTHING_SAID.problem()
    return str(credential)


def _judged(key_id: str, secret: str, found: FoundKey | None, now: float) -> _Known:
    """Judge a secret by what is known of its key. The same is done whether or not there is such a key."""
    digest = api_keys.digest(secret)
    is_current = hmac.compare_digest(digest, found.secret_sha256 if found else _NO_SECRET)
    is_previous = hmac.compare_digest(digest, (found and found.previous_sha256) or _NO_SECRET)
    lasts_s = AWAY_S
    if found is not None:
        ends = (found.valid_for_s, None if is_current else found.previous_valid_for_s or 0.0)
        lasts_s = min([lasts_s, *(end for end in ends if end is not None)])
    latest, until = now + lasts_s, now + min(BELIEVED_S, lasts_s)
    if found is None or found.is_revoked or not (is_current or is_previous) or lasts_s <= 0:
        return _Known(_UNKNOWN_KEY, now + BELIEVED_S, now)
    if found.is_suspended:
        return _Known(_SUSPENDED, now + BELIEVED_S, now)
    caller = Caller(
        tenant_id=found.tenant_id,
        kind=CallerKind.KEY,
        id=key_id,
        name=found.name or api_keys.shown(key_id),
        scopes=frozenset(map(Scope, found.scopes)),
        is_operator=found.is_operator,
        expires_at=found.expires_at,
        limits=found.limits,
        daily_quota=found.daily_quota,
    )
    return _Known(caller, until, latest)
