"""What was promised about accepting, ending and cancelling; delivering is in deliveries.py."""

from collections import defaultdict
from collections.abc import Iterator
from dataclasses import asdict
from itertools import pairwise

from tests.chaos.history import AttemptRow, Cancel, History, Row
from tests.chaos.violations import Violation, first

TERMINAL = frozenset({"sent", "failed", "cancelled", "expired", "suppressed"})
# Addressees that refuse for good, so that a permanent failure, or later a suppression, is right.
REFUSING = frozenset({"redirect", "gone", "s550", "s554"})
TOLERANCE_S = 0.05  # between PostgreSQL's clock and the ledgers', which are read in different processes
# Of a producer's requests; 0 is none at all, 408 a body that did not come in time because somebody was stopped.
ANSWERS = frozenset({0, 202, 408, 409, 422, 503})
RSS_CEILING = 320 * 1024 * 1024
FDS_CEILING = 2_500  # a delivery consumer keeps up to 2,000 idle connections


def lost(history: History) -> Iterator[Violation]:
    """I1, I4: each id a producer was given is there, and has ended."""
    for invoke, id_ in history.accepted_ids:
        if id_ not in history.rows:
            yield Violation("lost", id_, {"request": invoke.name, "answered_at": invoke.answered_at})


def not_ended(history: History) -> Iterator[Violation]:
    """I3, I4: at rest nothing is on its way, and nothing waits for what will not come."""
    for row in history.rows.values():
        letter = history.letters.get(row.id)
        at_rest = letter is not None and letter.status == "failed" and letter.retry_at is None
        if row.status not in TERMINAL or (row.status == "failed" and not at_rest):
            yield Violation("not_ended", row.id, {"row": asdict(row), "letter": letter and asdict(letter)})
    for table in ("outbox", "outbox_due", "outbox_dead"):
        for fields in history.left.get(table, ()):
            yield Violation("not_ended", str(fields[0]), {"table": table, "row": fields})
    if not history.meta["quiet"].get("reached"):
        yield Violation("not_ended", "the pipeline", {"quiet": history.meta["quiet"]})


def accepted_twice(history: History) -> Iterator[Violation]:
    """I2: one request, with a key or without, is accepted once, whole or not at all; a refused one not at all."""
    by_token: dict[str, list[Row]] = defaultdict(list)
    for row in history.rows.values():
        by_token[row.token].append(row)
    for token, rows in by_token.items():
        if token not in history.asked:
            yield Violation("never_asked_for", rows[0].id, {"row": asdict(rows[0])})
        elif len(rows) > 1:
            invoke, _ = history.asked[token]
            yield Violation("accepted_twice", invoke.name, {"key": invoke.key, "ids": [row.id for row in rows]})
    for invoke in history.invokes.values():
        found = [item["tok"] for item in invoke.items if item["tok"] in by_token]
        if invoke.result == "fail" and found:
            yield Violation("accepted_though_refused", invoke.name, {"tries": invoke.tries, "tokens": found[:5]})
        elif found and len(found) < len(invoke.items):
            yield Violation("half_a_batch", invoke.name, {"found": len(found), "of": len(invoke.items)})
        if invoke.kind == "invalid" and invoke.result == "ok":
            yield Violation("invalid_accepted", invoke.name, {"ids": invoke.ids})


def keys(history: History) -> Iterator[Violation]:
    """I2: a repeat under the same key gets the stored answer, another body a 422."""
    for invoke in history.invokes.values():
        for again in invoke.repeated:
            good = again["status"] == 202 and again["ids"] == invoke.ids and again["replayed"]
            if not good and again["status"] not in (0, 503, 409):
                yield Violation("repeat_answered_otherwise", invoke.name, {"first": invoke.ids[:3], "again": again})
        for status in invoke.misused:
            if status not in (422, 0, 503, 409):
                yield Violation("key_used_for_another_body", invoke.name, {"status": status})
        for id_, item in zip(invoke.ids, invoke.items, strict=False):
            if id_ in history.rows and history.rows[id_].token != item["tok"]:
                yield Violation("answer_names_another", id_, {"asked": item, "row": asdict(history.rows[id_])})


