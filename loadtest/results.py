"""The result of a run: what a run writes, and all that a report reads.

One JSON object per run, versioned. A field may be added within a version, with a default; a reader ignores what it does
not know. A field that goes, or changes what it means, makes a new version.
"""

import types
from dataclasses import MISSING, asdict, dataclass, field, fields, is_dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Final, Literal, get_args, get_origin, get_type_hints

import orjson

VERSION: Final = 1
REPORTS: Final = Path(__file__).parents[1] / ".local" / "reports"
Kind = Literal["load", "stress", "dlq", "bench"]
Group = Literal["throughput", "latency", "backlog", "lag", "cpu", "memory", "handles", "database", "retries"]


class ResultError(ValueError):
    """A text is no result of a run; `faults` names everything that is wrong with it."""

    def __init__(self, faults: list[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = faults


@dataclass(frozen=True, slots=True)
class Limit:
    """Something a run promised, and what came of it; the words are for people."""

    name: str
    promised: str
    measured: str
    held: bool


@dataclass(frozen=True, slots=True)
class Latency:
    """How long something took: `accept`, `accept_to_receiver`, `accept_to_receiver_<channel>`, `generator_lag`.

    Each is counted from the instant a request was *intended* to start, whether or not it could; the last one until the
    generator came to it.
    """

    name: str
    count: int
    p50: float
    p90: float
    p99: float
    p999: float
    max: float
    unit: str = "ms"


@dataclass(frozen=True, slots=True)
class Series:
    """One line of a plot. `at_s` is seconds since the run began, rising; a value that was not read is None."""

    name: str
    unit: str
    group: Group
    at_s: list[float]
    values: list[float | None]


@dataclass(frozen=True, slots=True)
class Event:
    """Something that happened at an instant, such as a step of the rate; drawn as a vertical line."""

    at_s: float
    text: str


@dataclass(frozen=True, slots=True)
class RunResult:
    """Everything that is kept of one run."""

    kind: Kind
    profile: str
    seed: int
    command: str  # what prints this again
    started_at: str  # ISO 8601, UTC
    took_s: float
    versions: dict[str, str] = field(default_factory=dict)
    machine: dict[str, str | int | float] = field(default_factory=dict)  # cores, memory_gib, cpu, load_at_start
    settings: dict[str, str] = field(default_factory=dict)  # without secrets
    limits: list[Limit] = field(default_factory=list)
    latencies: list[Latency] = field(default_factory=list)
    series: list[Series] = field(default_factory=list)
    counts: dict[str, int] = field(default_factory=dict)  # asked, accepted, refused, received, doubled, lost, ...
    events: list[Event] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    broken_off: str | None = None  # why the run ended before it was done; what is here was measured until then
    version: int = VERSION

    @property
    def held(self) -> bool:
        """The verdict: every limit held, and the run was not broken off."""
        return self.broken_off is None and all(limit.held for limit in self.limits)

    @property
    def name(self) -> str:
        """What its files are called: the instant it began, then what it was; names sort by time."""
        began = datetime.fromisoformat(self.started_at)
        return f"{began:%Y%m%dT%H%M%SZ}-{self.kind}-{self.profile}"


def to_json(result: RunResult) -> bytes:
    """Write a result as indented JSON; a number that is none (NaN, infinity) becomes null."""
    return orjson.dumps(asdict(result), option=orjson.OPT_INDENT_2) + b"\n"


def from_json(text: bytes | str) -> RunResult:
    """Read a result. Raises ResultError."""
    try:
        content = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise ResultError([f"it is no JSON: {error}"]) from error
    found = content.get("version") if isinstance(content, dict) else None
    if found != VERSION:
        raise ResultError([f"version: {found!r}; this program reads version {VERSION}"])
    faults: list[str] = []
    result = _read(RunResult, content, "", faults)
    _check(result, faults)
    if faults:
        raise ResultError(faults)
    assert isinstance(result, RunResult)  # noqa: S101 - it would be in `faults`
    return result


def save(result: RunResult, directory: Path) -> Path:
    """Write `<name>.json` below a directory that need not exist; return its path. A reader never sees half of it.

    Of two that began in the same second, the later one is `<name>_2.json`.
    """
    directory.mkdir(parents=True, exist_ok=True)
    path, number = directory / f"{result.name}.json", 1
    while path.exists():
        number += 1
        path = directory / f"{result.name}_{number}.json"
    written = path.with_suffix(".json.new")
    written.write_bytes(to_json(result))
    written.replace(path)
    return path


def load(path: Path) -> RunResult:
    """Read the result in a file. Raises ResultError, OSError."""
    return from_json(path.read_bytes())


def _check(result: Any, faults: list[str]) -> None:
    """Note what the types alone cannot say."""
    if not isinstance(result, RunResult) or faults:
        return
    try:
        datetime.fromisoformat(result.started_at)
    except ValueError:
        faults.append(f"started_at: {result.started_at!r} is no instant in ISO 8601")
    for number, series in enumerate(result.series):
        if len(series.at_s) != len(series.values):
            faults.append(f"series/{number}: {len(series.at_s)} instants and {len(series.values)} values")


def _read(kind: Any, value: Any, at: str, faults: list[str]) -> Any:  # noqa: PLR0911 - one way out per kind of type
    """Read a value as a type of this module: a dataclass, list, dict, Literal, union, or a plain one."""
    origin, parts = get_origin(kind), get_args(kind)
    if is_dataclass(kind) and isinstance(kind, type):
        return _read_fields(kind, value, at, faults)
    if origin is list and isinstance(value, list):
        return [_read(parts[0], one, f"{at}/{index}", faults) for index, one in enumerate(value)]
    if origin is dict and isinstance(value, dict):
        return {name: _read(parts[1], one, f"{at}/{name}", faults) for name, one in value.items()}
    if origin is Literal and value in parts:
        return value
    if _is_plain(kind, value):
        return float(value) if kind is float else value
    if origin is types.UnionType and (fitting := [part for part in parts if _is_plain(part, value)]):
        return float(value) if fitting == [float] else value
    _fault(faults, at, value, getattr(kind, "__name__", str(kind)) if origin is None else str(kind))
    return None


def _read_fields(kind: type, value: Any, at: str, faults: list[str]) -> Any:
    if not isinstance(value, dict):
        _fault(faults, at, value, "an object")
        return None
    hints, before = get_type_hints(kind), len(faults)
    read = {
        one.name: _read(hints[one.name], value.get(one.name, MISSING), f"{at}/{one.name}", faults)
        for one in fields(kind)
        if one.name in value or not _has_default(one)
    }
    return kind(**read) if len(faults) == before else None


def _fault(faults: list[str], at: str, value: Any, expected: str) -> None:
    found = "nothing" if value is MISSING else repr(value)[:60]
    faults.append(f"{at.lstrip('/') or 'result'}: {found}; expected {expected.replace('typing.', '')}")


def _has_default(one: Any) -> bool:
    return one.default is not MISSING or one.default_factory is not MISSING


def _is_plain(kind: Any, value: Any) -> bool:
    """Whether a value is of a plain type; a whole number is a float as well, a truth value is no number."""
    if kind is types.NoneType:
        return value is None
    if kind is float:
        return isinstance(value, int | float) and not isinstance(value, bool)
    if kind is int:
        return isinstance(value, int) and not isinstance(value, bool)
    return kind in (str, bool) and isinstance(value, kind)
