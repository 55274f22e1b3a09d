"""Tokens: what is issued is read, and nothing else is."""

import base64
import json
import time
from typing import Any
from uuid import UUID

import jwt
import pytest
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from api_service.tokens import ALGORITHM, AUDIENCE, ISSUER, SKEW_S, Claims, TokenError, Tokens
from shared.key_rings import NamedKey

FIRST = NamedKey("2030", b"a first key of thirty-two bytes.")
SECOND = NamedKey("2029", b"another key, of thirty-two bytes")
WHO = Claims(UUID(int=7), "shop", 3)
DAY_S = 86_400


@pytest.fixture
def tokens() -> Tokens:
    """A service that signs with the first key and still reads the second."""
    return Tokens([FIRST, SECOND], lifetime_s=DAY_S)


def said(**changes: Any) -> dict[str, Any]:
    """The claims of a good token, with changes; None takes one away."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": AUDIENCE, "sub": str(WHO.user_id), "tenant": "shop", "ver": 3, "iat": now}
    return {name: value for name, value in (claims | {"exp": now + DAY_S} | changes).items() if value is not None}


def signed(claims: dict[str, Any], key: Any = FIRST.key, *, algorithm: str = ALGORITHM, **header: Any) -> str:
    """A token that somebody has made."""
    return jwt.PyJWS().encode(json.dumps(claims).encode(), key, algorithm, {"kid": "2030", **header})


def put_together(header: dict[str, Any], claims: dict[str, Any], signature: bytes = b"") -> str:
    """A token that no library would make."""
    parts = (json.dumps(header).encode(), json.dumps(claims).encode(), signature)
    return ".".join(base64.urlsafe_b64encode(part).rstrip(b"=").decode() for part in parts)


def refused(tokens: Tokens, token: str) -> bool:
    """Whether a token is refused."""
    try:
        tokens.read(token)
    except TokenError:
        return True
    return False


def test_what_is_issued_is_read(tokens: Tokens) -> None:
    """By the key that signed it, as the first or as one of the others."""
    token = tokens.issue(WHO)

    assert tokens.read(token) == WHO
    assert Tokens([SECOND, FIRST], lifetime_s=60).read(token) == WHO
    assert refused(Tokens([SECOND], lifetime_s=60), token)
    assert jwt.get_unverified_header(token) == {"alg": "HS256", "typ": "JWT", "kid": "2030"}


def test_without_a_key_nothing_is_issued_or_read(tokens: Tokens) -> None:
    """An empty ring is no key of length nought."""
    keyless = Tokens([], lifetime_s=60)

    assert not keyless
    assert refused(keyless, tokens.issue(WHO))
    with pytest.raises(RuntimeError):
        keyless.issue(WHO)


def test_a_good_token_put_together_by_hand_is_read(tokens: Tokens) -> None:
    """Or the refusals below would say nothing."""
    assert tokens.read(signed(said())) == WHO
    assert tokens.read(signed(said(), SECOND.key, kid="2029")) == WHO


def test_row_20_an_algorithm_that_is_not_ours_is_refused(tokens: Tokens) -> None:
    """None, another length of ours, RSA, the public key taken for a secret, and a key that is not ours."""
    pair = rsa.generate_private_key(public_exponent=65537, key_size=2048)
    public = pair.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    confused = put_together({"alg": "HS256", "typ": "JWT", "kid": "2030"}, said())
    confused = confused.rpartition(".")[0]
    mac = jwt.algorithms.HMACAlgorithm(jwt.algorithms.HMACAlgorithm.SHA256).sign(confused.encode(), public)

    made = {
        "none": put_together({"alg": "none", "typ": "JWT", "kid": "2030"}, said()),
        "None": put_together({"alg": "None", "typ": "JWT", "kid": "2030"}, said()),
        "no signature": put_together({"alg": "HS256", "typ": "JWT", "kid": "2030"}, said()),
        "another length": signed(said(), FIRST.key * 2, algorithm="HS512"),
        "our key, another length": jwt.encode(said(), FIRST.key + bytes(16), "HS384", headers={"kid": "2030"}),
        "RSA": signed(said(), pair, algorithm="RS256"),
        "a public key for a secret": f"{confused}.{base64.urlsafe_b64encode(mac).rstrip(b'=').decode()}",
        "a wrong key": signed(said(), b"a key that is ours in no setting"),
        "the other key's kid": signed(said(), kid="2029"),
    }

    assert [name for name, token in made.items() if not refused(tokens, token)] == []


@pytest.mark.filterwarnings("ignore::jwt.warnings.InsecureKeyLengthWarning")
def test_row_20_our_key_with_another_algorithm_is_refused(tokens: Tokens) -> None:
    """Whoever had the key could sign as we do; but what is read is decided here, not by a token."""
    assert refused(tokens, signed(said(), algorithm="HS384"))
    assert refused(tokens, signed(said(), algorithm="HS512"))


NOW = int(time.time())


@pytest.mark.parametrize(
    "changes",
    [
        {"exp": None},
        {"exp": NOW - 2 * SKEW_S},
        {"exp": 1e308},
        {"exp": float(NOW + 600)},
        {"exp": str(NOW + 600)},
        {"exp": True},
        {"exp": NOW + 400 * DAY_S},
        {"exp": 2**80},
        {"iat": None},
        {"iat": NOW + 10 * SKEW_S},
        {"iat": -1},
        {"nbf": NOW + 10 * SKEW_S},
        {"nbf": "soon"},
        {"iss": None},
        {"iss": "somebody else"},
        {"iss": ["notification-pipeline"]},
        {"aud": None},
        {"aud": "another-service"},
        {"aud": [AUDIENCE, "another-service"]},
        {"ver": None},
        {"ver": "3"},
    ],
    ids=lambda changes: next(iter(changes)),
)
def test_row_21_a_claim_that_is_missing_or_off_is_refused(tokens: Tokens, changes: dict[str, Any]) -> None:
    """Expiry, issuer and audience are required, and are what they should be; our own signature changes nothing."""
    assert refused(tokens, signed(said(**changes)))


def test_row_21_clocks_may_differ_by_less_than_a_minute(tokens: Tokens) -> None:
    """A token of a machine that is a little ahead is good; one that has just expired, too."""
    now = int(time.time())

    assert 0 < SKEW_S <= 60
    assert tokens.read(signed(said(iat=now + SKEW_S // 2))) == WHO
    assert tokens.read(signed(said(iat=now - 600, exp=now - SKEW_S // 2))) == WHO


@pytest.mark.parametrize(
    "header",
    [
        {"kid": "../../etc/passwd"},
        {"kid": "/dev/null"},
        {"kid": "2030' OR '1'='1"},
        {"kid": "http://127.0.0.1:9/keys.json"},
        {"kid": ""},
        {"kid": "20300"},
        {"jku": "http://127.0.0.1:9/keys.json"},
        {"x5u": "http://127.0.0.1:9/cert.pem"},
        {"x5c": ["MIIB"]},
        {"jwk": {"kty": "oct", "k": "AAAA"}},
        {"crit": ["exp"]},
        {"cty": "JWT"},
    ],
    ids=str,
)
def test_row_22_a_header_that_says_where_the_key_is_is_refused(tokens: Tokens, header: dict[str, Any]) -> None:
    """A kid is a name among our settings and is never opened, fetched or asked a database for.

    Unit tests have no network: whatever was fetched would have failed the test by itself. The signature is good.
    """
    assert refused(tokens, signed(said(), **header))


def test_row_22_a_kid_that_is_no_string_or_missing_is_refused(tokens: Tokens) -> None:
    """Neither is looked up."""
    for kid in (None, 2030, ["2030"], {"2030": 1}, True):
        assert refused(tokens, put_together({"alg": "HS256", "typ": "JWT", "kid": kid}, said()))
    assert refused(tokens, jwt.encode(said(), FIRST.key, algorithm="HS256"))


@pytest.mark.parametrize("tenant", [["shop"], 7, 7.0, "", None, {"shop": 1}, True, []], ids=str)
def test_row_23_a_tenant_that_is_no_name_is_refused(tokens: Tokens, tenant: Any) -> None:
    """A list, a number, nothing: none of these is compared with anything."""
    assert refused(tokens, signed(said(tenant=tenant)))


@pytest.mark.parametrize("sub", ["ada", "", 7, ["00000000-0000-0000-0000-000000000007"], None], ids=str)
def test_a_subject_that_is_no_user_id_is_refused(tokens: Tokens, sub: Any) -> None:
    """No query is made for it."""
    assert refused(tokens, signed(said(sub=sub)))


@pytest.mark.parametrize(
    "text", ["", ".", "..", "a.b.c", "é.é.é", "nonsense", "A" * 5000, "e30.e30.e30", "\x00.\x00.\x00", "W10.W10.W10"]
)
def test_what_is_no_token_is_refused(tokens: Tokens, text: str) -> None:
    """Whatever it is, with the one error."""
    assert refused(tokens, text)
