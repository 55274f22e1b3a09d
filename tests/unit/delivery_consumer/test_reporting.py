"""What is reported of destinations: changes alone, a bounded number, nothing of the recipients."""

import pytest

from delivery_consumer.destinations import COOL_DOWN_S, MIN_CALLS, WINDOW_S, Destination, Destinations
from delivery_consumer.errors import PermanentDeliveryError
from delivery_consumer.providers import Place
from delivery_consumer.providers.webhook import WebhookProvider
from delivery_consumer.reporting import MAX_REPORTS, RESERVED, Changes
from delivery_consumer.settings import WebhookSettings
from delivery_consumer.tenants import Tenant, Tenants
from shared.model import Channel
from shared.records import Record
from tests.unit.delivery_consumer.fakes import Clock, FakeProvider


class Watched:
    """Destinations and what finds their changes, on a clock of numbers."""

    def __init__(self, *, keep: int = 10_000) -> None:
        self.clock, self.provider = Clock(), FakeProvider()
        self.destinations = Destinations(Tenants(), keep=keep)
        self.tenant = Tenant("a")
        self.queued: dict[str, int] = {}
        self.changes = Changes(
            self.destinations,
            {Channel.WEBHOOK: self.provider},
            lambda one: self.queued.get(one.name, 0),
            clock=self.clock,
        )

    def use(self, *names: str) -> list[Destination]:
        return [self.destinations.get(self.tenant, name, self.provider.limits) for name in names]

    def taken(self) -> list[str]:
        return [report.destination for report in self.changes.take()[0]]


def a_record(recipient: str) -> Record:
    return Record("id", "default", Channel.WEBHOOK, recipient, "Hi", "2026-01-02T03:04:05Z")


def test_what_has_not_changed_is_not_reported_again() -> None:
    """At rest there is nothing to write, however many destinations are remembered."""
    watched = Watched()
    (one, _) = watched.use("http://a:80", "http://b:80")

    first, second = watched.taken(), watched.taken()
    one.under_way += 1
    third = watched.changes.take()[0]

    assert (sorted(first), second) == (["http://a:80", "http://b:80"], [])
    assert [(report.destination, report.slots_in_use, report.channel) for report in third] == [
        ("http://a:80", 1, "webhook")
    ]


def test_a_breaker_is_reported_as_it_opens_and_lets_a_probe_through() -> None:
    """Open with the instant of its next probe, half open once that has come, closed after a success."""
    watched = Watched()
    (one,) = watched.use("http://a:80")
    for _ in range(MIN_CALLS):
        one.note(worked=False, answered=True, now=watched.clock.now)
    one.last_reason = "http_503"

    seen = []
    for pass_s in (1.0, COOL_DOWN_S, 0.0):
        watched.clock.now += pass_s
        [report] = watched.changes.take()[0]
        seen.append((report.breaker, report.probe_in_s, report.calls, report.failures, report.last_reason))
        if pass_s == COOL_DOWN_S:
            one.note(worked=True, answered=True, now=watched.clock.now)

    assert seen == [
        ("open", COOL_DOWN_S - 1, MIN_CALLS, MIN_CALLS, "http_503"),
        ("half_open", -1.0, MIN_CALLS, MIN_CALLS, "http_503"),
        ("closed", None, 0, 0, "http_503"),
    ]


def test_counts_of_calls_come_to_rest_by_themselves() -> None:
    """A destination that is used no more is looked at until its recent calls are none."""
    watched = Watched()
    (one,) = watched.use("http://a:80")
    one.note(worked=True, answered=True, now=watched.clock.now)
    watched.taken()
    watched.use(*(f"http://{number}:80" for number in range(2 * MAX_REPORTS)))
    while watched.taken():
        pass

    watched.clock.now += WINDOW_S
    after = watched.changes.take()[0]

    assert [(report.destination, report.calls) for report in after] == [("http://a:80", 0)]
    assert watched.taken() == []


def test_reports_are_bounded_and_open_breakers_come_first() -> None:
    """An outage of everything at once is reported piece by piece; what is open is not crowded out by what is busy."""
    watched = Watched()
    (one,) = watched.use("http://down:80")
    for _ in range(MIN_CALLS):
        one.note(worked=False, answered=True, now=watched.clock.now)
    watched.use(*(f"http://{number}:80" for number in range(3 * MAX_REPORTS)))

    first = watched.taken()

    assert first[0] == "http://down:80"
    assert first[1] == f"http://{3 * MAX_REPORTS - 1}:80"
    assert len(first) == MAX_REPORTS - RESERVED


def test_what_is_forgotten_is_dropped_and_after_an_outage_all_is_reported_again() -> None:
    """The table holds what the process remembers; a drop that may not have come through is repeated."""
    watched = Watched(keep=2)
    watched.use("http://a:80", "http://b:80")
    watched.taken()
    watched.use("http://c:80")

    _, dropped = watched.changes.take()
    watched.changes.forget()
    again, dropped_again = watched.changes.take()

    assert dropped == dropped_again == [("a", "http://a:80")]
    assert sorted(report.destination for report in again) == ["http://b:80", "http://c:80"]


@pytest.mark.parametrize(
    ("recipient", "name"),
    [
        ("https://shop.example/hooks/secret-token?key=1", "https://shop.example:443"),
        ("http://shop.example:8080", "http://shop.example:8080"),
        ("http://[::1]:81/a", "http://[::1]:81"),
    ],
)
async def test_a_destination_is_named_by_scheme_host_and_port_alone(recipient: str, name: str) -> None:
    """What is shown of a recipient holds neither path nor query."""
    provider = WebhookProvider(WebhookSettings((b"k" * 32,), 1.0, (), 1))

    assert provider.place(a_record(recipient)) == Place(name)
    await provider.aclose()


async def test_a_recipient_with_a_user_has_no_destination() -> None:
    """Credentials in a URL never become a name."""
    provider = WebhookProvider(WebhookSettings((b"k" * 32,), 1.0, (), 1))

    with pytest.raises(PermanentDeliveryError):
        provider.place(a_record("https://user:hush@shop.example/"))
    await provider.aclose()
