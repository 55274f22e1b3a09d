"""What the parsers are given: text and bytes that are nearly right, made from what is right."""

import functools
import json
from typing import Any, Final

from hypothesis import strategies as st

ODD: Final = (
    "\x00", "\n", "\r\n", "\r", "\x0b", "\x1b[31m", "\x85", "\u2028", "\u2029", "\ufeff", "\ud800", "\u202e", "%00",
    "%0d%0a", "=?utf-8?q?=0A?=", "=?utf-8?b?DQo=?=", "..", "//", "\\", "@", ":", "#", "?", "[", "]", " ", "\t", "，",
    "。", "１", "İ", "ß", "xn--", "-", "_", "0x7f", "127.1", "2130706433", "::ffff:127.0.0.1", "%lo", "1e999", "NaN",
    "-0", "9" * 30, "9" * 5000, "a" * 300,
)  # fmt: skip
"""Pieces that parsers stumbled over somewhere."""

pieces = st.one_of(st.sampled_from(ODD), st.text(max_size=6), st.text("abcdef0123456789.-", max_size=12))


def near(*right: str) -> st.SearchStrategy[str]:
    """Text that is right, or was: with pieces put in, taken out, doubled or swapped."""
    return st.one_of(
        st.sampled_from(right),
        st.text(max_size=80),
        st.lists(pieces, max_size=8).map("".join),
        st.builds(_changed, st.sampled_from(right), st.lists(st.tuples(st.integers(0, 200), pieces), max_size=4)),
    )


def _changed(text: str, changes: list[tuple[int, str]]) -> str:
    for place, piece in changes:
        at = place % (len(text) + 1)
        text = text[:at] + piece + text[at + (place % 3) :]
    return text


def near_bytes(*right: bytes) -> st.SearchStrategy[bytes]:
    """The same of bytes."""
    parts = st.one_of(
        st.binary(max_size=8), st.sampled_from([b"\r\n", b"\n", b"\0", b":", b" ", b"\xff\xfe", b"\xed\xa0\x80"])
    )
    return st.one_of(
        st.sampled_from(right),
        st.binary(max_size=200),
        st.builds(_changed_bytes, st.sampled_from(right), st.lists(st.tuples(st.integers(0, 2000), parts), max_size=4)),
    )


def _changed_bytes(data: bytes, changes: list[tuple[int, bytes]]) -> bytes:
    for place, piece in changes:
        at = place % (len(data) + 1)
        data = data[:at] + piece + data[at + (place % 3) :]
    return data


json_values: st.SearchStrategy[Any] = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=20), st.sampled_from(ODD)),
    lambda inner: st.one_of(st.lists(inner, max_size=4), st.dictionaries(st.text(max_size=8), inner, max_size=4)),
    max_leaves=12,
)
"""Whatever JSON can say, and NaN and lone surrogates besides."""


def json_bytes(value: Any) -> bytes:
    """Return JSON as a careless client writes it."""
    return json.dumps(value, ensure_ascii=False).encode("utf-8", "surrogatepass")


record_fields: Final[dict[str, Any]] = {
    "id": "01930e2a-7c1e-7000-8f3a-5b6c7d8e9f00",
    "tenant_id": "default",
    "channel": "webhook",
    "recipient": "https://example.org/hook",
    "message": "hello",
    "created_at": "2026-01-02T03:04:05.678Z",
    "subject": "Hi",
    "payload": {"order": 7},
    "headers": {"X-Trace": "1", "Reply-To": "a@example.org"},
    "metadata": {"a": 1},
    "ordering_key": "k",
    "priority": "high",
    "on_unknown": "hold",
}
_nothing: dict[str, Any] = {}
_deep: Final = functools.reduce(lambda inner, _: {"a": inner}, range(300), _nothing)
_fields: Final = st.one_of(
    st.dictionaries(st.sampled_from([*record_fields, "extra"]), json_values, max_size=4),
    st.fixed_dictionaries({"headers": st.dictionaries(st.sampled_from(["X-A", "Reply-To", "x", ""]), json_values)}),
    st.fixed_dictionaries({"payload": st.just(_deep), "channel": st.sampled_from(["email", "webhook"])}),
)
records = st.one_of(
    near_bytes(json.dumps(record_fields).encode()),
    st.builds(
        lambda changes, gone: json_bytes({k: v for k, v in {**record_fields, **changes}.items() if k not in gone}),
        _fields,
        st.sets(st.sampled_from([*record_fields]), max_size=2),
    ),
)
"""Kafka values: ours, ours with other values in them, and anything."""
