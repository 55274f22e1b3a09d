"""The proxy sees statements and complete answers however the bytes arrive."""

import random
import struct

import pytest

from shared.records import UndecodableRecordError, decode_record
from tests.chaos.faults.carrier import nonsense
from tests.chaos.faults.connections import STATEMENTS
from tests.chaos.pgwire import Answers, Statements
from tests.chaos.proxy import Rule
from tests.dockerfiles import REPOSITORY

SSL_REQUEST = struct.pack("!ii", 8, 80877103)
STARTUP = struct.pack("!ii", 8 + 14, 196608) + b"user\0postgres\0"


def typed(kind: bytes, body: bytes) -> bytes:
    """A message as both sides send it after the start."""
    return kind + struct.pack("!i", len(body) + 4) + body


PARSE = typed(b"P", b"_pg3_0\0INSERT INTO notifications (id) VALUES ($1)\0\0\0")
BIND = typed(b"B", b"\0_pg3_0\0" + b"\0" * 8)
EXECUTE = typed(b"E", b"\0" * 5) + typed(b"S", b"")


@pytest.mark.parametrize("size", [1, 3, 7, 1000])
def test_a_prepared_statement_is_known_when_it_is_bound(size: int) -> None:
    """Whatever the chunks; a second execution names the statement alone."""
    statements = Statements()
    stream = SSL_REQUEST + STARTUP + typed(b"Q", b"SELECT 1\0") + PARSE + BIND + EXECUTE + BIND + EXECUTE

    seen = [text for at in range(0, len(stream), size) for text in statements.sent(stream[at : at + size])]

    assert seen == ["SELECT 1", *["INSERT INTO notifications (id) VALUES ($1)"] * 2]


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_that_is_cut_is_one_of_the_product(name: str) -> None:
    """Or a connection would be cut at something that nobody sends any more."""
    product = "".join(path.read_text(encoding="utf-8") for path in (REPOSITORY / "shared/db").glob("*.py"))

    assert STATEMENTS[name] in product


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_an_answer_is_complete_with_ready_for_query(size: int) -> None:
    """The one byte that refuses SSL is no message."""
    answers = Answers()
    stream = typed(b"C", b"INSERT 0 1\0") + typed(b"Z", b"I")

    assert answers.complete(b"N") is False
    complete = [answers.complete(stream[at : at + size]) for at in range(0, len(stream), size)]
    assert complete == [False] * (len(complete) - 1) + [True]


@pytest.mark.parametrize("size", [1, 5, 1000])
def test_one_answer_after_another(size: int) -> None:
    """An answer that ends with a chunk leaves nothing behind that the next one would be taken together with."""
    answers = Answers()
    stream = typed(b"C", b"INSERT 0 1\0") + typed(b"Z", b"I")

    for _ in range(3):
        chunks = [stream[at : at + size] for at in range(0, len(stream), size)]
        assert [answers.complete(chunk) for chunk in chunks] == [False] * (len(chunks) - 1) + [True]


def test_a_rule_travels_as_json() -> None:
    """To the proxy's process and back."""
    rule = Rule("cut_after", ("INSERT",), times=3, probability=0.5, seed=9)

    assert Rule.parse(rule.as_json()) == rule
    with pytest.raises(TypeError):
        Rule.parse({"kind": "cut", "prob": 1})


def test_nonsense_is_nothing_the_product_can_decode() -> None:
    """Or the garbage injected would be a notification after all."""
    for value in nonsense(random.Random(5), [b'{"id": "half a record"}']):
        with pytest.raises(UndecodableRecordError):
            decode_record(value)
