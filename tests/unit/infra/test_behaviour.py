"""Telling a receiver to fail: what is understood, what is refused, and for how long it holds."""

import pytest

from infra.local import smtp_sink, webhook_receiver
from infra.local.http_server import Hang, Request, Reset, Response


def a_delivery(path: str = "/hooks/x", notification_id: str = "n1") -> Request:
    return Request("POST", path, {}, {"webhook-id": notification_id, "notification-attempt": "1"}, b"{}")


def order(content: str) -> Request:
    return Request("POST", "/behaviour", {}, {}, content.encode())


def test_a_hook_fails_as_often_as_it_was_told_and_then_recovers() -> None:
    """`times` counts answers; Retry-After is passed on."""
    receiver = webhook_receiver.Receiver([])

    receiver.handle(order('{"path": "/hooks/x", "status": 503, "times": 2, "retry_after": 7}'))
    answers = [receiver.handle(a_delivery()) for _ in range(3)]

    statuses = [answer.status for answer in answers if isinstance(answer, Response)]
    assert statuses == [503, 503, 200]
    assert isinstance(answers[0], Response)
    assert answers[0].headers == {"Retry-After": "7"}


def test_one_hook_failing_leaves_the_others_alone() -> None:
    """A behaviour belongs to one path."""
    receiver = webhook_receiver.Receiver([])

    receiver.handle(order('{"path": "/hooks/x", "mode": "hang"}'))

    assert isinstance(receiver.handle(a_delivery("/hooks/x")), Hang)
    assert isinstance(receiver.handle(a_delivery("/hooks/y")), Response)


def test_a_reset_is_no_acceptance() -> None:
    """What was answered with a reset counts as received, not as accepted."""
    receiver = webhook_receiver.Receiver([])

    receiver.handle(order('{"path": "/hooks/x", "mode": "reset", "times": 1}'))
    first = receiver.handle(a_delivery())
    receiver.handle(a_delivery())
    stats = receiver.handle(Request("GET", "/stats", {"path": "/hooks/x"}, {}, b""))

    assert isinstance(first, Reset)
    assert isinstance(stats, Response)
    assert b'"received": 2' in stats.body
    assert b'"accepted": 1' in stats.body
    assert b'"duplicate_count": 0' in stats.body


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        ([], "expected a JSON object"),
        ({"path": "/other"}, "path: expected a path that begins with /hooks/"),
        ({"path": "/hooks/x", "status": 42}, "status: expected a number from 200 to 599"),
        ({"path": "/hooks/x", "status": True}, "status: expected a number from 200 to 599"),
        ({"path": "/hooks/x", "times": 0}, "times: expected a number from 1, or null"),
        ({"path": "/hooks/x", "mode": "explode"}, "mode: expected respond, hang or reset"),
        ({"path": "/hooks/x", "delay": 3}, "delay: unknown"),
        ({"path": "/hooks/x", "status": 1, "times": -1}, "status: .*; times: "),
    ],
)
def test_an_order_nobody_understands_is_refused_with_every_fault(content: object, fault: str) -> None:
    """A mistyped order that did nothing would make a test pass for the wrong reason."""
    with pytest.raises(ValueError, match=fault):
        webhook_receiver.Behaviour.parse(content)


def test_mail_behaviour_is_read_and_addresses_are_compared_in_lower_case() -> None:
    """Every field has its default."""
    behaviour = smtp_sink.Behaviour.parse({"mode": "defer", "for_recipient": "Ada@Example.org", "times": 2})

    assert behaviour == smtp_sink.Behaviour("defer", "ada@example.org", 2)


@pytest.mark.parametrize("content", [{}, {"mode": "slow"}, {"mode": "ok", "for_recipient": 1}, {"mode": "ok", "x": 1}])
def test_mail_behaviour_nobody_understands_is_refused(content: object) -> None:
    """As for webhooks."""
    with pytest.raises(ValueError, match=r"expected|unknown"):
        smtp_sink.Behaviour.parse(content)
