"""A name server of a few TXT records, on loopback."""

import socketserver
import threading
from types import TracebackType
from typing import Any, Self

import dns.flags
import dns.message
import dns.rcode
import dns.rdatatype
import dns.rrset


class NameServer:
    """Answers what is in `records`, by name; with `broken` it fails instead, with `silent` it says nothing.

    Use it as a context manager.
    """

    def __init__(self) -> None:
        self.records: dict[str, list[str]] = {}
        self.broken = False
        self.silent = False
        self.asked: list[str] = []
        server = self

        class Handler(socketserver.BaseRequestHandler):
            def handle(self) -> None:
                query, socket = self.request
                answer = server._answer(query)
                if not server.silent:
                    socket.sendto(answer, self.client_address)

        self._udp = socketserver.ThreadingUDPServer(("127.0.0.1", 0), Handler)
        self._thread = threading.Thread(target=self._udp.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)

    @property
    def place(self) -> str:
        """Where it is, as DNS_SERVERS has it."""
        host, port = self._udp.server_address[:2]
        return f"{host!s}:{port}"

    def _answer(self, query: bytes) -> bytes:
        asked = dns.message.from_wire(query)
        name = asked.question[0].name
        text = name.to_text(omit_final_dot=True)
        self.asked.append(text)
        answer: Any = dns.message.make_response(asked)
        if self.broken:
            answer.set_rcode(dns.rcode.SERVFAIL)
        elif text not in self.records:
            answer.set_rcode(dns.rcode.NXDOMAIN)
        elif asked.question[0].rdtype == dns.rdatatype.TXT:
            texts = [f'"{one}"' for one in self.records[text]]
            answer.answer.append(dns.rrset.from_text(name, 60, "IN", "TXT", *texts))
        return bytes(answer.to_wire())

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._udp.shutdown()
        self._udp.server_close()
        self._thread.join(5)
