"""The consumer as a whole, on real Kafka and PostgreSQL."""

from dataclasses import replace

import pytest

from shared.model import Channel
from tests.integration.delivery_consumer.parts import Desk, Receiver, SmtpScript, running, settings_for, threaded


def test_each_record_is_delivered_once_even_if_published_twice(desk: Desk, hook: Receiver) -> None:
    """A record that Kafka carries twice is claimed, and sent, once."""
    news = desk.accept([hook.url] * 200, copies=2)

    with running(settings_for(desk.database, desk.topics)):
        desk.wait_for(sent=200)

    assert sorted(hook.ids()) == sorted(str(one.id) for one in news)
    assert desk.attempts() == [("accepted", "accepted", 200)]


def test_mail_reaches_its_one_recipient(desk: Desk) -> None:
    """Mail goes to the stored recipient alone and names the notification."""
    script = SmtpScript()
    settings = settings_for(desk.database, desk.topics)

    news = desk.accept([f"reader{n}@example.org" for n in range(50)], channel=Channel.EMAIL)
    with threaded(script.session) as port, running(replace(settings, email=replace(settings.email, port=port))):
        desk.wait_for(sent=50)

    recipients = [command for command in script.commands if command.startswith(b"RCPT")]
    assert sorted(recipients) == sorted(f"RCPT TO:<{one.recipient}>".encode() for one in news)
    for one in news:
        assert sum(f"X-Notification-Id: {one.id}\r\n".encode() in message for message in script.messages) == 1


@pytest.mark.parametrize(
    ("reply", "receipt"),
    [(b"250 angenommen, sch\xf6n", "250 angenommen, sch?n"), (rb"250 C:\u0000spool \x", r"250 C:\u0000spool \x")],
)
def test_whatever_a_server_says_its_yes_is_kept(desk: Desk, reply: bytes, receipt: str) -> None:
    """Bytes that are no UTF-8 and backslashes in a reply neither end the process nor send the mail again."""
    script = SmtpScript(replies={"DOT": reply})
    settings = settings_for(desk.database, desk.topics)

    desk.accept(["reader@example.org"] * 3, channel=Channel.EMAIL)
    with threaded(script.session) as port, running(replace(settings, email=replace(settings.email, port=port))):
        desk.wait_for(sent=3)

    assert len(script.messages) == 3
    assert desk.conn.execute("SELECT DISTINCT receipt FROM delivery_attempts").fetchall() == [(receipt,)]
