"""Marshmallow fields with one check each, faults with codes, and no validator objects: they run per item of a batch.

`metadata` is what the OpenAPI document says about a field; it repeats the limits that the checks below enforce.
"""

import math
import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any, Final

import marshmallow as ma
import orjson
from marshmallow import ValidationError

from api_service.faults import Fault, FaultyValueError
from api_service.strict_json import MAX_DEPTH, depth_of

_RFC3339: Final = re.compile(r"\d{4}-\d\d-\d\d[Tt]\d\d:\d\d:\d\d(\.\d{1,9})?([Zz]|[+-]\d\d:\d\d)", re.ASCII)
_HEADER_NAME: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]{1,100}")  # RFC 9110 §5.6.2: a token
_HEADER_VALUE: Final = re.compile(r"[\x21-\x7e](?:[\x20-\x7e]*[\x21-\x7e])?")
NOT_BLANK: Final = r"\S"
"""As a pattern of the document: a character that is no blank, wherever it stands."""
_MAX_HEADERS: Final = 32
_MAX_HEADER_CHARS: Final = 1024


REQUIRED: Final = Fault("required", "this field is required")
_CODED: Final[dict[str, Any]] = {
    "required": REQUIRED,
    "null": Fault("null", "null is not a value here; leave the field out"),
}


def refuse(code: str, detail: str) -> ValidationError:
    """Return the error that a field raises for a value."""
    return ValidationError(Fault(code, detail))


class Text(ma.fields.String):
    """A string that passes `check`, which returns it as it is stored or raises FaultyValueError."""

    def __init__(self, check: Callable[[str], str], **options: Any) -> None:
        super().__init__(error_messages=_CODED, **options)
        self._check = check

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> str:
        if type(value) is not str:
            raise refuse("not_a_string", "a string is expected")
        try:
            return self._check(value)
        except FaultyValueError as error:
            raise ValidationError(error.fault) from error


class Word(ma.fields.String):
    """One of the members of an enumeration, in any case, or another word for one."""

    def __init__(self, kind: type[StrEnum], *, also: Mapping[str, StrEnum] | None = None, **options: Any) -> None:
        metadata = {"enum": list(kind)} | dict(options.pop("metadata", {}))
        super().__init__(error_messages=_CODED, metadata=metadata, **options)
        self._members = {member.value: member for member in kind} | dict(also or {})
        self._fault = Fault("unknown_value", "one of " + ", ".join(self._members))

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Any:
        member = self._members.get(value) if type(value) is str else None
        if member is None and (type(value) is not str or (member := self._members.get(value.lower())) is None):
            raise ValidationError(self._fault)
        return member


class Members(ma.fields.Dict):
    """A JSON object of anything, at most `max_bytes` as compact JSON."""

    def __init__(self, *, max_bytes: int, **options: Any) -> None:
        super().__init__(error_messages=_CODED, **options)
        self.max_bytes = max_bytes

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Any:
        if type(value) is not dict:
            raise refuse("not_an_object", "an object is expected")
        if value and depth_of(value) > MAX_DEPTH:
            raise refuse("nested_too_deep", f"arrays and objects may be nested {MAX_DEPTH} deep")
        if value and len(orjson.dumps(value)) > self.max_bytes:
            raise refuse("too_large", f"as JSON this is larger than {self.max_bytes} bytes")
        return value


class Headers(ma.fields.Dict):
    """Header names and values, nothing that could end a line or stand in for a header of ours."""

    def __init__(self, check: Callable[[str, str], Fault | None], **options: Any) -> None:
        super().__init__(error_messages=_CODED, **options)
        self._check = check

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> Any:
        if type(value) is not dict:
            raise refuse("not_an_object", "an object of strings is expected")
        if len(value) > _MAX_HEADERS:
            raise refuse("too_many", f"at most {_MAX_HEADERS} headers")
        faults: dict[str, list[str]] = {}
        seen: set[str] = set()
        for name, text in value.items():
            if fault := self._fault_of(name, text, seen):
                faults[name] = [fault]
            seen.add(name.lower())
        if faults:
            raise ValidationError(faults)
        return value

    def _fault_of(self, name: str, text: Any, seen: set[str]) -> Fault | None:
        if not _HEADER_NAME.fullmatch(name):
            return Fault("invalid_header_name", "a header name is a token of at most 100 ASCII characters")
        if name.lower() in seen:
            return Fault("repeated_name", "header names differ in more than case")
        if type(text) is not str:
            return Fault("not_a_string", "a string is expected")
        if fault := self._check(name.lower(), text):
            return fault
        if len(text) > _MAX_HEADER_CHARS or not _HEADER_VALUE.fullmatch(text):
            return Fault(
                "invalid_header_value",
                f"1 to {_MAX_HEADER_CHARS} printable ASCII characters, not beginning or ending with a blank",
            )
        return None


