"""The checker finds what it is there to find: each case spoils a run in which everything held in one way."""

from collections.abc import Callable
from typing import Any

import pytest

from tests.chaos.checker import result_of, said, violations
from tests.chaos.history import Cancel, History
from tests.unit.chaos.histories import WALL, attempt, good, invoke, item, letter, receipt, row

Spoil = Callable[[History], Any]


def found(history: History) -> set[str]:
    return {violation.invariant for violation in violations(history)}


def test_a_good_run_has_no_violation() -> None:
    assert violations(good()) == []


def change(table: str, id_: str, **changes: Any) -> Spoil:
    """Change fields of one row of a table."""

    def spoil(history: History) -> None:
        for name, value in changes.items():
            setattr(getattr(history, table)[id_], name, value)

    return spoil


def change_nth(table: str, id_: str, n: int, **changes: Any) -> Spoil:
    """Change fields of one of several attempts or receipts."""

    def spoil(history: History) -> None:
        for name, value in changes.items():
            setattr(getattr(history, table)[id_][n], name, value)

    return spoil


def add(table: str, id_: str, *more: Any) -> Spoil:
    """Add attempts or receipts."""
    return lambda history: getattr(history, table)[id_].extend(more)


def put(table: str, id_: str, value: Any) -> Spoil:
    """Add, or replace, one entry."""
    return lambda history: getattr(history, table).__setitem__(id_, value)


def lose(*ids: str) -> Spoil:
    """Have the database know nothing of notifications."""

    def spoil(history: History) -> None:
        for id_ in ids:
            for table in (history.rows, history.attempts, history.letters, history.receipts):
                table.pop(id_, None)

    return spoil


def recovered_twice(history: History) -> None:
    """Accept what had no answer two times."""
    for id_ in ("u1", "u2"):
        history.rows[id_] = row(id_, token="tok-u", status="cancelled")
        history.cancels[id_] = [Cancel(5, 6, 200, None)]


def exhausted(history: History) -> None:
    """Have outages use up the ladder of a good receiver."""
    history.rows["b"] = row("b", status="failed", attempt=4)
    history.attempts["b"] = [attempt("b", n, 2.0 + n, "transient") for n in range(1, 5)]
    history.receipts.pop("b")
    history.letters["b"] = letter(
        "b", attempt=4, failure_class="transient", rest_reason="retries_used_up", retry_count=3
    )


