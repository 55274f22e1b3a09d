"""Profiles: what a run asks for, how receivers answer, and what has to hold. Read from profiles.toml."""

import re
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from loadtest import limits
from loadtest.reading import Table
from shared.model import Channel

FILE: Final = Path(__file__).with_name("profiles.toml")
VARIABLES: Final = Path(__file__).parents[1] / ".env.example"
MIN_MESSAGE_BYTES: Final = 64


class ProfileError(ValueError):
    """A profile cannot be used; `faults` names everything that is wrong with it."""

    def __init__(self, faults: Sequence[str]) -> None:
        super().__init__("; ".join(faults))
        self.faults = list(faults)


@dataclass(frozen=True, slots=True)
class Stage:
    """A stretch of load; the rate goes evenly from the one to the other."""

    for_s: float
    rate_per_s: float
    to_per_s: float


@dataclass(frozen=True, slots=True)
class Mix:
    """What the notifications are; shares are weights."""

    channels: dict[Channel, float]
    message_bytes: dict[int, float]
    single_share: float
    batch_items: int
    keyed_share: float
    ordered_share: float
    recipients: int


@dataclass(frozen=True, slots=True)
class Receivers:
    """How webhook receivers and the mail server answer."""

    origins: int
    latency_ms: float
    latency_p99_ms: float
    failing_share: float
    failing_status: int


@dataclass(frozen=True, slots=True)
class Generator:
    """Who asks."""

    processes: int
    connections: int
    timeout_s: float


@dataclass(frozen=True, slots=True)
class Target:
    """How the embedded stack is started; `settings` is the environment of its services."""

    delivery_consumers: int
    outbox_relays: int
    settings: dict[str, str]


@dataclass(frozen=True, slots=True)
class Search:
    """How stress looks for the capacity."""

    start_per_s: float
    step_s: float
    hold_s: float
    growth: float
    precision: float
    latency_s: float


@dataclass(frozen=True, slots=True)
class Profile:
    """One profile; profiles.toml says what each value means."""

    name: str
    kind: str
    about: str
    arrivals: str
    warm_up_s: float
    idle_s: float
    drain_s: float
    start_s: float
    limit_s: float
    sample_s: float
    share_of_capacity: float
    stages: tuple[Stage, ...]
    mix: Mix
    receivers: Receivers
    generator: Generator
    target: Target
    search: Search
    limits: dict[str, float]

    def at_rate(self, per_s: float) -> "Profile":
        """The same with its highest rate at `per_s`, the others in proportion."""
        highest = max(max(stage.rate_per_s, stage.to_per_s) for stage in self.stages)
        factor = per_s / highest
        stages = (Stage(one.for_s, one.rate_per_s * factor, one.to_per_s * factor) for one in self.stages)
        return replace(self, stages=tuple(stages))


def names(path: Path = FILE) -> list[str]:
    """The profiles of load there are, in the file's order. Raises ProfileError."""
    return [name for name, table in _tables(path).items() if name != "default" and table.get("kind") != "dlq"]


def variables() -> list[str]:
    """What services read of their environment, as .env.example lists it."""
    return re.findall(r"(?m)^#? ?([A-Z][A-Z_]+)=", VARIABLES.read_text(encoding="utf-8"))


def load(name: str, overrides: Sequence[str] = (), path: Path = FILE) -> Profile:
    """Read a profile, with `key=value` overrides such as `mix.single_share=0`. Raises ProfileError."""
    tables = _tables(path)
    if name == "default" or name not in tables:
        raise ProfileError([f"there is no profile {name!r}; there are {', '.join(names(path))}"])
    content = merged(tables.get("default", {}), tables[name])
    faults: list[str] = []
    for override in overrides:
        _override(content, override, faults)
    profile = _read(name, content, faults)
    if faults:
        raise ProfileError(faults)
    return profile


