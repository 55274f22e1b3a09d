"""No webhook reaches a forbidden address, however it is written down and whatever its name leads to.

Every forbidden address answers here, and the kernel counts each packet to one. `make test-hostile` makes the namespace.
"""

import asyncio
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from ipaddress import ip_network

import pytest

from delivery_consumer.errors import DeliveryError
from delivery_consumer.providers import Attempt
from delivery_consumer.providers.webhook import WebhookProvider
from delivery_consumer.settings import WebhookSettings
from shared.model import Channel, uuid7
from shared.records import Record
from tests.hostile.names import Names, name_server
from tests.hostile.namespace import DECOYS, NAME_SERVER, PUBLIC, Counters, decoys, why_not
from tests.hostile.spellings import spellings

PORT = 8080
EVERYTHING = (ip_network("0.0.0.0/0"), ip_network("::/0"))
DELIVERED = "http_200"


@dataclass
class World:
    """The namespace while a test is in it."""

    names: Names
    packets: Counters


@dataclass
class Seen:
    """What came of some URLs."""

    reasons: dict[str, str] = field(default_factory=dict)
    connections: Counter[str] = field(default_factory=Counter)  # by the address that took them
    controls: int = 0  # deliveries to a public address, one after each URL

    @property
    def inside(self) -> set[str]:
        """The forbidden addresses that were connected to."""
        return set(self.connections) - set(PUBLIC)


