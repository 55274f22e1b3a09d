"""What is understood by hand is what the schemas would have understood, to the last byte of a problem."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_service import fields, schemas
from api_service.accept import NotificationRequest
from api_service.problems import invalid
from api_service.schemas import InvalidRequestError

EMAIL = {"channel": "email", "recipient": "ada@example.com", "message": "hello"}
WEBHOOK = {"channel": "webhook", "recipient": "https://example.com/hook", "message": "hello"}
NOW = datetime.now(UTC)


def ahead(**delta: float) -> str:
    return (NOW + timedelta(**delta)).isoformat()


def nested(depth: int) -> Any:
    value: Any = {}
    for _ in range(depth - 1):
        value = {"a": value}
    return value


ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=6,
)
INSTANTS = [
    *(ahead(hours=1), ahead(hours=2), ahead(days=400), ahead(days=800), ahead(hours=-1)),
    *("2030-02-31T09:00:00Z", "2030-01-31", "tomorrow", ahead(hours=3).replace("+00:00", "z")),
]
VALUES: dict[str, list[Any]] = {
    "channel": ["email", "webhook", "EMAIL", "WebHook", "sms", ""],
    "recipient": [
        *("https://example.com/hook", "http://localhost:9000/", "HTTPS://EXAMPLE.COM", "http://[::1]:80/x"),
        *("ftp://example.com", "https://u:p@example.com/", "https://example.com/#x", "https://exämple.com/", ""),
        *("https://a.example.com/" + "p" * 2048, "https://example.com:0/", "https://a..b/", "https://example.com/\n"),
        *("ada@example.com", "Ada.L+x@mail.example.org", "PostMaster@example.com", "ada@BÜCHER.de", "a..b@example.com"),
        *(
            "ada",
            "ada@example.com\n",
            "Ada <ada@example.com>",
            "ädä@example.com",
            "a" * 300 + "@example.com",
            ".a@b.de",
        ),
    ],
    "endpoint": ["ep_" + "0" * 32, "ep_" + "f" * 31, "ep_" + "F" * 32, "https://example.com/hook", "", "ep_"],
    "message": ["hello", " ", "", "\u2003\u00a0", "x" * 50_000, "\x01" * 44_000, "ä" * 132_000, "z" * 262_145],
    "subject": ["hello", "a\r\nb", "=?utf-8?q?=0a?=", "2+2=? Really?", "\u00a0=?", "\u2028", "s" * 999, ""],
    "payload": [{}, {"a": [1]}, nested(64), nested(65), {"[{" * 60: 1}, {"a": [[]] * 70}, {"a": "v" * 263_000}],
    "metadata": [{}, {"a": [1]}, nested(64), nested(65), {"[{" * 60: 1}, {"a": [[]] * 70}, {"a": "v" * 16_400}],
    "headers": [
        *({}, {"X-A": "v"}, {"X-A": ""}, {"X-A": " v"}, {"X-A": 1}, {"X-A": "a\r\nb"}, {"X-A": "v" * 1025}),
        *({"X-A": "1", "x-a": "2"}, {"X-A": "=?x?q?=0a?="}, {"Authorization": "v"}, {"Host": "v"}, {"webhook-id": "v"}),
        *({"X-A\r\n": "v"}, {"ä": "v"}, {"X-Notification-Id": "v"}, {f"X-{n}": "v" for n in range(33)}),
    ],
    "sender": [
        *(
            "ann@example.com",
            "Ann <ann@example.com>",
            "Ann Ö. <ann@BÜCHER.de>",
            "Ann<a@example.com>",
            "<a@example.com>",
        ),
        *('"Ann" <a@example.com>', "Ann <a@example.com", "Ann\r\nBcc: b@x <a@example.com>", "=?x?q?=0a?= <a@b.de>"),
        *(" Ann <a@example.com>", "a@example.com, b@example.com", "n" * 320, ""),
    ],
    "ordering_key": ["order-1", "", "a\nb", "k" * 200, "k" * 201, "schlüssel", "\u00a0"],
    "scheduled_for": INSTANTS,
    "expires_at": INSTANTS,
    "expires_in": [1, 60, 0.5, 0, -1, True, "60", 10**9, 1e300, 7200],
    "priority": ["low", "normal", "high", "urgent", "medium", "Medium", "URGENT", "asap"],
    "on_unknown": ["retry", "hold", "HOLD", "explode"],
    "color": ["red"],
}
ODD = [None, 0, 1.5, True, "", "x", [], ["email"], {}, {"a": None}]


@st.composite
def bodies(draw: st.DrawFn) -> Any:
    """Right but for what a few fields make of it."""
    base = draw(st.sampled_from([EMAIL, WEBHOOK]))
    names = draw(st.lists(st.sampled_from(sorted(VALUES)), min_size=1, max_size=4, unique=True))
    return base | {name: draw(st.sampled_from(VALUES[name])) for name in names}


@pytest.fixture(params=[None, "https://example.com/default"], ids=["no default", "a default"])
def default_url(request: pytest.FixtureRequest) -> Any:
    """The URL of webhooks that name none, where there is one."""
    return request.param


class _Frozen(datetime):
    """A clock that stands still, so that two judgements are made at one instant."""

    @classmethod
    def now(cls, tz: Any = None) -> Any:
        return NOW.astimezone(tz)


@pytest.fixture(scope="module", autouse=True)
def _clock() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for module in (schemas, fields):
            patch.setattr(module, "datetime", _Frozen)
        yield


@pytest.mark.parametrize("name", sorted(VALUES))
@pytest.mark.parametrize("base", [EMAIL, WEBHOOK], ids=["email", "webhook"])
def test_each_value_of_a_field_is_seen_alike(base: dict[str, Any], name: str, default_url: str | None) -> None:
    """Right, wrong, of another type, or not there."""
    for value in VALUES[name] + ODD:
        compare(base | {name: value}, default_url)
    compare({other: value for other, value in base.items() if other != name}, default_url)


@given(bodies() | ANYTHING, st.sampled_from([None, "https://example.com/default"]))
def test_by_hand_and_by_the_schemas_is_the_same(body: Any, default_url: str | None) -> None:
    """One verdict, the same values of the same types, the same bytes of the same problem."""
    compare(body, default_url)


def compare(body: Any, default_url: str | None) -> None:
    """Hold what is understood by hand against the schemas."""
    judged = outcome(lambda: schemas.judged(body, default_url))

    assert outcome(lambda: schemas.load(body, default_webhook_url=default_url)) == judged
    if (plain := schemas.plainly_right(body, default_url)) is not None:
        assert outcome(lambda: plain) == judged


def outcome(read: Any) -> Any:
    """The values with their types, or the problem as it is sent."""
    try:
        request: NotificationRequest = read()
    except InvalidRequestError as error:
        return orjson.dumps(invalid(error.faults).members())
    return {name: (type(value), value) for name, value in request._asdict().items()}


@pytest.mark.parametrize(
    "body",
    [
        EMAIL,
        EMAIL | {"subject": "Your order", "headers": {"X-Order": "1"}, "metadata": {"customer": 1}},
        EMAIL | {"priority": "high", "on_unknown": "hold", "ordering_key": "order-1", "expires_in": 60},
        WEBHOOK,
        WEBHOOK | {"payload": {"items": [{"sku": "a"}, {"sku": "b"}]}, "headers": {"Authorization": "Bearer x"}},
        WEBHOOK | {"scheduled_for": ahead(days=1)},
        WEBHOOK | {"expires_at": ahead(days=1)},
        {"channel": "webhook", "message": "hello"},
        {"channel": "webhook", "message": "hello", "endpoint": "ep_" + "0" * 32},
    ],
)
def test_what_clients_send_needs_no_schema(body: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> None:
    """Or nothing would be gained."""

    def judge(*_: Any) -> None:
        raise AssertionError("was judged")

    monkeypatch.setattr(schemas, "judged", judge)

    assert schemas.load(body, default_webhook_url="https://example.com/default").message == "hello"


@pytest.mark.parametrize(
    "body",
    [
        EMAIL | {"channel": "EMAIL"},
        WEBHOOK | {"priority": "medium"},
        {"channel": "webhook", "message": "hello"},
        EMAIL | {"scheduled_for": ahead(hours=1), "expires_in": 7200},
        EMAIL | {"message": None},
        EMAIL | {"endpoint": "ep_" + "0" * 32},
        WEBHOOK | {"endpoint": "ep_" + "0" * 32},
        {"channel": "webhook", "message": "hello", "endpoint": "ep_x"},
        [EMAIL],
    ],
)
def test_a_doubt_is_left_to_the_schemas(body: Any) -> None:
    """Right or wrong, it is for them to say."""
    assert schemas.plainly_right(body) is None
