"""Secrets at rest: what is sealed opens for its own row alone, and nothing shows it."""

import base64
import pickle

import pytest
from hypothesis import given
from hypothesis import strategies as st

from shared.key_rings import NamedKey
from shared.secrets import Keyring, SecretError
from shared.settings import Environment, read_secrets_keys

OLD, NEW = NamedKey("2025", bytes(range(32))), NamedKey("2026", bytes(range(100, 132)))
RING = Keyring([NEW, OLD])
HERE = {"table": "endpoints", "row_id": "0193f0a0-0000-7000-8000-000000000001", "tenant_id": "acme"}


def read(value: str) -> tuple[tuple[NamedKey, ...], list[str]]:
    """The keys of a setting, and the faults it has."""
    env = Environment({"SECRETS_KEYS": value})
    return read_secrets_keys(env), [str(fault) for fault in env.faults]


def named(kid: str, key: bytes) -> str:
    """A key as the setting writes it."""
    return f"{kid}:{base64.b64encode(key).decode()}"


names = st.text(min_size=1, max_size=40).filter(lambda text: text.isprintable())


@given(plain=st.binary(max_size=300), table=names, row=names, tenant=names)
def test_what_was_sealed_opens_and_is_not_to_be_seen_in_it(plain: bytes, table: str, row: str, tenant: str) -> None:
    """Any bytes, any names; a later ring that still has the key opens it too."""
    sealed = Keyring([OLD]).seal(plain, table=table, row_id=row, tenant_id=tenant)

    assert RING.open(sealed, table=table, row_id=row, tenant_id=tenant) == plain
    assert len(plain) < 8 or plain not in sealed
    assert sealed != Keyring([OLD]).seal(plain, table=table, row_id=row, tenant_id=tenant)


@given(data=st.data(), plain=st.binary(min_size=1, max_size=64))
def test_no_bit_of_it_can_be_changed(data: st.DataObject, plain: bytes) -> None:
    """Version, kid, nonce, ciphertext, tag: whichever is touched, it does not open."""
    sealed = bytearray(RING.seal(plain, **HERE))
    place = data.draw(st.integers(0, len(sealed) - 1))
    sealed[place] ^= 1 << data.draw(st.integers(0, 7))

    with pytest.raises(SecretError):
        RING.open(bytes(sealed), **HERE)


@given(st.binary(max_size=80))
def test_bytes_that_nobody_sealed_are_refused_in_one_way(sealed: bytes) -> None:
    """No other error comes out of whatever a row holds."""
    for found in (sealed, b"\x01" + sealed):
        with pytest.raises(SecretError):
            RING.open(found, **HERE)


@pytest.mark.parametrize("changed", ["table", "row_id", "tenant_id"])
def test_row_57_the_ciphertexts_of_two_rows_or_tenants_cannot_be_swapped(changed: str) -> None:
    """Table, row and tenant are authenticated with it: another's secret does not open in one's own place."""
    mine, theirs = HERE, HERE | {changed: "another"}
    sealed_mine, sealed_theirs = RING.seal(b"mine", **mine), RING.seal(b"theirs", **theirs)

    with pytest.raises(SecretError, match="made for another row"):
        RING.open(sealed_theirs, **mine)
    with pytest.raises(SecretError, match="made for another row"):
        RING.open(sealed_mine, **theirs)


def test_parts_of_the_place_cannot_lend_to_each_other() -> None:
    """Row `ab` of tenant `c` is not row `a` of tenant `bc`."""
    sealed = RING.seal(b"x", table="t", row_id="ab", tenant_id="c")

    with pytest.raises(SecretError):
        RING.open(sealed, table="t", row_id="a", tenant_id="bc")


def test_the_first_key_seals_and_every_key_opens() -> None:
    """So a new key is put first, and the old one is dropped once nothing needs it."""
    before, after = Keyring([OLD]).seal(b"x", **HERE), RING.seal(b"x", **HERE)

    assert (before.startswith(RING.head), after.startswith(RING.head)) == (False, True)
    assert (RING.open(before, **HERE), RING.open(after, **HERE)) == (b"x", b"x")
    with pytest.raises(SecretError, match="'2025', which SECRETS_KEYS does not have"):
        Keyring([NEW]).open(before, **HERE)


def test_another_key_of_the_same_name_does_not_open() -> None:
    """The name is a hint; the tag decides."""
    sealed = RING.seal(b"x", **HERE)

    with pytest.raises(SecretError):
        Keyring([NamedKey(NEW.kid, OLD.key)]).open(sealed, **HERE)


def test_without_a_key_nothing_is_sealed_in_clear() -> None:
    """An empty ring is false, and says which setting is missing."""
    empty = Keyring(())

    assert not empty
    with pytest.raises(SecretError, match="SECRETS_KEYS is not set"):
        empty.seal(b"x", **HERE)
    with pytest.raises(SecretError, match="SECRETS_KEYS is not set"):
        _ = empty.head


def test_a_name_that_begins_like_another_is_another_key() -> None:
    """What k1 has sealed does not look as if k10 had, or the other way round."""
    one, ten = Keyring([NamedKey("k1", OLD.key)]), Keyring([NamedKey("k10", NEW.key)])

    assert not one.seal(b"x", **HERE).startswith(ten.head)
    assert not ten.seal(b"x", **HERE).startswith(one.head)


def test_neither_keys_nor_secrets_are_shown() -> None:
    """Not by repr, not by an error, not by pickling; of a key its name is what people need."""
    sealed = RING.seal(b"canary-3f1c", **HERE)
    with pytest.raises(SecretError) as caught:
        RING.open(sealed, **HERE | {"tenant_id": "other"})

    assert repr(RING) == "Keyring(2026, 2025)"
    assert repr(NEW) == "NamedKey(kid='2026')"
    assert "canary" not in f"{caught.value!r} {caught.value.__cause__!r}"
    with pytest.raises(TypeError):
        pickle.dumps(RING)


def test_a_ring_is_read_from_its_setting() -> None:
    """The order is kept; nothing set is no key."""
    assert read(f"{named(NEW.kid, NEW.key)}, {named(OLD.kid, OLD.key)}") == ((NEW, OLD), [])
    assert read("") == ((), [])


@pytest.mark.parametrize(
    "value",
    [
        "dGVzdA==",
        base64.b64encode(NEW.key).decode(),
        f":{base64.b64encode(NEW.key).decode()}",
        f"a b:{base64.b64encode(NEW.key).decode()}",
        f"{'k' * 33}:{base64.b64encode(NEW.key).decode()}",
        named("short", NEW.key[:31]),
        named("long", NEW.key + b"x"),
        "k:not*base64",
        "k:ä",
        f"{named('twice', NEW.key)},{named('twice', OLD.key)}",
    ],
)
def test_a_ring_that_cannot_be_used_is_one_fault_and_not_shown(value: str) -> None:
    """No kid, no base64, another size than AES-256 has, one name for two keys."""
    keys, faults = read(value)

    assert keys == ()
    assert faults == [
        "SECRETS_KEYS: '(hidden)'; expected <kid>:<base64 of 32 random bytes>, several separated by commas, "
        "each kid once"
    ]
