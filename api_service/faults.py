"""What can be wrong with a value: a stable code for programs, a sentence for people."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any


class Fault(str):
    """A sentence that carries a code. A string, so that marshmallow takes it for one of its messages."""

    __slots__ = ("code",)
    code: str

    def __new__(cls, code: str, detail: str) -> "Fault":
        """Make a fault of a constant code and a sentence without user data."""
        fault = super().__new__(cls, detail)
        fault.code = code
        return fault

    def format(self, *_args: object, **_kwargs: object) -> "Fault":
        """Return the fault itself: marshmallow fills its messages in this way, and a plain string has no code."""
        return self


class FaultyValueError(ValueError):
    """A value cannot be accepted, because of `fault`."""

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(detail)
        self.fault = Fault(code, detail)


@dataclass(frozen=True, slots=True)
class FieldFault:
    """A fault and where it is: `pointer` is a JSON pointer (RFC 6901) into the body."""

    pointer: str
    fault: Fault


def field_faults(messages: Any, pointer: str = "") -> Iterator[FieldFault]:
    """Flatten marshmallow's nested messages; a fault of a whole schema points to the object that holds it."""
    if isinstance(messages, dict):
        for name, inner in messages.items():
            yield from field_faults(inner, pointer if name == "_schema" else f"{pointer}/{escape(str(name))}")
    elif isinstance(messages, list):
        for message in messages:
            yield FieldFault(pointer, message if isinstance(message, Fault) else Fault("invalid", str(message)))


def escape(name: str) -> str:
    """Return a name as a reference token of a JSON pointer, cut where a client sent something absurd."""
    return name[:200].replace("~", "~0").replace("/", "~1")


def forget_frames(error: BaseException) -> None:
    """Let go of the frames of an error that was dealt with, and of those it came from.

    They hold the request, often the error itself too: a cycle, and cycles are looked for seldom.
    """
    known: list[BaseException] = []
    found: list[BaseException | None] = [error]
    while found:
        if (one := found.pop()) is not None and one not in known:
            known.append(one)
            one.__traceback__ = None
            found += (one.__cause__, one.__context__)
