"""Who calls: how credentials are read, what is believed of them, for how long, and what an outage changes."""

import hmac
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import pytest

from api_service import api_keys
from api_service.callers import Caller, CallerKind, Scope
from api_service.database import DatabaseUnavailableError
from api_service.identity import AWAY_S, BELIEVED_S, Identity
from api_service.kept import Kept
from api_service.key_uses import KeyUses
from api_service.problems import Problem
from api_service.tokens import Claims, Tokens
from shared.db import api_keys as table
from shared.db import users
from shared.db.api_keys import FoundKey
from shared.db.users import SignedIn
from shared.key_rings import NamedKey

TOKENS = Tokens([NamedKey("k", bytes(range(32)))], lifetime_s=3600)
MADE = api_keys.make()
OTHER = api_keys.make()
FOUND = FoundKey(
    tenant_id="shop",
    secret_sha256=MADE.sha256,
    previous_sha256=None,
    scopes=["send", "read"],
    name="till",
    limits="9/second",
    expires_at=None,
    valid_for_s=None,
    previous_valid_for_s=None,
    is_revoked=False,
    is_suspended=False,
    is_operator=False,
    daily_quota=7,
)
ADA = SignedIn(UUID(int=9), "shop", "Ada", "user", 1, False, False, False, None)


class World:
    """A database that knows keys and users, counts who asks, and can be away; and a clock."""

    def __init__(self) -> None:
        self.keys: dict[str, FoundKey] = {MADE.id: FOUND}
        self.users: dict[UUID, SignedIn] = {ADA.id: ADA}
        self.asked: list[Any] = []
        self.is_away = False
        self.now = 1000.0
        self.used: list[str] = []
        self.is_flooded = False

    def run(self, work: Callable[[Any], Any], **_: Any) -> Any:
        if self.is_away:
            raise DatabaseUnavailableError("no_connection")
        return work(self)

    def note(self, key_id: str) -> None:
        self.used.append(key_id)

    def clock(self) -> float:
        return self.now

    def hold(self, _: Any) -> None:
        if self.is_flooded:
            raise Problem("rate_limited", "too many guesses")


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> World:
    """What the gate below looks at."""
    world = World()

    def judge(_: Any, key_id: str) -> FoundKey | None:
        world.asked.append(key_id)
        return world.keys.get(key_id)

    def signed_in(_: Any, user_id: UUID) -> SignedIn | None:
        world.asked.append(user_id)
        return world.users.get(user_id)

    monkeypatch.setattr(table, "judge", judge)
    monkeypatch.setattr(users, "signed_in", signed_in)
    return world


@pytest.fixture
def gate(world: World) -> Identity:
    """A gate on that world."""
    return Identity(world, TOKENS, hold=world.hold, uses=world, clock=world.clock)  # type: ignore[arg-type]


def by(authorization: str | None = None, **more: str) -> dict[str, str]:
    """An environment of WSGI."""
    return more if authorization is None else {"HTTP_AUTHORIZATION": authorization, **more}


def status(gate: Identity, environ: dict[str, str]) -> int:
    """How a request is answered: 200 where it is let in."""
    try:
        gate.caller(environ)
    except Problem as problem:
        if problem.status == 401:
            assert problem.headers["WWW-Authenticate"].startswith("Bearer")
        return problem.status
    except DatabaseUnavailableError:
        return 503
    return 200


KEY = f"Bearer {MADE.text}"


def test_a_key_is_known(gate: Identity) -> None:
    """For its tenant, with its scopes, limits and quota."""
    expected = Caller(
        tenant_id="shop",
        kind=CallerKind.KEY,
        id=MADE.id,
        name="till",
        scopes=frozenset((Scope.SEND, Scope.READ)),
        limits="9/second",
        daily_quota=7,
    )

    assert gate.caller(by(KEY)) == expected
    assert gate.caller(by(HTTP_X_API_KEY=MADE.text)) == expected
    assert gate.caller(by(f"bearer {MADE.text}")) == expected


