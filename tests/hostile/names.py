"""A name server whose answers change as they are told, and may lie."""

import socket
import struct
import threading
from collections import defaultdict
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from ipaddress import IPv6Address, ip_address

_A, _CNAME, _AAAA = 1, 5, 28
_ANSWER, _NO_SUCH_NAME = 0x8580, 0x8583


class Names:
    """What is known: for each name the answers it gets in turn, the last one from then on; each is a set of records."""

    def __init__(self) -> None:
        self._answers: dict[str, list[Sequence[str]]] = {}
        self._asked: dict[tuple[str, int], int] = defaultdict(int)

    def tell(self, name: str, *answers: Sequence[str]) -> None:
        """Say what a name leads to: addresses, or one other name; `answers` follow each other, question by question."""
        self._answers[name.rstrip(".").lower()] = list(answers)

    def lookups(self, name: str) -> int:
        """How often the IPv4 addresses of a name were asked for."""
        return self._asked[name.rstrip(".").lower(), _A]

    def answer(self, packet: bytes) -> bytes:
        """The answer to one question, with a time to live of 0."""
        name, end = _name_in(packet, 12)
        kind = struct.unpack(">H", packet[end : end + 2])[0]
        turn = self._asked[name, kind]
        self._asked[name, kind] += 1
        known = self._answers.get(name)
        chosen = known[min(turn, len(known) - 1)] if known else ()
        records = [record for text in chosen if (record := _record(text, kind))]
        counts = struct.pack(">HHHHH", _ANSWER if known else _NO_SUCH_NAME, 1, len(records), 0, 0)
        return packet[:2] + counts + packet[12 : end + 4] + b"".join(records)


def _name_in(packet: bytes, at: int) -> tuple[str, int]:
    labels = []
    while size := packet[at]:
        labels.append(packet[at + 1 : at + 1 + size].decode("latin-1").lower())
        at += size + 1
    return ".".join(labels), at + 1


def _record(text: str, kind: int) -> bytes | None:
    """A record for the name of the question, None where it is of another kind."""
    try:
        address = ip_address(text)
    except ValueError:
        data = b"".join(bytes((len(label),)) + label.encode() for label in text.split(".")) + b"\0"
        return b"\xc0\x0c" + struct.pack(">HHIH", _CNAME, 1, 0, len(data)) + data
    is_kind = kind == (_AAAA if isinstance(address, IPv6Address) else _A)
    packed = address.packed
    return b"\xc0\x0c" + struct.pack(">HHIH", kind, 1, 0, len(packed)) + packed if is_kind else None


@contextmanager
def name_server(address: str) -> Iterator[Names]:
    """Answer on port 53 of an address for the length of a block."""
    names = Names()
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as own:
        own.bind((address, 53))

        def serve() -> None:
            while True:
                try:
                    packet, peer = own.recvfrom(4096)
                except OSError:
                    return
                if not packet:
                    return
                own.sendto(names.answer(packet), peer)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield names
        own.sendto(b"", own.getsockname())
        thread.join(5)
