"""Reading tables of TOML into values with their types; what is wrong is noted, all of it, and reading goes on."""

from collections.abc import Mapping
from typing import Any, Final, TypeVar

T = TypeVar("T")
MOST: Final = 1_000_000_000
"""More than any number of seconds, notifications or bytes here, and less than the infinite, which TOML has, too."""


class Table:
    """One table, read key by key; `done` notes the keys that nobody asked for."""

    def __init__(self, content: Any, at: str, faults: list[str]) -> None:
        self._at, self._faults = at, faults
        self._left: dict[str, Any] = dict(content) if isinstance(content, Mapping) else {}
        if not isinstance(content, Mapping):
            faults.append(f"{at}: {content!r}; expected a table")

    def number(self, name: str, *, low: float = 0.0, high: int = MOST) -> float:
        """Read a number in a range."""
        value = self._left.pop(name, None)
        if _is_number(value, low, high):
            return float(value)
        return self._fault(name, value, f"a number from {low:g} to {high:,}", low)

    def whole(self, name: str, *, low: int = 0, high: int = MOST) -> int:
        """Read a whole number in a range."""
        value = self._left.pop(name, None)
        if isinstance(value, int) and not isinstance(value, bool) and low <= value <= high:
            return value
        return self._fault(name, value, f"a whole number from {low:,} to {high:,}", low)

    def text(self, name: str) -> str:
        """Read a text."""
        value = self._left.pop(name, None)
        return value if isinstance(value, str) else self._fault(name, value, "a text", "")

    def word(self, name: str, *words: str) -> str:
        """Read one of some words."""
        value = self._left.pop(name, None)
        return value if value in words else self._fault(name, value, " or ".join(words), words[0])

    def weights(self, name: str) -> dict[str, float]:
        """Read names with weights, one of them above 0; those of weight 0 are left out."""
        value = self._left.pop(name, None)
        fine = isinstance(value, Mapping) and all(_is_number(one, 0, MOST) for one in value.values())
        if not fine or not any(value.values()):
            return self._fault(name, value, "names with weights, one of them above 0", {})
        return {key: float(weight) for key, weight in value.items() if weight > 0}

    def numbers(self, name: str) -> dict[str, float]:
        """Read names with numbers from 0 on; those that are false are left out."""
        value = self._left.pop(name, {})
        if not isinstance(value, Mapping):
            return self._fault(name, value, "a table of numbers", {})
        inner = Table(value, self._path(name), self._faults)
        return {key: inner.number(key) for key, one in value.items() if one is not False}

    def texts(self, name: str) -> dict[str, str]:
        """Read names with texts; a number is the text it is written as."""
        value = self._left.pop(name, {})
        if not isinstance(value, Mapping):
            return self._fault(name, value, "a table of texts", {})
        numbers = {key: str(one) for key, one in value.items() if _is_number(one, -MOST, MOST)}
        inner = Table({**value, **numbers}, self._path(name), self._faults)
        return {key: inner.text(key) for key in value}

    def table(self, name: str) -> "Table":
        """Read a table."""
        return Table(self._left.pop(name, {}), self._path(name), self._faults)

    def tables(self, name: str) -> list["Table"]:
        """Read a list of tables, at least one."""
        value = self._left.pop(name, None)
        if not isinstance(value, list) or not value:
            return self._fault(name, value, "a list of tables", [])
        return [Table(one, f"{self._path(name)}.{number}", self._faults) for number, one in enumerate(value)]

    def has(self, name: str) -> bool:
        """Say whether a key is there and has not been read."""
        return name in self._left

    def done(self) -> None:
        """Note what is left: keys that mean nothing."""
        self._faults += [f"{self._path(name)}: there is no such setting" for name in self._left]

    def _path(self, name: str) -> str:
        return f"{self._at}.{name}" if self._at else name

    def _fault(self, name: str, value: Any, expected: str, instead: T) -> T:
        found = "nothing" if value is None else repr(value)[:60]
        self._faults.append(f"{self._path(name)}: {found}; expected {expected}")
        return instead


def _is_number(value: Any, low: float, high: float) -> bool:
    """Say whether it is a number in a range, which nan never is."""
    return isinstance(value, int | float) and not isinstance(value, bool) and low <= value <= high