@pytest.mark.parametrize(
    "environ",
    [
        {},
        by(""),
        by("Bearer"),
        by("Bearer "),
        by(f"Bearer  {MADE.text}"),
        by(f"Basic {MADE.text}"),
        by(MADE.text),
        by(f"{KEY} "),
        by(f"{KEY},{KEY}"),
        by(KEY, HTTP_X_API_KEY=MADE.text),
        by(HTTP_X_API_KEY=TOKENS.issue(Claims(ADA.id, "shop", 1))),
        by(HTTP_X_API_KEY=""),
        by("Bearer nk_live_"),
        by(f"Bearer {MADE.text[:-1]}"),
        by(f"Bearer {MADE.text}a"),
        by("Bearer nk_live_é" + "a" * 59),
        by(f"Bearer nk_test_{MADE.text[8:]}"),
        by(QUERY_STRING=f"access_token={MADE.text}&api_key={MADE.text}"),
        by(HTTP_COOKIE=f"token={MADE.text}"),
    ],
    ids=lambda environ: ",".join(environ) or "nothing",
)
def test_what_is_no_credential_is_refused(gate: Identity, world: World, environ: dict[str, str]) -> None:
    """401, with what to send instead, and no query."""
    assert (status(gate, environ), world.asked) == (401, [])


def test_a_credential_that_is_given_twice_is_told_so(gate: Identity) -> None:
    """In two headers of one name, which WSGI joins, or of two: each is right, and to say that it is none misleads."""
    token = f"Bearer {TOKENS.issue(Claims(ADA.id, 'shop', 1))}"
    twice = [
        by(f"{KEY},{KEY}"),
        by(f"{token},{token}"),
        by(HTTP_X_API_KEY=f"{MADE.text},{MADE.text}"),
        by(KEY, HTTP_X_API_KEY=MADE.text),
    ]

    for environ in twice:
        with pytest.raises(Problem, match="unauthorized") as caught:
            gate.caller(environ)
        assert caught.value.detail.startswith("say who you are once")


def test_row_24_a_token_in_the_query_string_is_not_looked_at(gate: Identity, world: World) -> None:
    """URLs are logged and kept by everything on the way."""
    for name in ("access_token", "token", "api_key", "key", "authorization"):
        assert status(gate, by(QUERY_STRING=f"{name}={MADE.text}")) == 401
    assert world.asked == []


def test_a_wrong_secret_an_unknown_id_and_a_revoked_key_are_one_answer(gate: Identity, world: World) -> None:
    """Whoever guesses learns nothing of which there are."""
    world.keys[OTHER.id] = replace(FOUND, secret_sha256=OTHER.sha256, is_revoked=True)
    answers = []
    for text in (f"nk_live_{MADE.id}_{'a' * 43}", api_keys.make().text, OTHER.text):
        with pytest.raises(Problem) as caught:
            gate.caller(by(f"Bearer {text}"))
        answers.append(caught.value.members() | dict(caught.value.headers))

    assert answers[0] == answers[1] == answers[2]
    assert answers[0]["status"] == 401
    assert len(world.asked) == 3  # a look into the table for each


def test_what_was_said_of_a_key_is_believed_for_four_seconds(gate: Identity, world: World) -> None:
    """So that a request costs PostgreSQL nothing; then it is asked again, and a revoked key is refused."""
    assert BELIEVED_S <= 4
    assert [status(gate, by(KEY)) for _ in range(100)] == [200] * 100
    assert world.asked == [MADE.id]

    world.keys[MADE.id] = replace(FOUND, is_revoked=True)
    world.now += BELIEVED_S - 0.01
    assert status(gate, by(KEY)) == 200
    world.now += 0.01
    assert [status(gate, by(KEY)) for _ in range(10)] == [401] * 10
    assert world.asked == [MADE.id] * 2


def test_a_refusal_is_believed_too_and_ends(gate: Identity, world: World) -> None:
    """A program with a dead key asks PostgreSQL once in four seconds; a tenant that is resumed is let in."""
    world.keys[MADE.id] = replace(FOUND, is_suspended=True)
    assert [status(gate, by(KEY)) for _ in range(10)] == [403] * 10
    assert len(world.asked) == 1

    world.keys[MADE.id] = FOUND
    world.now += BELIEVED_S
    assert status(gate, by(KEY)) == 200


def test_a_key_is_refused_the_moment_it_expires(gate: Identity, world: World) -> None:
    """What is believed ends no later, PostgreSQL there or away."""
    at = datetime(2030, 1, 1, tzinfo=UTC)
    world.keys[MADE.id] = replace(FOUND, valid_for_s=1.5, expires_at=at)
    assert gate.caller(by(KEY)).expires_at == at

    world.now += 1.5
    world.is_away = True
    assert status(gate, by(KEY)) == 503
    world.is_away = False
    world.keys[MADE.id] = replace(FOUND, valid_for_s=-0.1)
    assert status(gate, by(KEY)) == 401


