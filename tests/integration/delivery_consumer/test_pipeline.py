"""The consumer as a whole, on real Kafka and PostgreSQL."""

from dataclasses import replace

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
