"""JSON that something behind us would refuse, or read differently, is refused at the door."""

import json
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from api_service import strict_json
from api_service.strict_json import JsonError


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", "malformed_json"),
        (b"{", "malformed_json"),
        (b"{} {}", "malformed_json"),
        (b"NaN", "malformed_json"),
        (b"[Infinity]", "malformed_json"),
        (b"1e999", "number_out_of_range"),
        (b"\xef\xbb\xbf{}", "byte_order_mark"),
        ('{"a":1}'.encode("utf-16"), "invalid_utf8"),
        (b'"\xff"', "invalid_utf8"),
        (rb'"\ud800"', "malformed_json"),
        (b'"a\x00b"', "malformed_json"),
        (rb'{"a":"b\u0000"}', "nul_character"),
        (rb'{"a\u0000":"b"}', "nul_character"),
        (rb'[["\u0000"]]', "nul_character"),
        (b"9" * 5000, "number_out_of_range"),
        (b"18446744073709551616", "integer_too_large"),
        (b'{"a": -9223372036854775809}', "integer_too_large"),
        (b"[" * 100_000 + b"]" * 100_000, "nested_too_deep"),
        (b'{"a":' * 300 + b"1" + b"}" * 300, "nested_too_deep"),
        (b'{"a":1,"a":2}', "repeated_name"),
        (b'{"a" : 1, "a":2, "b":"x\\":y"}', "repeated_name"),
        (b'{"a":1,"a":2,"b":"x\\"\\u003ay"}', "repeated_name"),
        (b'{"a":{"b":1,"b":1}}', "repeated_name"),
        (b'{"a":1,"\\u0061":2}', "repeated_name"),
        (rb'{"a":1,"a":"\u0022: x"}', "repeated_name"),
        (rb'{"a":1,"a":"\"\u003a x"}', "repeated_name"),
        (rb'{"a":1,"a":"\"\u003A x"}', "repeated_name"),
        (b'{"a":1,"a" \n\t:2}', "repeated_name"),
    ],
)
def test_unsafe_json_is_refused_with_its_reason(body: bytes, code: str) -> None:
    """The reason is a constant; the message quotes nothing of the body."""
    with pytest.raises(JsonError) as caught:
        strict_json.loads(body)

    assert caught.value.code == code


@pytest.mark.parametrize(
    ("body", "place"), [(b'{"a":}', "at column 6"), (b'{"a":1,\n"b":}', "at line 2, column 5")], ids=["one line", "two"]
)
def test_a_line_is_named_where_there_are_several(body: bytes, place: str) -> None:
    """Each line of a batch is read by itself, and would be line 1."""
    with pytest.raises(JsonError, match=f"not JSON {place}$"):
        strict_json.loads(body)


@pytest.mark.parametrize(
    "body",
    [rb'{"a":"\\u0000"}', b'{ "a" : 1 , "b" : " : " }', rb'{"a":"say \"x\": y"}', b"[18446744073709551615]", b"null"],
)
def test_what_only_looks_odd_is_read(body: bytes) -> None:
    """The slow inspection decides, not the suspicion."""
    assert strict_json.loads(body) == json.loads(body)


@pytest.mark.parametrize(
    "body",
    [
        b'{"a": 1, "b": "x", "c": [1.5, {"d": null}]}',
        rb'{"a":"caf\u00e9 \u0001 \u00A0","b":"line\nend"}',
        b'{"a": "1 : 2", "b": 1}',
        b'{"n":123456789012345678, "m":1}',
    ],
)
def test_what_ordinary_clients_write_is_not_inspected(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blanks after colons, escaped letters and colons in a text would cost ten times as much."""

    def inspect(_: bytes) -> None:
        raise AssertionError("was inspected")

    monkeypatch.setattr(strict_json, "_inspect", inspect)

    assert strict_json.loads(body) == json.loads(body)


texts = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00"))
values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=15,
)


@given(
    values, st.sampled_from([None, 1, 2]), st.booleans(), st.sampled_from([(",", ":"), (", ", ": "), (" , ", " : ")])
)
def test_any_way_of_writing_a_value_is_read_as_that_value(
    value: Any, indent: int | None, ascii_only: bool, separators: tuple[str, str]
) -> None:
    """Blanks and escapes make no difference."""
    body = json.dumps(value, indent=indent, ensure_ascii=ascii_only, separators=separators).encode()

    assert strict_json.loads(body) == value


@given(st.dictionaries(texts, values, min_size=1, max_size=5), st.data(), st.booleans())
def test_a_name_given_twice_is_always_found(members: dict[str, Any], data: st.DataObject, ascii_only: bool) -> None:
    """However the two are written."""
    name = data.draw(st.sampled_from(sorted(members)))
    blank = data.draw(st.sampled_from(["", " ", "\n", "\t"]))
    written = [f"{json.dumps(n, ensure_ascii=ascii_only)}{blank}:{json.dumps(v)}" for n, v in members.items()]
    written.insert(data.draw(st.integers(0, len(written))), f"{json.dumps(name)}:{json.dumps(data.draw(values))}")

    with pytest.raises(JsonError, match="twice"):
        strict_json.loads(("{" + ",".join(written) + "}").encode())


blanks = st.sampled_from(["", " ", "\n", "\t \r"])
pieces = st.sampled_from(
    [
        "a",
        "b",
        ":",
        '\\"',
        " :",
        "\\u0061",
        "\\u0022",
        "\\u003a",
        "\\u003A",
        "\\u0000",
        "\\\\",
        "\\u00e9",
        "é",
        "9" * 20,
    ]
)
strings = st.lists(pieces, max_size=4).map(lambda found: '"' + "".join(found) + '"')
numbers = st.sampled_from(["1", "-0", "1E5", "9" * 18, "9223372036854775808", "18446744073709551616", "1." + "2" * 30])


def documents(inner: st.SearchStrategy[str]) -> st.SearchStrategy[str]:
    """Arrays and objects written in any way, names given twice among them."""
    members = st.tuples(blanks, strings, blanks, blanks, inner).map(lambda m: f"{m[0]}{m[1]}{m[2]}:{m[3]}{m[4]}")
    return st.lists(inner, max_size=3).map(lambda found: f"[{','.join(found)}]") | st.lists(members, max_size=4).map(
        lambda found: "{" + ",".join(found) + "}"
    )


@given(st.recursive(strings | numbers | st.just("null"), documents, max_leaves=8))
def test_what_is_not_inspected_would_have_passed(text: str) -> None:
    """However names, colons and digits are written: no suspicion means no fault."""
    body = text.encode()
    try:
        rewritten = orjson.dumps(orjson.loads(body))
    except orjson.JSONDecodeError:
        return

    if not strict_json._may_be_odd(body, rewritten):
        strict_json._inspect(body)


def test_depth_counts_arrays_and_objects() -> None:
    """A plain value has none."""
    assert [strict_json.depth_of(value) for value in (1, [], {"a": 1}, [[1], {"a": {"b": []}}])] == [0, 1, 1, 4]