def test_the_secret_before_the_rotation_ends_with_the_overlap(gate: Identity, world: World) -> None:
    """The new one goes on."""
    after = api_keys.make(MADE.id)
    world.keys[MADE.id] = replace(
        FOUND, secret_sha256=after.sha256, previous_sha256=MADE.sha256, previous_valid_for_s=2.0
    )
    assert status(gate, by(KEY)) == 200
    assert status(gate, by(f"Bearer {after.text}")) == 200

    world.now += 2.0
    world.keys[MADE.id] = replace(world.keys[MADE.id], previous_valid_for_s=0.0)
    assert status(gate, by(KEY)) == 401
    assert status(gate, by(f"Bearer {after.text}")) == 200


def test_while_postgresql_is_away_a_key_seen_lately_is_let_in(gate: Identity, world: World) -> None:
    """For a minute since PostgreSQL last knew it; one that was not seen is 503, not 401."""
    assert status(gate, by(KEY)) == 200
    world.is_away = True
    world.now += AWAY_S - 1
    assert status(gate, by(KEY)) == 200
    assert status(gate, by(f"Bearer {OTHER.text}")) == 503
    world.now += 1
    assert status(gate, by(KEY)) == 503

    world.is_away = False
    assert status(gate, by(KEY)) == 200


def test_while_postgresql_is_away_a_refusal_is_not_forgotten(gate: Identity, world: World) -> None:
    """Nor does it let anybody in when it is."""
    wrong = f"Bearer nk_live_{MADE.id}_{'a' * 43}"
    assert status(gate, by(wrong)) == 401
    world.is_away = True
    assert status(gate, by(wrong)) == 401
    world.now += BELIEVED_S
    assert status(gate, by(wrong)) == 503


def test_a_revoked_key_is_not_let_in_by_an_outage(gate: Identity, world: World) -> None:
    """It was known within the last minute; and it is known to be revoked."""
    assert status(gate, by(KEY)) == 200
    world.keys[MADE.id] = replace(FOUND, is_revoked=True)
    world.now += BELIEVED_S
    assert status(gate, by(KEY)) == 401

    world.is_away = True
    world.now += BELIEVED_S
    assert status(gate, by(KEY)) == 503


def test_a_user_who_was_shut_out_is_not_let_in_by_an_outage(gate: Identity, world: World) -> None:
    """As a key is not."""
    assert status(gate, by(token())) == 200
    world.users[ADA.id] = replace(ADA, is_disabled=True)
    world.now += BELIEVED_S
    assert status(gate, by(token())) == 401

    world.is_away = True
    world.now += BELIEVED_S
    assert status(gate, by(token())) == 401