@pytest.fixture(scope="module")
def namespace(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    """Decoys, a name server and counters; skipped where there is no namespace to put them into."""
    if reason := why_not():
        pytest.skip(reason)
    with decoys(tmp_path_factory.mktemp("etc")), name_server(NAME_SERVER) as names:
        names.tell("public.example", PUBLIC)
        names.tell("localhost", ["127.0.0.1"])  # where a file of hosts does not know it with its dot
        yield World(names, Counters())


@pytest.fixture
def world(namespace: World) -> World:
    """The namespace with its counters at zero."""
    namespace.packets.zero()
    return namespace


def url(host: str) -> str:
    """Where a webhook would go."""
    return f"http://{host}:{PORT}/hook"


def post_all(urls: Iterable[str], *, allowed: Sequence[object] = (), answer: bytes = b"200 OK") -> Seen:
    """Post to each URL, and to a public address after each."""
    seen = Seen()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        seen.connections[str(writer.get_extra_info("sockname")[0]).partition("%")[0]] += 1
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 " + answer + b"\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        writer.close()

    async def run() -> None:
        provider = WebhookProvider(WebhookSettings((b"k" * 32,), 2.0, allowed, 50))  # type: ignore[arg-type]
        async with await asyncio.start_server(serve, "0.0.0.0", PORT), await asyncio.start_server(serve, "::", PORT):
            for number, one in enumerate(urls):
                seen.reasons[one] = await reason_of(provider, one)
                control = PUBLIC[number % 2]
                host = f"[{control}]" if ":" in control else control
                seen.controls += await reason_of(provider, url(host)) == f"http_{answer[:3].decode()}"
        await provider.aclose()

    asyncio.run(run())
    return seen


async def reason_of(provider: WebhookProvider, recipient: str) -> str:
    """What became of one webhook."""
    record = Record(str(uuid7()), "default", Channel.WEBHOOK, recipient, "Hi", "2026-01-02T03:04:05Z")
    try:
        provider.place(record)
        return (await provider.send(record, Attempt(1))).text
    except DeliveryError as error:
        return error.reason


def nothing_got_in(world: World, seen: Seen) -> bool:
    """Say that no forbidden address was spoken to, and that every control was delivered."""
    assert world.packets.read() == {}
    assert seen.inside == set()
    assert seen.controls == len(seen.reasons)
    return True


def test_the_counters_see_what_gets_through(world: World) -> None:
    """With the guard told to allow everything the same addresses are reached, and their packets counted."""
    hosts = [f"[{decoy}]" if ":" in decoy else decoy for decoy in DECOYS if not decoy.startswith("fe80")]
    seen = post_all(
        map(url, [*hosts, "127.1", "0", "2130706433", "localhost", "[::ffff:10.0.0.5]"]), allowed=EVERYTHING
    )

    assert set(seen.reasons.values()) == {DELIVERED}
    assert {"127.0.0.1", "169.254.169.254", "10.0.0.5", "64:ff9b::a00:5", "fec0::5"} <= seen.inside
    assert {"10.0.0.0/8", "127.0.0.0/8", "169.254.0.0/16", "100.64.0.0/10", "::/3", "8000::/1", "2002::/16"} <= set(
        world.packets.read()
    )


def test_row_42_loopback_in_every_spelling(world: World) -> None:
    """Numbers, short forms, octal and hexadecimal, full-width dots, names."""
    hosts = (
        "127.0.0.1",
        "127.1",
        "2130706433",
        "0x7f000001",
        "0",
        "0.0.0.0",
        "127。0。0。1",
        "localhost",
        "localhost.",
    )
    seen = post_all(map(url, hosts))

    assert set(seen.reasons.values()) == {"address_forbidden"}
    assert nothing_got_in(world, seen)


def test_row_43_private_and_special_networks(world: World) -> None:
    """Every IPv4 decoy, and what answers to no one machine."""
    hosts = [decoy for decoy in DECOYS if ":" not in decoy] + [
        "224.0.0.1",
        "239.255.255.250",
        "240.0.0.1",
        "255.255.255.255",
    ]
    seen = post_all(map(url, hosts))

    assert set(seen.reasons.values()) == {"address_forbidden"}
    assert nothing_got_in(world, seen)


def test_row_44_ipv6_and_ipv4_in_ipv6(world: World) -> None:
    """Loopback, link-local with its zone, site-local, unique local, and IPv4 mapped, translated or tunnelled."""
    hosts = [f"[{decoy}]" for decoy in DECOYS if ":" in decoy]
    hosts += [
        "[::ffff:127.0.0.1]",
        "[::127.0.0.1]",
        "[2002:7f00:1::]",
        "[fe80::1%25lo]",
        "[fe80::5%lo]",
    ]
    seen = post_all(map(url, hosts))

    assert set(seen.reasons.values()) <= {"address_forbidden", "bad_url"}
    assert list(seen.reasons.values()).count("address_forbidden") >= len(DECOYS) // 3
    assert nothing_got_in(world, seen)


def test_row_45_a_name_with_a_public_and_a_private_address(world: World) -> None:
    """One forbidden address among those of a name is enough, in either family, in any order, behind another name."""
    world.names.tell("first.example", ["10.0.0.5", PUBLIC[0]])
    world.names.tell("last.example", [PUBLIC[0], "169.254.169.254"])
    world.names.tell("family.example", [PUBLIC[0], "fd00:ec2::254"])
    world.names.tell("mapped.example", [PUBLIC[1], "::ffff:127.0.0.1"])
    world.names.tell("alias.example", ["inside.example", "10.0.0.5"])
    names = ("first", "last", "family", "mapped", "alias")
    seen = post_all(url(f"{name}.example") for name in names)

    assert [seen.reasons[url(f"{name}.example")] for name in names[:4]] == ["address_forbidden"] * 4
    assert DELIVERED not in seen.reasons.values()
    assert nothing_got_in(world, seen)


def test_row_46_a_name_that_leads_elsewhere_the_next_time(world: World) -> None:
    """What is judged is what is connected to: a name is looked up once per connection, and its answer never again."""
    world.names.tell("rebound.example", [PUBLIC[0]], ["127.0.0.1"], [PUBLIC[0]], ["169.254.169.254"], ["10.0.0.5"])
    urls = [f"{url('rebound.example')}/{number}" for number in range(6)]
    seen = post_all(urls)

    assert list(seen.reasons.values()) == [DELIVERED, "address_forbidden", DELIVERED, *["address_forbidden"] * 3]
    assert world.names.lookups("rebound.example") == len(urls)
    assert nothing_got_in(world, seen)


def test_row_47_a_redirect_is_never_followed(world: World) -> None:
    """The status is the answer: permanent, and its Location is not fetched."""
    for status in (301, 302, 303, 307, 308):
        answer = b"%d Elsewhere\r\nLocation: http://169.254.169.254:%d/latest/meta-data/" % (status, PORT)
        seen = post_all([url("public.example")], answer=answer)

        assert set(seen.reasons.values()) == {f"http_{status}"}
        assert nothing_got_in(world, seen)


def test_250_spellings_of_forbidden_addresses(world: World) -> None:
    """None of them gets a packet out, and after each the allowed control is delivered."""
    seen = post_all(map(url, spellings(250, seed=7)))

    reasons = Counter(seen.reasons.values())
    assert len(seen.reasons) == 250
    assert set(reasons) <= {"address_forbidden", "bad_url", "name_not_resolved"}
    assert reasons["address_forbidden"] >= 125, reasons
    assert nothing_got_in(world, seen)
