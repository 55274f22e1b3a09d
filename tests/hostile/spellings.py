"""Ways to write down an address that is forbidden, for the host of a URL."""

import random
from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, IPv6Address

from tests.hostile.namespace import DECOYS

_V4 = [IPv4Address(text) for text in DECOYS if ":" not in text]
_V6 = [IPv6Address(text) for text in DECOYS if ":" in text]


def _octal(number: int) -> str:
    return f"0{number:o}"


def _in_octets(write: Callable[[int], str]) -> Callable[[IPv4Address], str]:
    return lambda address: ".".join(write(octet) for octet in address.packed)


def _three_parts(address: IPv4Address) -> str:
    a, b, c, d = address.packed
    return f"{a}.{b}.{c << 8 | d}"


def _two_parts(address: IPv4Address) -> str:
    return f"{address.packed[0]}.{int(address) & 0xFFFFFF}"


def _mixed(address: IPv4Address) -> str:
    a, b, c, d = address.packed
    return f"0x{a:x}.{_octal(b)}.{c << 8 | d}"


def _words(address: IPv4Address) -> str:
    return f"{int(address) >> 16:x}:{int(address) & 0xFFFF:x}"


_FORMS_V4: tuple[Callable[[IPv4Address], str], ...] = (
    str,
    _two_parts,
    _three_parts,
    _mixed,
    _in_octets(hex),
    _in_octets(_octal),
    _in_octets(lambda octet: f"{octet:03o}".rjust(5, "0")),
    lambda address: str(int(address)),
    lambda address: hex(int(address)),
    lambda address: f"0X{int(address):08X}",
    lambda address: f"{address}.",
    lambda address: str(address).replace(".", "。"),
    lambda address: str(address).replace(".", "｡"),
    lambda address: str(address).replace(".", "%2E"),
    lambda address: f"[::ffff:{address}]",
    lambda address: f"[::FFFF:{_words(address)}]",
    lambda address: f"[0:0:0:0:0:ffff:{_words(address)}]",
    lambda address: f"[::{address}]",
    lambda address: f"[64:ff9b::{address}]",
    lambda address: f"[64:ff9b:1::{_words(address)}]",
    lambda address: f"[2002:{_words(address)}::1]",
    lambda address: f"public.example@{address}",
    lambda address: f"{address}#@public.example",
    lambda address: f"public.example\\@{address}",
)
_FORMS_V6: tuple[Callable[[IPv6Address], str], ...] = (
    lambda address: f"[{address}]",
    lambda address: f"[{address.exploded}]",
    lambda address: f"[{str(address).upper()}]",
    lambda address: f"[{address}%25lo]",
    lambda address: f"[{address}%lo]",
)
_FIXED = ("localhost", "LOCALHOST", "localhost.", "0", "0.0", "0.0.0.0", "0x0", "00", "127.1", "127.0.1", "2130706433",
          "0x7f000001", "017700000001", "127。0。0。1", "１２７.0.0.1", "[::]", "[0::0]", "[::ffff:0:0]", "224.0.0.1",
          "255.255.255.255", "240.0.0.1", "[ff02::1]", "[ff0e::1]", "ip6-localhost")  # fmt: skip


def spellings(count: int, *, seed: int) -> list[str]:
    """Return different spellings of forbidden addresses, as many as asked for."""
    rng = random.Random(seed)
    chosen = dict.fromkeys(_FIXED)
    drawn = _drawn(rng)
    while len(chosen) < count:
        chosen[next(drawn)] = None
    return list(chosen)[:count]


def _drawn(rng: random.Random) -> Iterator[str]:
    while True:
        if rng.random() < 0.75:
            # All of 127/8 is this machine; of the other networks these are.
            loopback = IPv4Address(0x7F000000 | rng.getrandbits(24))
            yield rng.choice(_FORMS_V4)(rng.choice([*_V4, loopback]))
        else:
            yield rng.choice(_FORMS_V6)(rng.choice(_V6))
