"""What happened in a run, read back from its ledgers and the dump of its database, and from nothing else."""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import orjson

from tests.chaos.ledger import read, read_all


@dataclass(slots=True)
class Invoke:
    """One request of a producer, and its answer: ok, fail (not accepted) or unknown."""

    name: str
    t: float
    kind: str
    key: str | None
    items: list[dict[str, Any]]
    result: str = "unknown"  # a producer that died before the answer knows nothing
    answered_at: float | None = None
    ids: list[str] = field(default_factory=list)
    tries: list[int] = field(default_factory=list)
    repeated: list[dict[str, Any]] = field(default_factory=list)
    misused: list[int] = field(default_factory=list)

    @property
    def statuses(self) -> set[int]:
        """Every status that its tries were answered with."""
        return {*self.tries, *self.misused, *(again["status"] for again in self.repeated)}

    @property
    def producer(self) -> str:
        """Whose it is; one producer's requests follow one another."""
        return self.name.partition("-")[0]


@dataclass(slots=True)
class Row:
    """A notification as the database has it. Instants are Unix time."""

    id: str
    status: str
    attempt: int
    created_at: float
    updated_at: float
    scheduled_for: float | None
    expires_at: float | None
    ordering_key: str | None
    on_unknown: str
    channel: str
    recipient: str
    token: str
    record_sha256: str


@dataclass(slots=True)
class AttemptRow:
    """An attempt as the database has it."""

    id: str
    attempt: int
    outcome: str
    reason: str | None
    began_at: float
    ended_at: float | None
    tries: int | None
    destination: str | None
    owner: str


@dataclass(slots=True)
class Letter:
    """A dead letter as the database has it."""

    id: str
    status: str
    attempt: int
    failure_class: str
    reason: str
    retry_count: int
    retry_at: float | None
    rest_reason: str | None
    resolution: str | None
    payload_sha256: str | None
    message_key: str | None
    letter_id: str


@dataclass(slots=True)
class Receipt:
    """What a receiver saw, and what it was about to answer. `attempt` is 0 for mail, which does not carry it."""

    t: float
    id: str
    attempt: int
    token: str
    content: str
    body: str
    signed: str  # ok, stale (right, but by another time of day), wrong
    recipient: str
    answer: str
    message_id: str

    @property
    def accepted(self) -> bool:
        """Whether the answer was a yes."""
        return self.answer.startswith(("200", "250"))

    @property
    def maybe_accepted(self) -> bool:
        """Whether the sender may have taken the answer for a yes: its status line came, if slowly."""
        return self.accepted or self.answer == "drip"


@dataclass(slots=True)
class Cancel:
    """One request to cancel; status 0: no answer."""

    t: float
    answered_at: float
    status: int
    state: str | None


@dataclass(slots=True)
class History:
    """Everything the invariants ask."""

    meta: dict[str, Any]
    ladder: int  # rungs
    invokes: dict[str, Invoke] = field(default_factory=dict)
    rows: dict[str, Row] = field(default_factory=dict)
    attempts: dict[str, list[AttemptRow]] = field(default_factory=lambda: defaultdict(list))
    letters: dict[str, Letter] = field(default_factory=dict)
    receipts: dict[str, list[Receipt]] = field(default_factory=lambda: defaultdict(list))
    cancels: dict[str, list[Cancel]] = field(default_factory=lambda: defaultdict(list))
    events: list[dict[str, Any]] = field(default_factory=list)  # of the ledger of faults
    plan: dict[str, Any] = field(default_factory=dict)
    published: list[tuple[str, int]] = field(default_factory=list)  # id and attempt, each partition's in their order
    left: dict[str, list[Any]] = field(default_factory=dict)  # the small tables
    peaks: dict[str, dict[str, int]] = field(default_factory=dict)  # service -> rss, fds
    by_hand: set[tuple[str, int]] = field(default_factory=set)  # id and attempt of what a person retried
    loses_records: frozenset[str] = frozenset()  # kinds of faults
    samples: int = 0
    asked: dict[str, tuple[Invoke, dict[str, Any]]] = field(default_factory=dict)  # by token

    def __post_init__(self) -> None:
        """Find items by their tokens."""
        for invoke in self.invokes.values():
            for item in invoke.items:
                self.asked[item["tok"]] = (invoke, item)

    def clock(self, unix: float) -> float:
        """A Unix instant on the ledgers' clock."""
        return unix - float(self.meta["wall_minus_clock"])

    @property
    def accepted_ids(self) -> Iterable[tuple[Invoke, str]]:
        """Every id a producer was given."""
        return ((invoke, id_) for invoke in self.invokes.values() if invoke.result == "ok" for id_ in invoke.ids)

    def faults(self, event: str) -> list[dict[str, Any]]:
        """The events of one sort."""
        return [entry for entry in self.events if entry["e"] == event]


