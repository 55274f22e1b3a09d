"""A run in which everything held, small enough to be spoilt by hand."""

from typing import Any

from tests.chaos.history import AttemptRow, Cancel, History, Invoke, Letter, Receipt, Row

LADDER = 3
WALL = 1_000_000.0  # Unix time of the ledgers' zero


def receipt(id_: str, t: float, **changes: Any) -> Receipt:
    """What a receiver saw of the notification `id_`, attempt 1, answered 200."""
    fields: dict[str, Any] = {
        "t": t, "id": id_, "attempt": 1, "token": f"tok-{id_}", "content": f"hash-{id_}", "body": "body",
        "signed": "ok", "recipient": f"http://there/{id_}", "answer": "200", "message_id": id_,
    }  # fmt: skip
    return Receipt(**fields | changes)


def attempt(id_: str, number: int, t: float, outcome: str = "accepted", **changes: Any) -> AttemptRow:
    """An attempt that took a tenth of a second."""
    fields: dict[str, Any] = {
        "id": id_, "attempt": number, "outcome": outcome, "reason": "because", "began_at": WALL + t,
        "ended_at": WALL + t + 0.1, "tries": 1, "destination": "there", "owner": "somebody",
    }  # fmt: skip
    return AttemptRow(**fields | changes)


def letter(id_: str, **changes: Any) -> Letter:
    """A dead letter at rest because its receiver refused for good."""
    fields: dict[str, Any] = {
        "id": id_, "status": "failed", "attempt": 1, "failure_class": "permanent", "reason": "http_410",
        "retry_count": 0, "retry_at": None, "rest_reason": "permanent", "resolution": None,
        "payload_sha256": f"sha-{id_}", "message_key": id_, "letter_id": f"letter-{id_}",
    }  # fmt: skip
    return Letter(**fields | changes)


def row(id_: str, **changes: Any) -> Row:
    """A notification that was sent."""
    fields: dict[str, Any] = {
        "id": id_, "status": "sent", "attempt": 1, "created_at": WALL + 1, "updated_at": WALL + 2,
        "scheduled_for": None, "expires_at": None, "ordering_key": None, "on_unknown": "retry", "channel": "webhook",
        "recipient": f"http://there/{id_}", "token": f"tok-{id_}", "record_sha256": f"sha-{id_}",
    }  # fmt: skip
    return Row(**fields | changes)


def item(id_: str, **changes: Any) -> dict[str, Any]:
    """What the producer's ledger says of it."""
    return {"tok": f"tok-{id_}", "h": f"hash-{id_}", "target": "ok", "to": f"http://there/{id_}"} | changes


def invoke(name: str, ids: list[str], t: float, **changes: Any) -> Invoke:
    """A request that was answered with 202."""
    items = changes.pop("items", None) or [item(id_) for id_ in ids]
    fields: dict[str, Any] = {
        "name": name, "t": t, "kind": "batch", "key": f"key-{name}", "items": items, "result": "ok",
        "answered_at": t + 0.1, "ids": ids, "tries": [202],
    }  # fmt: skip
    return Invoke(**fields | changes)


def good() -> History:
    """a: sent at once. b: sent at the second attempt. c: refused for good. d: cancelled. k1, k2: in order."""
    history = History(
        meta={"wall_minus_clock": WALL, "quiet": {"reached": True}, "harness_errors": []},
        ladder=LADDER,
        invokes={
            "0-1": invoke("0-1", list("abcd"), 1.0, items=[*map(item, "ab"), item("c", target="gone"), item("d")]),
            "0-2": invoke("0-2", ["k1"], 2.0, items=[item("k1", ordering_key="k")]),
            "0-3": invoke("0-3", ["k2"], 3.0, items=[item("k2", ordering_key="k")]),
            "0-4": invoke("0-4", [], 4.0, result="unknown", answered_at=9.0, tries=[0], items=[item("u")]),
        },
        plan={"load_s": 10.0, "faults": []},
        loses_records=frozenset({"kafka_forgets"}),
    )  # fmt: skip
    rows = [row("a"), row("b", attempt=2), row("c", status="failed"), row("d", status="cancelled")]
    rows += [row("k1", ordering_key="k"), row("k2", ordering_key="k")]
    history.rows = {one.id: one for one in rows}
    history.attempts.update(
        {
            "a": [attempt("a", 1, 2.0)],
            "b": [attempt("b", 1, 2.0, "unknown"), attempt("b", 2, 4.0)],
            "c": [attempt("c", 1, 2.0, "permanent")],
            "k1": [attempt("k1", 1, 3.0)],
            "k2": [attempt("k2", 1, 3.2)],
        }
    )
    history.letters = {
        "b": letter("b", status="resolved", resolution="sent", failure_class="unknown", rest_reason=None),
        "c": letter("c"),
    }  # fmt: skip
    history.receipts.update(
        {
            "a": [receipt("a", 2.05)],
            "b": [receipt("b", 2.05), receipt("b", 4.05, attempt=2)],
            "c": [receipt("c", 2.05, answer="410")],
            "k1": [receipt("k1", 3.05)],
            "k2": [receipt("k2", 3.25)],
        }
    )
    history.published = [("k1", 1), *((id_, 1) for id_ in "abc"), ("b", 2), ("k2", 1)]
    history.cancels["d"] = [Cancel(1.5, 1.6, 200, None)]
    history.cancels["a"] = [Cancel(5.0, 5.1, 409, "sent")]
    return history
