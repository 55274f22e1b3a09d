"""Passwords: which are taken, how they are kept and compared, and how many at once."""

import re
import threading
from collections.abc import Iterator

import argon2
import bcrypt
import pytest

from api_service import passwords
from api_service.faults import FaultyValueError
from api_service.passwords import AT_ONCE, Passwords, Verdict, checked_password, is_accepted_hash
from api_service.problems import Problem

GOOD = "three geese over the lake"


@pytest.mark.parametrize(
    "password", [GOOD, "xK9#vLq2!mPz", "ü" * 3 + "ß日本語のパスワード", "a b c d e f g", "x" * 4 + GOOD * 4]
)
def test_a_password_is_taken_as_it_is(password: str) -> None:
    """Of any characters, not trimmed, not folded."""
    assert checked_password(password) == password


@pytest.mark.parametrize(
    "password",
    [
        "",
        "elevenchars",
        "x" * 129,
        "password1234",
        "PassWord!2030",
        "correct horse battery staple",
        "qwertyuiopas",
        "9876543210987",
        "abcabcabcabc",
        "aaaabbbbaaaabbbb",
        "1q2w3e4r5t6y",
        "changeme1234",
        "Welcome123456",
        "my secret password",
    ],
)
def test_a_password_that_is_short_long_or_common_is_refused(password: str) -> None:
    """12 to 128 characters, and not what is tried first."""
    with pytest.raises(FaultyValueError):
        checked_password(password)


def test_a_hash_is_argon2id_and_never_twice_the_same() -> None:
    """19 MiB, two passes."""
    first, second = Passwords().hashed(GOOD), Passwords().hashed(GOOD)

    assert re.match(r"\$argon2id\$v=19\$m=19456,t=2,p=1\$", first)
    assert first != second


def test_a_password_is_compared() -> None:
    """The right one, and no other; nobody's is nobody's."""
    keeper = Passwords()
    kept = keeper.hashed(GOOD)

    assert keeper.compared(GOOD, kept) == Verdict(right=True)
    assert keeper.compared(GOOD + " ", kept) == Verdict(right=False)
    assert keeper.compared(GOOD, None) == Verdict(right=False)


def test_nobodys_hash_costs_what_anybodys_does() -> None:
    """Or the time of an answer would say whose address is known: it is a real hash, made the way hashes are made."""
    assert passwords._NOBODYS.rpartition("$")[0].rpartition("$")[0] == "$argon2id$v=19$m=19456,t=2,p=1"
    assert not passwords._HASHER.check_needs_rehash(passwords._NOBODYS)
    with pytest.raises(argon2.exceptions.VerifyMismatchError):
        passwords._HASHER.verify(passwords._NOBODYS, GOOD)


@pytest.mark.parametrize("prefix", [b"2a", b"2b"])
def test_an_imported_hash_is_accepted_and_renewed(prefix: bytes) -> None:
    """bcrypt; what is kept from then on is argon2id of the same password."""
    imported = bcrypt.hashpw(GOOD.encode(), bcrypt.gensalt(4, prefix=prefix)).decode()
    keeper = Passwords()

    verdict = keeper.compared(GOOD, imported)

    assert is_accepted_hash(imported)
    assert verdict.right
    assert verdict.renewed is not None
    assert keeper.compared(GOOD, verdict.renewed) == Verdict(right=True)
    assert keeper.compared(GOOD + "!", imported) == Verdict(right=False)


def test_an_imported_hash_of_a_long_password_is_accepted_as_it_was_made() -> None:
    """Of its first 72 bytes: that is all that bcrypt ever looked at."""
    long = "long " * 20
    imported = bcrypt.hashpw(long.encode()[:72], bcrypt.gensalt(4)).decode()

    assert Passwords().compared(long, imported).right


@pytest.mark.parametrize(
    "text",
    ["", "secret", "$2b$15$" + "a" * 53, "$2b$31$" + "a" * 53, "$2x$10$" + "a" * 53, "$2b$10$short", "$1$abc$def"],
)
def test_a_hash_that_would_hold_a_thread_or_is_none_is_not_imported(text: str) -> None:
    """bcrypt of cost 31 takes days."""
    assert not is_accepted_hash(text)


def test_a_kept_hash_that_cannot_be_read_lets_nobody_in() -> None:
    """And is no error of ours."""
    assert Passwords().compared(GOOD, "disabled") == Verdict(right=False)


@pytest.fixture
def held(monkeypatch: pytest.MonkeyPatch) -> Iterator[threading.Event]:
    """Hashing that goes on until the event is set."""
    go_on = threading.Event()
    monkeypatch.setattr(passwords._HASHER.__class__, "hash", lambda *_: go_on.wait(10) and "")
    yield go_on
    go_on.set()


def test_no_more_than_two_are_hashed_at_once(held: threading.Event) -> None:
    """Whoever comes third is told to come back, at once: waiting would hold a thread."""
    keeper = Passwords()
    busy = [threading.Thread(target=keeper.hashed, args=(GOOD,)) for _ in range(AT_ONCE)]
    for one in busy:
        one.start()
    while keeper._places._free._value:
        pass

    with pytest.raises(Problem) as caught:
        keeper.hashed(GOOD)
    held.set()
    for one in busy:
        one.join()

    assert (caught.value.status, caught.value.headers["Retry-After"]) == (503, "1")
    assert keeper.hashed(GOOD) == ""


def test_a_verdict_does_not_show_its_hash() -> None:
    """It may be logged by mistake."""
    assert "argon2" not in repr(Verdict(right=True, renewed="$argon2id$..."))