def merged(below: Mapping[str, Any], above: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one table over another. Weights are taken whole: half of two mixes is no mix."""
    content = dict(below)
    for key, value in above.items():
        both = isinstance(value, Mapping) and isinstance(content.get(key), Mapping)
        content[key] = merged(content[key], value) if both and key not in ("channels", "message_bytes") else value
    return content


def _tables(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, tomllib.TOMLDecodeError) as error:
        raise ProfileError([f"{path.name}: {error}"]) from error


def _override(content: dict[str, Any], override: str, faults: list[str]) -> None:
    key, separator, text = override.partition("=")
    try:
        value = tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        value = text  # a bare word is a text
    *path, last = key.strip().split(".")
    inner: Any = content
    for part in path:
        inner = inner.get(part) if isinstance(inner, dict) else None
    if not separator or not isinstance(inner, dict):
        faults.append(f"{override}: expected key=value with a key such as mix.single_share")
        return
    inner[last] = value


def _read(name: str, content: dict[str, Any], faults: list[str]) -> Profile:
    table = Table(content, "", faults)
    mix, receivers, generator = table.table("mix"), table.table("receivers"), table.table("generator")
    target, search = table.table("target"), table.table("search")
    profile = Profile(
        name=name,
        kind=table.word("kind", "load", "stress", "dlq"),
        about=table.text("about"),
        arrivals=table.word("arrivals", "poisson", "even"),
        warm_up_s=table.number("warm_up_s"),
        idle_s=table.number("idle_s"),
        drain_s=table.number("drain_s"),
        start_s=table.number("start_s", low=1),
        limit_s=table.number("limit_s", low=1),
        sample_s=table.number("sample_s", low=0.2),
        share_of_capacity=table.number("share_of_capacity", high=1),
        stages=tuple(_stage(one) for one in table.tables("stages")),
        mix=_mix(mix, faults),
        receivers=Receivers(
            origins=receivers.whole("origins", low=1, high=200),
            latency_ms=receivers.number("latency_ms"),
            latency_p99_ms=receivers.number("latency_p99_ms"),
            failing_share=receivers.number("failing_share", high=1),
            failing_status=receivers.whole("failing_status", low=300, high=599),
        ),
        generator=Generator(
            processes=generator.whole("processes", low=1, high=64),
            connections=generator.whole("connections", low=1, high=10_000),
            timeout_s=generator.number("timeout_s", low=0.1),
        ),
        target=_target(target, faults),
        search=Search(
            start_per_s=search.number("start_per_s", low=1),
            step_s=search.number("step_s", low=2),
            hold_s=search.number("hold_s", low=2),
            growth=search.number("growth", low=1.05, high=10),
            precision=search.number("precision", low=0.01, high=1),
            latency_s=search.number("latency_s", low=0.1),
        ),
        limits=table.numbers("limits"),
    )
    faults += [f"limits.{limit}: there is no such limit" for limit in profile.limits if limit not in limits.NAMES]
    for limit, kind in limits.OF_KIND.items():
        if limit in profile.limits and profile.kind != kind:
            faults.append(f"limits.{limit}: it is of {kind} alone; nothing else could judge it")
    if profile.kind == "load" and not any(one.rate_per_s or one.to_per_s for one in profile.stages):
        faults.append("stages: none has a rate above 0")
    for one in (mix, receivers, generator, target, search, table):
        one.done()
    return profile


def _stage(table: Table) -> Stage:
    rate_per_s = table.number("rate_per_s")
    to_per_s = table.number("to_per_s") if table.has("to_per_s") else rate_per_s
    stage = Stage(table.number("for_s", low=0.1), rate_per_s, to_per_s)
    table.done()
    return stage


def _target(table: Table, faults: list[str]) -> Target:
    settings, known = table.texts("settings"), variables()
    unknown = [name for name in settings if name.removesuffix("_FILE") not in known]
    faults += [f"target.settings.{name}: no service has it; expected one of .env.example" for name in unknown]
    return Target(
        delivery_consumers=table.whole("delivery_consumers", low=1, high=32),
        outbox_relays=table.whole("outbox_relays", low=1, high=32),
        settings=settings,
    )


def _mix(table: Table, faults: list[str]) -> Mix:
    channels, sizes = table.weights("channels"), table.weights("message_bytes")
    known = {channel.value for channel in Channel}
    faults += [f"mix.channels.{name}: expected {' or '.join(sorted(known))}" for name in channels.keys() - known]
    for size in sizes:
        if not (size.isascii() and size.isdigit() and MIN_MESSAGE_BYTES <= int(size) <= 200_000):
            faults.append(f"mix.message_bytes.{size}: expected {MIN_MESSAGE_BYTES} to 200000 bytes")
    return Mix(
        channels={Channel(name): weight for name, weight in channels.items() if name in known},
        message_bytes={int(size): weight for size, weight in sizes.items() if size.isdigit()},
        single_share=table.number("single_share", high=1),
        batch_items=table.whole("batch_items", low=1, high=1000),
        keyed_share=table.number("keyed_share", high=1),
        ordered_share=table.number("ordered_share", high=1),
        recipients=table.whole("recipients", low=1),
    )