class Instant(ma.fields.AwareDateTime):
    """An instant in RFC 3339 with its offset, returned in UTC."""

    def __init__(self, **options: Any) -> None:
        super().__init__(error_messages=_CODED, **options)

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> datetime:
        instant = parse_instant(value) if type(value) is str else None
        if instant is None:
            raise refuse("invalid_instant", "an RFC 3339 instant with its offset, such as 2030-01-31T09:00:00Z")
        return instant


def parse_instant(text: str) -> datetime | None:
    """Return an RFC 3339 instant in UTC, None where the text is none."""
    if not _RFC3339.fullmatch(text):
        return None
    try:
        return datetime.fromisoformat(text.upper()).astimezone(UTC)
    except (ValueError, OverflowError):
        return None


class FutureInstant(Instant):
    """An instant within the next `within`; one up to `grace` ago counts as now: clocks and networks are never exact."""

    def __init__(self, *, within: timedelta, grace: timedelta, **options: Any) -> None:
        super().__init__(**options)
        self._within, self._grace = within, grace

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> datetime:
        instant = super()._deserialize(value)
        now = datetime.now(UTC)
        if instant <= now - self._grace:
            raise refuse("in_the_past", "this instant has passed")
        if instant > now + self._within:
            raise refuse("too_far_ahead", f"at most {self._within.days} days from now")
        return instant


class Seconds(ma.fields.Float):
    """A number of seconds, more than 0 and at most `high`."""

    def __init__(self, *, high: int, **options: Any) -> None:
        super().__init__(error_messages=_CODED, **options)
        self._fault = Fault("out_of_range", f"a number of seconds, more than 0 and at most {high}")
        self._high = high

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> float:
        if type(value) not in (int, float) or not math.isfinite(value) or not 0 < value <= self._high:
            raise ValidationError(self._fault)
        return float(value)


class WholeNumber(ma.fields.Integer):
    """A whole number within bounds, written in digits: for query parameters."""

    def __init__(self, *, low: int, high: int, **options: Any) -> None:
        super().__init__(
            error_messages=_CODED,
            metadata={"minimum": low, "maximum": high} | dict(options.pop("metadata", {})),
            **options,
        )
        self._low, self._high = low, high
        self._fault = Fault("out_of_range", f"a whole number from {low} to {high}")

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> int:
        if (
            type(value) is not str
            or not re.fullmatch(r"[0-9]{1,9}", value)
            or not self._low <= int(value) <= self._high
        ):
            raise ValidationError(self._fault)
        return int(value)


class Number(ma.fields.Float):
    """A JSON number within bounds; `of` says of what, such as seconds."""

    def __init__(self, *, low: float, high: float, of: str | None = None, **options: Any) -> None:
        metadata = {"minimum": low, "maximum": high} | dict(options.pop("metadata", {}))
        super().__init__(error_messages=_CODED, metadata=metadata, **options)
        self._low, self._high = low, high
        self._fault = Fault("out_of_range", f"a number {_of(of)}from {low:g} to {high:g}")

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> float:
        if type(value) not in (int, float) or not self._low <= value <= self._high:
            raise ValidationError(self._fault)
        return float(value)


class Count(ma.fields.Integer):
    """A JSON integer within bounds; `of` says of what, such as seconds."""

    def __init__(self, *, low: int, high: int, of: str | None = None, **options: Any) -> None:
        metadata = {"minimum": low, "maximum": high} | dict(options.pop("metadata", {}))
        super().__init__(error_messages=_CODED, metadata=metadata, **options)
        self._low, self._high = low, high
        self._fault = Fault("out_of_range", f"a whole number {_of(of)}from {low} to {high}")

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> int:
        if type(value) is float and value.is_integer():
            value = int(value)  # JSON has one kind of number, and 84.0 is an integer to its schemas
        if type(value) is not int or not self._low <= value <= self._high:
            raise ValidationError(self._fault)
        return value


def _of(unit: str | None) -> str:
    return f"of {unit} " if unit else ""


class YesNo(ma.fields.Boolean):
    """A JSON true or false, nothing that merely looks like one."""

    def __init__(self, **options: Any) -> None:
        super().__init__(error_messages=_CODED, **options)

    def _deserialize(self, value: Any, *_args: Any, **_kwargs: Any) -> bool:
        if type(value) is not bool:
            raise refuse("not_a_boolean", "true or false is expected")
        return value


class Part(ma.fields.Nested):
    """A JSON object that has a schema of its own."""

    def __init__(self, schema: type[ma.Schema], **options: Any) -> None:
        super().__init__(schema, error_messages=_CODED, **options)