def cancels(history: History) -> Iterator[Violation]:
    """I13: after 200 no attempt begins; after 409 it ends otherwise; what nobody cancelled is not cancelled."""
    for id_, requests in history.cancels.items():
        row = history.rows.get(id_)
        if row is None:
            continue
        yes = [cancel for cancel in requests if cancel.status == 200]
        if yes:
            yield from _begun_after(history, row, min(yes, key=lambda cancel: cancel.answered_at))
        elif row.status == "cancelled" and all(cancel.status == 409 for cancel in requests):
            yield Violation("cancelled_though_409", id_, {"cancels": [asdict(cancel) for cancel in requests]})
        for cancel in requests:
            if cancel.status not in (200, 409, 503, 0):
                yield Violation("cancel_answered_otherwise", id_, {"cancel": asdict(cancel)})
    for row in history.rows.values():
        if row.status == "cancelled" and row.id not in history.cancels:
            yield Violation("cancelled_by_nobody", row.id, {"row": asdict(row)})


def _begun_after(history: History, row: Row, cancel: Cancel) -> Iterator[Violation]:
    if row.status != "cancelled":
        yield Violation("cancelled_but_ended_otherwise", row.id, {"cancel": asdict(cancel), "row": asdict(row)})
    for attempt in history.attempts.get(row.id, ()):
        if history.clock(attempt.began_at) > cancel.answered_at + TOLERANCE_S:
            yield Violation("begun_after_cancel", row.id, {"cancel": asdict(cancel), "attempt": asdict(attempt)})


def states(history: History) -> Iterator[Violation]:
    """I3, I4, I16: status, attempts and dead letter tell one story."""
    for row in history.rows.values():
        attempts = history.attempts.get(row.id, [])
        wrong = _wrong(history, row, attempts)
        if wrong:
            letter = history.letters.get(row.id)
            evidence = {"row": asdict(row), "attempts": [asdict(one) for one in attempts]}
            yield Violation(wrong, row.id, evidence | {"letter": letter and asdict(letter)})
    for id_ in history.attempts.keys() - history.rows.keys():
        yield Violation("attempt_without_notification", id_, {})
    for id_ in history.letters.keys() - history.rows.keys():
        yield Violation("letter_without_notification", id_, {})


def _wrong(history: History, row: Row, attempts: list[AttemptRow]) -> str | None:
    accepted = [one.attempt for one in attempts if one.outcome == "accepted"]
    wrong = first(
        ("attempts_are_not_numbered_through", [one.attempt for one in attempts] != list(range(1, len(attempts) + 1))),
        ("attempts_do_not_rise", any(later.began_at <= earlier.began_at for earlier, later in pairwise(attempts))),
        ("attempt_never_ended", any(one.outcome == "begun" for one in attempts)),
        ("accepted_but_not_sent", bool(accepted) and row.status != "sent"),
    )
    if wrong:
        return wrong
    if row.status == "sent":
        return _wrong_success(history, row, accepted, len(attempts))
    return _wrong_failure(history, row, attempts) if row.status == "failed" else _wrong_end(history, row)


def _wrong_success(history: History, row: Row, accepted: list[int], attempts: int) -> str | None:
    letter = history.letters.get(row.id)
    return first(
        ("sent_without_its_accepted_attempt", accepted != [row.attempt] or attempts != row.attempt),
        ("retried_without_letter", row.attempt > 1 and letter is None),
        ("sent_with_an_open_letter", letter is not None and (letter.status, letter.resolution) != ("resolved", "sent")),
    )


def _wrong_end(history: History, row: Row) -> str | None:
    letter = history.letters.get(row.id)
    open_ = letter is not None and (letter.status, letter.resolution) != ("resolved", row.status)
    return first(
        ("ended_with_an_open_letter", open_),
        ("expired_without_expiry", row.status == "expired" and row.expires_at is None),
        ("suppressed_for_nothing", row.status == "suppressed" and _target(history, row) not in REFUSING),
    )


