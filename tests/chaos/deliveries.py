"""What was promised about deliveries: seen, no phantom, bounded duplicates, order, time, retry discipline."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise
from typing import Any

from tests.chaos.history import AttemptRow, History, Invoke, Receipt, Row
from tests.chaos.invariants import TOLERANCE_S
from tests.chaos.topology import HURRIED
from tests.chaos.violations import Violation, first

WEBHOOK_TIMEOUT_S = float(HURRIED["WEBHOOK_TIMEOUT_S"])


def sent_unseen(history: History) -> Iterator[Violation]:
    """I5: what is `sent` was taken by its receiver, in the very attempt that says so."""
    for row in history.rows.values():
        if row.status != "sent":
            continue
        receipts = history.receipts.get(row.id, [])
        if not any(one.maybe_accepted and one.attempt in (0, row.attempt) for one in receipts):
            yield Violation("sent_but_never_seen", row.id, _story(history, row))


def phantoms(history: History) -> Iterator[Violation]:
    """I6, I8: each receipt is of a notification that was asked for, in an attempt begun before, with its content."""
    for id_, receipts in history.receipts.items():
        row = history.rows.get(id_)
        if row is None:
            yield Violation("phantom", id_, {"receipt": asdict(receipts[0]), "count": len(receipts)})
            continue
        began = {one.attempt: history.clock(one.began_at) for one in history.attempts.get(id_, ())}
        for receipt in receipts:
            wrong = _wrong_receipt(history, row, receipt, began)
            if wrong:
                yield Violation(wrong, id_, {"receipt": asdict(receipt)} | _story(history, row))
        if len({receipt.body for receipt in receipts}) > 1:
            yield Violation("attempts_differ_in_content", id_, {"receipts": [asdict(one) for one in receipts]})


def _wrong_receipt(history: History, row: Row, receipt: Receipt, began: dict[int, float]) -> str | None:
    asked = history.asked.get(receipt.token)
    if asked is None or receipt.token != row.token:
        return "phantom_content"
    first_began = began.get(receipt.attempt) if receipt.attempt else min(began.values(), default=None)
    return first(
        ("redirect_was_followed", receipt.recipient.endswith("/elsewhere")),
        ("content_was_changed", receipt.content != asked[1]["h"]),
        ("went_to_another_recipient", receipt.recipient != asked[1]["to"]),
        ("signature_does_not_verify", receipt.signed != "ok" and not _excused(history, receipt)),
        ("message_id_is_another", receipt.message_id != row.id),
        ("seen_without_an_attempt", first_began is None),
        ("seen_before_its_attempt", first_began is not None and receipt.t < first_began - TOLERANCE_S),
    )


def _excused(history: History, receipt: Receipt) -> bool:
    """Whether a consumer of ours was told another time of day."""
    return receipt.signed == "stale" and any(fault["kind"] == "clock_delivery" for fault in history.plan["faults"])


def duplicates(history: History) -> Iterator[Violation]:
    """I7: a second yes needs an earlier attempt that ended unknown."""
    for id_, receipts in history.receipts.items():
        accepted = [receipt for receipt in receipts if receipt.accepted]
        outcomes = {one.attempt: one.outcome for one in history.attempts.get(id_, ())}
        unknown = sum(outcome == "unknown" for outcome in outcomes.values())
        story = {
            "receipts": [asdict(one) for one in receipts],
            "outcomes": {str(number): one for number, one in outcomes.items()},
        }
        if len(accepted) > 1 and len(accepted) > unknown + ("accepted" in outcomes.values()):
            yield Violation("unexplained_duplicate", id_, story)
        for receipt in accepted:
            if receipt.attempt and outcomes.get(receipt.attempt) not in ("accepted", "unknown"):
                yield Violation("taken_but_recorded_otherwise", id_, story)
        numbers = [receipt.attempt for receipt in accepted if receipt.attempt]
        if len(numbers) != len(set(numbers)):
            yield Violation("unexplained_duplicate", id_, story)
        last = max((number for number, outcome in outcomes.items() if outcome == "accepted"), default=None)
        if last is not None and any(receipt.attempt > last for receipt in receipts):
            yield Violation("sent_again_after_its_end", id_, story)


def within_attempts(history: History) -> Iterator[Violation]:
    """I6, I7: what a receiver sees belongs to an attempt that is under way, and silence is no answer.

    An owner that was stopped may wake and send when its attempt has long ended unknown: that is what unknown means.
    """
    for id_, receipts in history.receipts.items():
        attempts = {one.attempt: one for one in history.attempts.get(id_, ())}
        last = {receipt.attempt: receipt for receipt in receipts}
        for number, receipt in last.items():
            attempt = attempts.get(number)
            if attempt is None or attempt.ended_at is None or attempt.outcome == "unknown":
                continue
            evidence = {"receipt": asdict(receipt), "attempt": asdict(attempt)}
            if receipt.t > history.clock(attempt.ended_at) + TOLERANCE_S:
                yield Violation("seen_after_its_attempt", id_, evidence)
            if receipt.answer in ("hang", "ambiguous"):
                yield Violation("silence_taken_for_an_answer", id_, evidence)


def explained_duplicates(history: History) -> int:
    """How many times a receiver said yes again, with the explanation asked for above."""
    return sum(max(0, sum(one.accepted for one in receipts) - 1) for receipts in history.receipts.values())


def on_time(history: History) -> Iterator[Violation]:
    """I14: no attempt before its time, none begun after it has expired, by PostgreSQL's clock."""
    for row in history.rows.values():
        for attempt in history.attempts.get(row.id, ()):
            if row.scheduled_for is not None and attempt.began_at < row.scheduled_for:
                yield Violation("early", row.id, _story(history, row))
            if row.expires_at is not None and attempt.began_at >= row.expires_at:
                yield Violation("begun_after_expiry", row.id, _story(history, row))
        if row.status == "expired" and row.expires_at is not None and row.updated_at < row.expires_at:
            yield Violation("expired_early", row.id, _story(history, row))


