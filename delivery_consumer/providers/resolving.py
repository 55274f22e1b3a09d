"""Name look-ups: in threads, since the system's resolver blocks, and divided among tenants.

A look-up cannot be cut off: one that nobody waits for any more holds its thread until the resolver gives up, half a
minute later. Names whose servers are silent would so take all threads. So a tenant may hold at most GREED times what is
free, as of everything else (tenants.py). Whoever may not begin waits without a thread, and leaves with its deadline.
Each look-up has a daemon thread of its own, so that none keeps the process from ending; it costs less than the
connection that it is for.
"""

import asyncio
import contextlib
import socket
import threading
from collections import Counter
from typing import Final

from delivery_consumer.tenants import GREED

THREADS: Final = 128
_Key = tuple[str, str, int]


class Resolver:
    """Addresses of names, looked up anew each time: nothing is kept, so that what is judged is what is connected to."""

    def __init__(self, *, threads: int = THREADS) -> None:
        self._free = threads
        self._held = Counter[str]()  # threads by tenant; those with none are left out
        self._lookups: dict[_Key, asyncio.Future[list[str]]] = {}
        self._waiting: set[asyncio.Future[None]] = set()

    async def addresses(self, tenant_id: str, host: str, port: int) -> list[str]:
        """Look a name up, once for all of a tenant's who ask at the same time. Raises OSError or UnicodeError."""
        key = (tenant_id, host, port)
        while (lookup := self._lookups.get(key)) is None:
            if self._held[tenant_id] < GREED * self._free:
                lookup = self._begin(key)
                break
            await self._an_end()
        return await asyncio.shield(lookup)

    def _begin(self, key: _Key) -> asyncio.Future[list[str]]:
        tenant_id, host, port = key
        loop = asyncio.get_running_loop()
        lookup: asyncio.Future[list[str]] = loop.create_future()
        threading.Thread(target=_answer, args=(loop, lookup, host, port), name="resolver", daemon=True).start()
        self._lookups[key] = lookup
        self._held[tenant_id] += 1
        self._free -= 1
        lookup.add_done_callback(lambda done: self._ended(key, done))
        return lookup

    def _ended(self, key: _Key, done: asyncio.Future[list[str]]) -> None:
        if not done.cancelled():
            done.exception()  # seen, though nobody may wait for it any more
        del self._lookups[key]
        self._free += 1
        self._held[key[0]] -= 1
        if not self._held[key[0]]:
            del self._held[key[0]]
        for waiter in self._waiting:
            if not waiter.done():
                waiter.set_result(None)

    async def _an_end(self) -> None:
        waiter: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._waiting.add(waiter)
        try:
            await waiter
        finally:
            self._waiting.discard(waiter)


def _answer(loop: asyncio.AbstractEventLoop, lookup: asyncio.Future[list[str]], host: str, port: int) -> None:
    """Look a name up, in a thread, and say so in the loop, unless that is closed by then."""
    with contextlib.suppress(RuntimeError):
        try:
            addresses = _look_up(host, port)
        except Exception as error:  # noqa: BLE001 - whoever waits for it raises it
            loop.call_soon_threadsafe(lookup.set_exception, error)
        else:
            loop.call_soon_threadsafe(lookup.set_result, addresses)


def _look_up(host: str, port: int) -> list[str]:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
    if not addresses:
        raise OSError("no address")
    return addresses
