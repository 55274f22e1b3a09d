"""Looking names up: one tenant's silent name servers hold its own look-ups alone."""

import asyncio
import subprocess
import sys
import threading
from collections.abc import Iterator

import pytest

from delivery_consumer.providers import resolving
from delivery_consumer.providers.connecting import Connector
from delivery_consumer.providers.resolving import Resolver
from tests.dockerfiles import REPOSITORY


class NameServers:
    """What the system's resolver is told: nothing for silent.example, until `answer` is set."""

    def __init__(self) -> None:
        self.asked: list[str] = []
        self.answer = threading.Event()

    def look_up(self, host: str, _: int) -> list[str]:
        """Stand in for the system's resolver."""
        self.asked.append(host)
        if host.endswith("silent.example"):
            self.answer.wait(10)
        return ["127.0.0.1"]


@pytest.fixture
def servers(monkeypatch: pytest.MonkeyPatch) -> Iterator[NameServers]:
    """Name servers in place of the system's."""
    servers = NameServers()
    monkeypatch.setattr(resolving, "_look_up", servers.look_up)
    yield servers
    servers.answer.set()


async def ask(resolver: Resolver, tenant_id: str, host: str, within_s: float = 0.2) -> list[str] | None:
    """Addresses, or None when time is up."""
    try:
        async with asyncio.timeout(within_s):
            return await resolver.addresses(tenant_id, host, 80)
    except TimeoutError:
        return None


async def test_names_that_nobody_answers_for_hold_one_tenant_s_look_ups_alone(servers: NameServers) -> None:
    """A look-up cannot be cut off; each may hold twice what is free, so that something is left for the next."""
    resolver = Resolver(threads=12)
    for tenant in "ab":
        silent = [asyncio.create_task(ask(resolver, tenant, f"{n}.{tenant}.silent.example")) for n in range(30)]
        assert set(await asyncio.gather(*silent)) == {None}

    held = [sum(host.endswith(f"{tenant}.silent.example") for host in servers.asked) for tenant in "ab"]
    other = await ask(resolver, "c", "shop.example")

    assert held == [8, 3]  # of twelve; of the four that were left
    assert other == ["127.0.0.1"]


async def test_who_waits_for_a_thread_begins_when_one_is_free_and_leaves_nothing_behind(servers: NameServers) -> None:
    """A name that nobody waits for any more is not looked up."""
    resolver = Resolver(threads=3)
    held = [asyncio.create_task(ask(resolver, "a", f"{n}.silent.example", 5)) for n in range(2)]
    await asyncio.sleep(0)
    assert await ask(resolver, "a", "given-up.example", 0.05) is None
    waiting = asyncio.create_task(ask(resolver, "a", "patient.example", 5))
    await asyncio.sleep(0)
    servers.answer.set()

    assert (await waiting, await asyncio.gather(*held)) == (["127.0.0.1"], [["127.0.0.1"]] * 2)
    assert sorted(servers.asked) == ["0.silent.example", "1.silent.example", "patient.example"]
    assert (resolver._held, resolver._waiting, resolver._lookups) == ({}, set(), {})


async def test_a_name_is_looked_up_once_for_all_of_a_tenant_s_that_ask_together(servers: NameServers) -> None:
    """And again for the next ones: its answer is never kept."""
    connector = Connector()
    deadline = asyncio.get_running_loop().time() + 5

    for _ in range(2):
        calls = [connector.open("shop.example", 80, tls=False, deadline=deadline, tenant_id="a") for _ in range(5)]
        assert {str(error) for error in await asyncio.gather(*calls, return_exceptions=True)} == {"address_forbidden"}

    assert servers.asked == ["shop.example"] * 2


_ENDS = """
import asyncio, time
from delivery_consumer.providers import resolving

resolving._look_up = lambda *_: time.sleep(60)

async def ask():
    async with asyncio.timeout(0.2):
        await resolving.Resolver().addresses("a", "silent.example", 80)

try:
    asyncio.run(ask())
except TimeoutError:
    print("given up")
"""


def test_a_name_that_nobody_answers_for_does_not_keep_the_process_from_ending() -> None:
    """SIGTERM means within 20 seconds, whatever a tenant's name servers do; the resolver may take longer."""
    done = subprocess.run(
        [sys.executable, "-c", _ENDS], cwd=REPOSITORY, capture_output=True, text=True, timeout=20, check=True
    )

    assert done.stdout == "given up\n"