CASES: dict[str, list[Spoil]] = {
    "lost": [lose("a"), lose("k1", "k2")],
    "not_ended": [
        change("rows", "a", status="pending"),
        lambda history: history.letters.pop("c"),
        change("letters", "c", retry_at=5.0),
        lambda history: history.left.update(outbox=[["a", "topic", 7]]),
        lambda history: history.meta.update(quiet={"reached": False}),
    ],
    "accepted_twice": [put("rows", "a2", row("a2", token="tok-a")), recovered_twice],
    "never_asked_for": [put("rows", "x", row("x"))],
    "accepted_though_refused": [change("invokes", "0-1", result="fail")],
    "half_a_batch": [
        lambda history: (history.asked.pop("tok-d"), history.rows.pop("d"), history.cancels.pop("d")),
    ],
    "invalid_accepted": [put("invokes", "0-9", invoke("0-9", [], 5.0, kind="invalid"))],
    "repeat_answered_otherwise": [
        change("invokes", "0-2", repeated=[{"status": 202, "ids": ["other"], "replayed": True}]),
        change("invokes", "0-2", repeated=[{"status": 202, "ids": ["k1"], "replayed": False}]),
        change("invokes", "0-2", repeated=[{"status": 422, "ids": [], "replayed": False}]),
    ],
    "key_used_for_another_body": [change("invokes", "0-2", misused=[202])],
    "answer_names_another": [change("invokes", "0-1", ids=["b", "a", "c", "d"])],
    "cancelled_but_ended_otherwise": [put("cancels", "b", [Cancel(1.0, 1.1, 200, None)])],
    "begun_after_cancel": [add("attempts", "d", attempt("d", 1, 2.0, "permanent"))],
    "cancelled_though_409": [put("cancels", "d", [Cancel(1.5, 1.6, 409, "processing")])],
    "cancelled_by_nobody": [lambda history: history.cancels.pop("d")],
    "cancel_answered_otherwise": [put("cancels", "b", [Cancel(1.0, 1.1, 404, None)])],
    "attempts_are_not_numbered_through": [lambda history: history.attempts["b"].pop(0)],
    "attempts_do_not_rise": [change_nth("attempts", "b", 1, began_at=WALL + 1.0)],
    "attempt_never_ended": [change_nth("attempts", "a", 0, outcome="begun")],
    "sent_without_its_accepted_attempt": [change_nth("attempts", "a", 0, outcome="unknown")],
    "sent_with_an_open_letter": [change("letters", "b", status="retrying", resolution=None)],
    "retried_without_letter": [lambda history: history.letters.pop("b")],
    "accepted_but_not_sent": [change("rows", "a", status="expired", expires_at=WALL + 1.0)],
    "expired_without_expiry": [
        lambda history: (change("rows", "d", status="expired")(history), history.cancels.pop("d"))
    ],
    "suppressed_for_nothing": [change("rows", "d", status="suppressed")],
    "letter_is_of_another_attempt": [change("letters", "c", attempt=2)],
    "letter_has_another_class": [change("letters", "c", failure_class="transient")],
    "rests_for_no_good_reason": [change("letters", "c", rest_reason="notification_moved_on")],
    "refused_by_a_receiver_that_does_not_refuse": [
        lambda history: history.asked["tok-c"][1].update(target="ok"),
    ],
    "held_without_being_asked_to": [change("letters", "c", rest_reason="on_unknown_hold")],
    "gave_up_before_the_ladder_ended": [change("letters", "c", rest_reason="retries_used_up")],
    "outages_used_up_the_ladder": [exhausted],
    "letter_has_other_bytes": [change("letters", "c", payload_sha256="other")],
    "letter_has_another_key": [change("letters", "c", message_key="other")],
    "illegal_move": [lambda history: history.left.update(wrong=[["illegal_move", "a", 1.0, {}, {}]])],
    "undocumented_answer": [change("invokes", "0-2", tries=[500, 202]), change("invokes", "0-2", tries=[400])],
    "tried_again_though_held": [change("rows", "b", on_unknown="hold")],
    "unexpected_death": [
        lambda history: history.events.append({"e": "unexpected_death", "t": 1.0, "target": "relay-1", "code": 1}),
    ],
    "sigterm_exit_code": [
        lambda history: history.events.append({"e": "finding", "what": "sigterm_exit_code", "target": "dlq-1"}),
    ],
    "ceiling": [put("peaks", "relay-1", {"rss": 2**30, "fds": 20}), put("peaks", "api", {"rss": 0, "fds": 5000})],
    "sent_but_never_seen": [
        lambda history: history.receipts.pop("a"),
        change_nth("receipts", "a", 0, answer="503"),
        lambda history: history.receipts["b"].pop(1),
    ],
    "phantom": [put("receipts", "nobody", [receipt("nobody", 2.0)])],
    "phantom_content": [change_nth("receipts", "a", 0, token="tok-b"), change_nth("receipts", "a", 0, token="")],
    "content_was_changed": [change_nth("receipts", "a", 0, content="other")],
    "went_to_another_recipient": [change_nth("receipts", "a", 0, recipient="http://there/b")],
    "redirect_was_followed": [change_nth("receipts", "a", 0, recipient="http://there/elsewhere")],
    "signature_does_not_verify": [
        change_nth("receipts", "a", 0, signed="wrong"),
        change_nth("receipts", "a", 0, signed="stale"),
    ],
    "message_id_is_another": [change_nth("receipts", "a", 0, message_id="b")],
    "seen_without_an_attempt": [change_nth("receipts", "a", 0, attempt=2), lambda h: h.attempts["k1"].clear()],
    "seen_before_its_attempt": [change_nth("receipts", "a", 0, t=1.5)],
    "attempts_differ_in_content": [change_nth("receipts", "b", 1, body="other")],
    "unexplained_duplicate": [
        add("receipts", "a", receipt("a", 2.5)),
        lambda history: (
            change_nth("attempts", "b", 0, outcome="transient")(history),
            change_nth("receipts", "b", 0, attempt=2)(history),
        ),
        add("receipts", "b", receipt("b", 4.5, attempt=2)),
    ],
    "taken_but_recorded_otherwise": [change_nth("attempts", "b", 0, outcome="transient")],
    "sent_again_after_its_end": [add("receipts", "a", receipt("a", 9.0, attempt=2, answer="503"))],
    "early": [change("rows", "a", scheduled_for=WALL + 2.5)],
    "begun_after_expiry": [change("rows", "a", expires_at=WALL + 1.9)],
    "expired_early": [change("rows", "d", status="expired", expires_at=WALL + 3.0)],
    "retry_after_not_honoured": [
        lambda history: (
            change_nth("attempts", "b", 0, outcome="transient")(history),
            change_nth("receipts", "b", 0, answer="429:3")(history),
        ),
        lambda history: history.receipts["a"].insert(0, receipt("a", 2.02, answer="503:1")),
    ],
    "order_inverted": [change_nth("attempts", "k2", 0, began_at=WALL + 2.9)],
    "published_out_of_order": [lambda history: history.published.reverse()],
    "seen_after_its_attempt": [change_nth("receipts", "k1", 0, t=9.0)],
    "silence_taken_for_an_answer": [change_nth("receipts", "k1", 0, answer="hang")],
    "two_of_a_key_at_once": [change_nth("receipts", "k1", 0, answer="200:0.5")],
}  # fmt: skip