def _wrong_failure(history: History, row: Row, attempts: list[AttemptRow]) -> str | None:
    letter, target = history.letters.get(row.id), _target(history, row)
    if letter is None:
        return None  # said by not_ended
    last = attempts[-1] if attempts else None
    why, ladder = letter.rest_reason, history.ladder
    outcome = last.outcome if last else ""
    held = row.on_unknown == "hold" and outcome == "unknown"
    used_up = letter.retry_count == ladder and row.attempt == ladder + 1
    return first(
        ("letter_is_of_another_attempt", last is None or not letter.attempt == row.attempt == last.attempt),
        ("letter_has_another_class", letter.failure_class != outcome),
        ("rests_for_no_good_reason", why not in ("permanent", "on_unknown_hold", "retries_used_up", None)),
        ("refused_by_a_receiver_that_does_not_refuse", why == "permanent" and target not in REFUSING),
        ("held_without_being_asked_to", why == "on_unknown_hold" and not held),
        ("gave_up_before_the_ladder_ended", why == "retries_used_up" and not used_up),
        ("outages_used_up_the_ladder", why == "retries_used_up" and target == "ok"),
    )


def _target(history: History, row: Row) -> str:
    asked = history.asked.get(row.token)
    return asked[1]["target"] if asked else ""


def letters(history: History) -> Iterator[Violation]:
    """I15, I16: a dead letter keeps the bytes of the record, and is retried no more often than the ladder has rungs."""
    for letter in history.letters.values():
        row = history.rows.get(letter.id)
        if row and letter.payload_sha256 != row.record_sha256:
            yield Violation(
                "letter_has_other_bytes", letter.id, {"letter": asdict(letter), "sha256": row.record_sha256}
            )
        if row and letter.message_key != (f"default/{row.ordering_key}" if row.ordering_key else row.id):
            yield Violation("letter_has_another_key", letter.id, {"letter": asdict(letter)})


def commits(history: History) -> Iterator[Violation]:
    """What the triggers of watching.py saw committed that never may be."""
    for what, id_, at, old, new in history.left.get("wrong", ()):
        yield Violation(what, str(id_), {"at": at, "old": old, "new": new})


def answers(history: History) -> Iterator[Violation]:
    """I19: whatever fails, a client gets one of the documented answers, never a 500."""
    moved = any(fault["kind"] == "clock_api" for fault in history.plan["faults"])
    for invoke in history.invokes.values():
        # A time that was ahead when it was asked for is refused when it has passed, or by a clock that is ahead.
        timed = any("scheduled_for" in item or "expires_at" in item for item in invoke.items)
        late = invoke.answered_at is None or invoke.answered_at - invoke.t > 1.0
        allowed = ANSWERS | ({400} if invoke.kind == "invalid" or (timed and (late or moved)) else set())
        if invoke.statuses - allowed:
            yield Violation("undocumented_answer", invoke.name, {"statuses": sorted(invoke.statuses - allowed)})


def held(history: History) -> Iterator[Violation]:
    """What asked to be held after an unknown outcome is not tried again, unless a person said so."""
    for row in history.rows.values():
        attempts = history.attempts.get(row.id, ()) if row.on_unknown == "hold" else ()
        doubtful = {one.attempt for one in attempts if one.outcome == "unknown" and one.attempt < row.attempt}
        if any((row.id, attempt + 1) not in history.by_hand for attempt in doubtful):
            yield Violation("tried_again_though_held", row.id, {"attempts": [asdict(one) for one in attempts]})


def processes(history: History) -> Iterator[Violation]:
    """I19 and the harness's own word: nobody died unplanned, memory and descriptors are bounded."""
    forgot = any(event.get("kind") in history.loses_records for event in history.faults("injected"))
    for event in (*history.faults("unexpected_death"), *history.faults("finding")):
        if forgot and event.get("what") == "undecodable_bytes_not_kept":
            continue  # Kafka alone had them, and it was made to forget
        yield Violation(str(event.get("what", event["e"])), str(event.get("target", "")), event)
    for service, peak in history.peaks.items():
        if peak["rss"] > RSS_CEILING or peak["fds"] > FDS_CEILING:
            yield Violation("ceiling", service, dict(peak))


INVARIANTS = (lost, not_ended, accepted_twice, keys, cancels, states, letters, commits, answers, held, processes)