def load(run_dir: Path, *, ladder: int, loses_records: frozenset[str]) -> History:
    """Read a run's directory."""
    ledgers, database = run_dir / "ledgers", run_dir / "database"
    history = History(
        meta=orjson.loads((run_dir / "meta.json").read_bytes()),
        ladder=ladder,
        invokes=_invokes(ledgers),
        plan=orjson.loads((run_dir / "plan.json").read_bytes()),
        loses_records=loses_records,
    )
    history.rows = {fields[0]: Row(*fields) for fields in read(database / "notifications.jsonl")}
    for fields in read(database / "attempts.jsonl"):
        history.attempts[fields[0]].append(AttemptRow(*fields))
    history.letters = {fields[0]: Letter(*fields) for fields in read(database / "dlq.jsonl")}
    history.by_hand = {(fields[0], fields[1]) for fields in read(database / "by_hand.jsonl")}
    for name in ("outbox", "outbox_due", "outbox_dead", "undecodable", "wrong"):
        history.left[name] = list(read(database / f"{name}.jsonl"))
    for name in ("hooks", "smtp"):
        for e in read(ledgers / f"{name}.jsonl"):
            history.receipts[e["id"]].append(
                Receipt(
                    e["t"], e["id"], e["a"], e["tok"], e["h"], e["b"], e["s"], e["to"], e["ans"], e.get("mid", e["id"])
                )
            )
    history.published = [(id_, attempt) for id_, attempt in read(ledgers / "published.jsonl")]
    for receipts in history.receipts.values():
        receipts.sort(key=lambda receipt: receipt.t)
    _read_cancels(history, ledgers)
    history.events = list(read(ledgers / "faults.jsonl"))
    _read_peaks(history, ledgers)
    return history


def _invokes(ledgers: Path) -> dict[str, Invoke]:
    invokes: dict[str, Invoke] = {}
    for e in read_all(ledgers, "producer-*.jsonl"):
        match e["e"]:
            case "invoke":
                invokes[e["r"]] = Invoke(e["r"], e["t"], e["kind"], e["key"], e["items"])
            case "ok" | "fail" | "unknown":
                invoke = invokes[e["r"]]
                invoke.result, invoke.answered_at, invoke.ids, invoke.tries = e["e"], e["t"], e["ids"], e["tries"]
            case "repeated":
                invokes[e["r"]].repeated.append(e)
            case "misused":
                invokes[e["r"]].misused.append(e["status"])
    return invokes


def _read_cancels(history: History, ledgers: Path) -> None:
    began: dict[str, float] = {}
    for e in read_all(ledgers, "producer-*.jsonl"):
        if e["e"] == "cancel":
            began[e["id"]] = e["t"]
        elif e["e"] == "cancelled":
            history.cancels[e["id"]].append(Cancel(began.pop(e["id"]), e["t"], e["status"], e["state"]))
    for id_, t in began.items():  # its producer died before the answer
        history.cancels[id_].append(Cancel(t, t, 0, None))


def _read_peaks(history: History, ledgers: Path) -> None:
    for e in read(ledgers / "resources.jsonl"):
        peak = history.peaks.setdefault(e["s"], {"rss": 0, "fds": 0})
        peak["rss"], peak["fds"] = max(peak["rss"], e["rss"]), max(peak["fds"], e["fds"])
        history.samples += 1