def retry_after(history: History) -> Iterator[Violation]:
    """I17: whoever asked for time was given it, where the answer reached us."""
    for id_, receipts in history.receipts.items():
        outcomes = {one.attempt: one.outcome for one in history.attempts.get(id_, ())}
        for earlier, later in pairwise(receipts):
            status, _, asked = earlier.answer.partition(":")
            known = later.attempt == earlier.attempt or outcomes.get(earlier.attempt) == "transient"
            if status in ("429", "503") and asked.isdigit() and known and later.t < earlier.t + float(asked) - 0.01:
                yield Violation("retry_after_not_honoured", id_, {"receipts": [asdict(earlier), asdict(later)]})


def order(history: History) -> Iterator[Violation]:
    """I12: with one key, first attempts begin in the order accepted and one at a time, whatever Kafka forgot."""
    for key, accepted in _accepted_by_key(history).items():
        earlier: AttemptRow | None = None
        for _, id_ in accepted:
            first_attempt = next((one for one in history.attempts.get(id_, ()) if one.attempt == 1), None)
            if first_attempt is None:
                continue  # cancelled or expired before
            if earlier is not None:
                yield from _compared(history, key, earlier, first_attempt)
            if earlier is None or first_attempt.began_at > earlier.began_at:
                earlier = first_attempt


def published_order(history: History) -> Iterator[Violation]:
    """I12: relays, however many, and however they die, publish what has one key in the order accepted.

    The first time, that is: what was not deleted is published again by whoever comes next.
    """
    places: dict[str, int] = {}
    for place, (id_, attempt) in enumerate(history.published):
        if attempt == 1:
            places.setdefault(id_, place)
    for key, accepted in _accepted_by_key(history).items():
        seen = [(places[id_], id_) for _, id_ in accepted if id_ in places]
        for earlier, later in pairwise(seen):
            if later < earlier:
                yield Violation("published_out_of_order", key, {"earlier": earlier, "later": later})


def _compared(history: History, key: str, earlier: AttemptRow, later: AttemptRow) -> Iterator[Violation]:
    evidence = {"earlier": asdict(earlier), "later": asdict(later)}
    if later.began_at < earlier.began_at:
        yield Violation("order_inverted", key, evidence)
        return
    held_until = max((receipt.t + _held_s(receipt) for receipt in _of_first(history, earlier.id)), default=0.0)
    seen = min((receipt.t for receipt in _of_first(history, later.id)), default=None)
    # An owner that died may have left its call with the receiver; what it was is over for us when its lease is.
    if seen is not None and seen < held_until - TOLERANCE_S and earlier.reason != "lease_over":
        yield Violation("two_of_a_key_at_once", key, evidence | {"held_until": held_until, "seen": seen})


def _of_first(history: History, id_: str) -> list[Receipt]:
    return [receipt for receipt in history.receipts.get(id_, ()) if receipt.attempt == 1]


def _held_s(receipt: Receipt) -> float:
    """How long a receiver kept the sender waiting, at least."""
    status, _, extra = receipt.answer.partition(":")
    if status == "200" and extra:
        return float(extra)
    return WEBHOOK_TIMEOUT_S / 2 if receipt.answer in ("hang", "drip") else 0.0


def _accepted_by_key(history: History) -> dict[str, list[tuple[float, str]]]:
    """Per ordering key the ids in the order they were accepted; requests whose answer is unknown are left out."""
    accepted: dict[str, list[tuple[float, str]]] = defaultdict(list)
    invokes: list[Invoke] = sorted(history.invokes.values(), key=lambda invoke: invoke.t)
    for invoke in invokes:
        if invoke.result != "ok" or (len(invoke.tries) > 1 and not invoke.key):
            continue
        for item, id_ in zip(invoke.items, invoke.ids, strict=False):
            if "ordering_key" in item:
                accepted[item["ordering_key"]].append((float(invoke.answered_at or invoke.t), id_))
    return accepted


def _story(history: History, row: Row) -> dict[str, Any]:
    return {
        "row": asdict(row),
        "attempts": [asdict(one) for one in history.attempts.get(row.id, ())],
        "receipts": [asdict(one) for one in history.receipts.get(row.id, ())],
    }


INVARIANTS = (sent_unseen, phantoms, duplicates, within_attempts, on_time, retry_after, order, published_order)