def name_of(value: object) -> str:
    """What a case is called."""
    return value if isinstance(value, str) else "spoilt"


@pytest.mark.parametrize(
    ("name", "spoil"), [(name, spoil) for name, spoils in CASES.items() for spoil in spoils], ids=name_of
)  # fmt: skip
def test_what_is_spoilt_is_found(name: str, spoil: Spoil) -> None:
    history = good()
    spoil(history)

    assert name in found(history)


@pytest.mark.parametrize(
    "spoil",
    [
        # A person sent again what was held.
        lambda history: (change("rows", "b", on_unknown="hold")(history), history.by_hand.add(("b", 2))),
        # A relay that died, and another that publishes what it left once more.
        lambda history: history.published.extend([("k1", 1), ("k2", 1)]),
        # A receiver that was not heard cannot be waited for.
        change_nth("receipts", "b", 0, answer="429:30"),
        # A request without an answer may have been accepted, once.
        lambda history: (
            history.rows.update(u=row("u", status="cancelled")),
            history.cancels.update(u=[Cancel(5.0, 6.0, 0, None)]),
        ),
        # A call that its dead owner left with the receiver.
        lambda history: (
            change_nth("receipts", "k1", 0, answer="hang")(history),
            change_nth("attempts", "k1", 0, reason="lease_over", outcome="unknown")(history),
            history.attempts["k1"].append(attempt("k1", 2, 4.0)),
            history.receipts["k1"].append(receipt("k1", 4.1, attempt=2)),
            change("rows", "k1", attempt=2)(history),
            history.letters.update(k1=letter("k1", status="resolved", resolution="sent", message_key="default/k")),
        ),
    ],
)
def test_what_is_allowed_is_not_found(spoil: Spoil) -> None:
    history = good()
    spoil(history)

    assert violations(history) == []


def test_faults_that_never_bit_and_violations_are_told() -> None:
    history = good()
    history.plan["faults"] = [{"kind": "kill9_relay"}, {"kind": "kafka_kill9"}]
    history.events += [
        {"e": "injected", "kind": "kill9_relay", "t": 1.0},
        {"e": "bites", "kind": "kill9_relay", "count": 3},
        {"e": "injected", "kind": "kafka_kill9", "t": 1.0},
        {"e": "bites", "kind": "kafka_kill9", "count": 0},
    ]
    lose("a")(history)
    bad = violations(history)
    result = result_of(history, bad)
    text = said(result, bad)

    assert result["faults"]["kill9_relay"] == {"planned": 1, "happened": 1, "bit": 1, "bites": 3}
    assert "never bit in this run: kafka_kill9" in text
    assert "VIOLATED lost: 1" in text
    assert item("a")["tok"] not in {one.token for one in history.rows.values()}
