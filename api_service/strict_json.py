"""JSON as strict as what has to store it: what is accepted here survives PostgreSQL, Kafka and a re-encoding.

orjson refuses bad UTF-8, byte order marks, NaN, lone surrogates and endless nesting. Left to us: NUL characters
(PostgreSQL text cannot hold them), integers beyond 64 bits (they would silently become floats), repeated names
(readers disagree on which one counts), and nesting deeper than what can be written again.
"""

import json
import re
from typing import Any, Final

import orjson

MAX_DEPTH: Final = 64
MAX_VALUES: Final = 1_000_000
_UNCOUNTED_BYTES: Final = 1024 * 1024
_FLAT: Final = frozenset((str, int, float, bool, type(None)))
_HIDING: Final = re.compile(rb"\\u00(?:00|22|3[Aa])")  # NUL, and what looks like the end of a name once it is decoded
_LATE_COLON: Final = re.compile(rb'"[ \t\n\r]+:')
_ANY_DIGIT: Final = bytes.maketrans(b"123456789", b"000000000")
_LONG_INTEGER: Final = b"0" * 19
_BLANKS: Final = (b" ", b"\t", b"\n", b"\r")


class JsonError(ValueError):
    """The bytes are not acceptable JSON. `code` is a constant, the message says where, without quoting the bytes."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.code = code


def refuse_dense(body: bytes) -> None:
    """Raise JsonError for a large body of so many values that they would take a multiple of its size in memory.

    16 MiB of empty arrays become 340 MiB. What could separate values is counted, within strings too: more than prose
    holds, and no small body can have so many.
    """
    if len(body) > _UNCOUNTED_BYTES and sum(map(body.count, (b",", b"[", b"{"))) > MAX_VALUES:
        raise JsonError("too_many_values", f"a body has at most {MAX_VALUES} values")


def loads(body: bytes) -> Any:
    """Return the value in a JSON document. Raises JsonError."""
    refuse_dense(body)
    try:
        value = orjson.loads(body)
    except orjson.JSONDecodeError as error:
        raise _malformed(body, error) from error
    try:
        rewritten = orjson.dumps(value)
    except orjson.JSONEncodeError as error:
        raise _too_deep() from error
    if _may_be_odd(body, rewritten):
        _inspect(body)
    return value


def _malformed(body: bytes, error: orjson.JSONDecodeError) -> JsonError:
    """Name what orjson found; it tells its faults apart by words alone, so what is not known stays malformed_json."""
    # A body of one line may be a line of a batch, of which the fault's pointer says which one it is.
    at = f"at line {error.lineno}, column {error.colno}" if b"\n" in body else f"at column {error.colno}"
    if "depth" in error.msg or "ecursion" in error.msg:
        return _too_deep()
    if "byte order mark" in error.msg:
        return JsonError("byte_order_mark", "the body begins with a byte order mark; send plain UTF-8")
    if "infinity" in error.msg:
        return JsonError("number_out_of_range", f"a number is too large {at}; send it as a string")
    try:
        body.decode()
    except UnicodeDecodeError as fault:
        return JsonError("invalid_utf8", f"not UTF-8 at byte {fault.start}")
    return JsonError("malformed_json", f"not JSON {at}")


def _may_be_odd(body: bytes, rewritten: bytes) -> bool:
    """Say whether the slow inspection is needed. False is certain.

    A body that is rewritten as it was has neither repeated names nor integers that changed. In any other, each name is
    followed by a quote and a colon, and so is nothing else but an escaped quote within a string: where no blank stands
    before a colon and no quote or colon is written as a code point, fewer such pairs in the rewritten text mean that a
    name was repeated. Each question is asked in the way that costs least: a batch is half a megabyte.
    """
    if b"\\" in body and _HIDING.search(body):
        return True
    if body == rewritten:
        return False
    return (
        body.count(b'":') != rewritten.count(b'":')
        or (any(blank in body and blank + b":" in body for blank in _BLANKS) and _LATE_COLON.search(body) is not None)
        or _LONG_INTEGER in body.translate(_ANY_DIGIT)
    )


def _inspect(body: bytes) -> None:
    try:
        json.loads(body, object_pairs_hook=_object, parse_int=_integer)
    except RecursionError as error:
        raise _too_deep() from error
    if b"\\u0000" in body and "\x00" in _strings_of(orjson.loads(body)):
        raise JsonError("nul_character", "a string holds the character U+0000")


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) != len(pairs):
        raise JsonError("repeated_name", "an object names one of its members twice")
    return found


def _integer(digits: str) -> int:
    if len(digits) > 20 or not -(2**63) <= (number := int(digits)) < 2**64:
        raise JsonError("integer_too_large", "an integer does not fit 64 bits; send it as a string")
    return number


def _strings_of(value: Any) -> str:
    """Return all strings of a document in one, names included."""
    found: list[str] = []
    waiting = [value]
    while waiting:
        match waiting.pop():
            case str(text):
                found.append(text)
            case list(items):
                waiting.extend(items)
            case dict(members):
                found.extend(members)
                waiting.extend(members.values())
    return "".join(found)


def depth_of(value: Any) -> int:
    """Return how deep arrays and objects are nested: 0 for a plain value."""
    if type(value) is dict and _FLAT.issuperset(map(type, value.values())):
        return 1
    level, depth = [value], 0
    while level := [item for item in level if type(item) in (dict, list)]:
        depth += 1
        level = [item for holder in level for item in (holder.values() if type(holder) is dict else holder)]
    return depth


def _too_deep() -> JsonError:
    return JsonError("nested_too_deep", "arrays or objects are nested too deeply")