def test_a_flood_of_wrong_keys_drops_no_good_one(gate: Identity, world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is remembered is bounded, what is refused apart from what is let in."""
    monkeypatch.setattr(gate, "_refused", Kept(50))
    assert status(gate, by(KEY)) == 200

    for _ in range(200):
        assert status(gate, by(f"Bearer {api_keys.make().text}")) == 401

    assert len(gate._refused) == 50
    assert status(gate, by(KEY)) == 200
    assert world.asked.count(MADE.id) == 1


def test_where_keys_are_guessed_too_often_unknown_ones_are_not_looked_up(gate: Identity, world: World) -> None:
    """A key that was let in before goes on, and is asked about again as ever; a revoked one is found out."""
    assert status(gate, by(KEY)) == 200
    world.is_flooded = True
    world.now += BELIEVED_S

    assert [status(gate, by(f"Bearer {api_keys.make().text}")) for _ in range(50)] == [429] * 50
    assert status(gate, by(KEY)) == 200
    assert world.asked == [MADE.id] * 2
    world.keys[MADE.id] = replace(FOUND, is_revoked=True)
    world.now += BELIEVED_S
    assert status(gate, by(KEY)) == 401


def test_what_is_kept_is_bounded_and_drops_the_oldest() -> None:
    """What is written again is young again."""
    kept: Kept[int, str] = Kept(3)
    for number in (1, 2, 3, 1, 4):
        kept.put(number, str(number))

    assert [kept.get(number) for number in (1, 2, 3, 4)] == ["1", None, "3", "4"]
    assert len(kept) == 3


def test_uses_are_noted_when_the_table_is_asked(gate: Identity, world: World) -> None:
    """Once in four seconds at most, and of keys that were let in."""
    for _ in range(10):
        status(gate, by(KEY))
        status(gate, by(f"Bearer {api_keys.make().text}"))

    assert world.used == [MADE.id]


def test_uses_are_written_at_most_once_a_minute(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    """On a thread of its own; an outage loses them, and nothing else."""
    written: list[list[str]] = []
    monkeypatch.setattr(table, "touch", lambda _conn, ids: written.append(ids))
    uses = KeyUses(world, write_every_s=3600)  # type: ignore[arg-type]

    world.is_away = True
    uses.note("a")
    assert uses.run_once() == 0
    world.is_away = False
    for key_id in ("b", "a", "b"):
        uses.note(key_id)
    assert uses.run_once() == 2
    uses.note("b")
    assert uses.run_once() == 0
    uses.note("c")
    uses.close()

    assert written == [["a", "b"], ["c"]]


def token(**changes: Any) -> str:
    """What Ada got when she signed in."""
    claims: dict[str, Any] = {"user_id": ADA.id, "tenant_id": "shop", "version": 1} | changes
    return "Bearer " + TOKENS.issue(Claims(**claims))


def test_a_user_is_known(gate: Identity, world: World) -> None:
    """With the scopes of the role that they have now, whatever they had when they signed in."""
    assert gate.caller(by(token())) == Caller(
        tenant_id="shop",
        kind=CallerKind.USER,
        id=str(ADA.id),
        name="Ada",
        scopes=frozenset((Scope.SEND, Scope.READ)),
    )

    world.users[ADA.id] = replace(ADA, role="admin")
    world.now += BELIEVED_S
    assert gate.caller(by(token())).scopes == frozenset(Scope)


@pytest.mark.parametrize(
    ("changed", "expected"),
    [
        (replace(ADA, is_disabled=True), 401),
        (replace(ADA, token_version=2), 401),
        (replace(ADA, tenant_id="bank"), 401),
        (replace(ADA, is_suspended=True), 403),
    ],
)
def test_a_user_who_is_shut_out_is_refused_within_four_seconds(
    gate: Identity, world: World, changed: SignedIn, expected: int
) -> None:
    """Disabled, with another password, moved, or of a tenant that is suspended."""
    assert status(gate, by(token())) == 200
    world.users[ADA.id] = changed
    assert status(gate, by(token())) == 200

    world.now += BELIEVED_S
    assert status(gate, by(token())) == expected


def test_who_signs_in_anew_is_let_in_at_once(gate: Identity, world: World) -> None:
    """What is known of them may be from before their new password; a token of before it stays refused."""
    before = token()
    assert status(gate, by(before)) == 200
    world.users[ADA.id] = replace(ADA, token_version=2)

    assert status(gate, by(token(version=2))) == 200
    assert status(gate, by(before)) == 401
    assert len(world.asked) == 2


def test_row_23_a_token_for_another_tenant_than_the_users_is_refused(gate: Identity) -> None:
    """Its tenant claim does not choose one."""
    assert status(gate, by(token(tenant_id="bank"))) == 401


def test_a_token_of_nobody_is_refused(gate: Identity, world: World) -> None:
    """And is asked for once."""
    assert [status(gate, by(token(user_id=UUID(int=1)))) for _ in range(5)] == [401] * 5
    assert world.asked == [UUID(int=1)]


def test_while_postgresql_is_away_a_user_seen_lately_is_let_in(gate: Identity, world: World) -> None:
    """As keys are; whoever was nobody is not."""
    assert status(gate, by(token())) == 200
    assert status(gate, by(token(user_id=UUID(int=1)))) == 401
    world.is_away = True
    world.now += AWAY_S - 1
    assert status(gate, by(token())) == 200
    assert status(gate, by(token(user_id=UUID(int=1)))) == 503
    world.now += 1
    assert status(gate, by(token())) == 503


def test_a_key_has_256_random_bits_and_hides_them() -> None:
    """62 to the 43rd; the text is in no repr."""
    made = {api_keys.make().text for _ in range(50)}

    assert 62**43 > 2**256
    assert len(made) == 50
    assert MADE.text not in repr(MADE)
    assert api_keys.taken_apart(MADE.text) == (MADE.id, MADE.text[-43:])
    assert api_keys.digest(MADE.text[-43:]) == MADE.sha256


def test_a_key_is_compared_in_constant_time(monkeypatch: pytest.MonkeyPatch, gate: Identity) -> None:
    """Both digests, whether or not there is such a key: the same work for each."""
    compared: list[tuple[int, int]] = []

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return left == right

    monkeypatch.setattr(hmac, "compare_digest", compare)
    for environ in (by(KEY), by(f"Bearer {OTHER.text}"), by(f"Bearer nk_live_{MADE.id}_{'a' * 43}")):
        status(gate, environ)

    assert compared == [(32, 32)] * 6
