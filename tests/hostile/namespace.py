"""The namespace: decoy addresses that answer, a resolver of our own, and counters for every packet that leaves."""

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

VARIABLE = "TESTS_IN_NAMESPACE"
"""Set by `make test-hostile`: mounts and networks are this run's own, and may be changed."""
NAME_SERVER = "9.9.9.9"
PUBLIC = ("93.184.215.14", "2606:4700:4700::1111")
"""Addresses that webhooks may reach; here they are ours, like all others."""
DECOYS = (
    "10.0.0.5", "10.255.255.254", "100.64.0.1", "100.100.100.200", "127.0.0.1", "127.1.2.3", "168.63.129.16",
    "169.254.169.254", "169.254.170.2", "172.16.0.9", "172.31.255.1", "192.0.0.192", "192.0.2.7", "192.88.99.1",
    "192.168.0.1", "192.168.255.254", "198.18.0.1", "198.51.100.7", "203.0.113.9",
    "::1", "2002:7f00:1::1", "2002:a9fe:a9fe::1", "2001:db8::5", "2001::5", "3fff::1", "64:ff9b::7f00:1",
    "64:ff9b::a00:5", "64:ff9b:1::a00:5", "100::5", "fc00::5", "fd00:ec2::254", "fe80::5", "fec0::5", "5f00::5",
)  # fmt: skip
"""Addresses that webhooks must not reach. Each would answer."""
FORBIDDEN_V4 = (
    "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "168.63.129.16/32", "169.254.0.0/16", "172.16.0.0/12",
    "192.0.0.0/24", "192.0.2.0/24", "192.88.99.0/24", "192.168.0.0/16", "198.18.0.0/15", "198.51.100.0/24",
    "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
)  # fmt: skip
FORBIDDEN_V6 = ("::/3", "4000::/2", "8000::/1", "2001::/23", "2001:db8::/32", "2002::/16", "3fff::/20")
"""Written down here a second time, on purpose: what is counted does not depend on what is tested."""


def why_not() -> str | None:
    """Say why nothing can be tried here; None where it can."""
    if os.geteuid() != 0:
        return "it needs root: make test-hostile"
    routes = Path("/proc/net/route").read_text(encoding="ascii").splitlines()[1:]
    if VARIABLE not in os.environ or routes:
        return "it needs namespaces of its own: make test-hostile"
    if missing := [name for name in ("ip", "iptables", "ip6tables", "mount") if shutil.which(name) is None]:
        return f"not installed: {', '.join(missing)} (Debian's packages iproute2, iptables, mount)"
    return None


def run(*command: str) -> str:
    """Run a program of the system; its output."""
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


@contextmanager
def decoys(directory: Path) -> Iterator[None]:
    """Give the loopback interface every address there is to test, and have names looked up at NAME_SERVER."""
    run("ip", "link", "set", "lo", "up")
    for address in (NAME_SERVER, *PUBLIC, *DECOYS):
        if address not in ("127.0.0.1", "::1"):
            run("ip", "addr", "replace", f"{address}/{128 if ':' in address else 32}", "dev", "lo")
    for name, text in (
        ("resolv.conf", f"nameserver {NAME_SERVER}\noptions timeout:1 attempts:1\n"),
        ("nsswitch.conf", "hosts: files dns\n"),
        ("hosts", "127.0.0.1 localhost\n::1 localhost\n"),
    ):
        own = directory / name
        own.write_text(text, encoding="ascii")
        run("mount", "--bind", str(own), f"/etc/{name}")
    try:
        yield
    finally:
        for name in ("resolv.conf", "nsswitch.conf", "hosts"):
            run("umount", f"/etc/{name}")


class Counters:
    """Packets to forbidden addresses, as the kernel counts them on their way out."""

    def __init__(self) -> None:
        for table, networks in (("iptables", FORBIDDEN_V4), ("ip6tables", FORBIDDEN_V6)):
            run(table, "-F", "OUTPUT")
            for network in networks:
                run(table, "-A", "OUTPUT", "-d", network)

    def read(self) -> dict[str, int]:
        """Packets by network, those with none left out."""
        found: dict[str, int] = {}
        for table in ("iptables", "ip6tables"):
            for line in run(table, "-L", "OUTPUT", "-v", "-x", "-n").splitlines()[2:]:
                packets = int(line.split()[0])
                if packets:
                    found[_destination(line)] = packets
        return found

    def zero(self) -> None:
        """Begin anew."""
        for table in ("iptables", "ip6tables"):
            run(table, "-Z", "OUTPUT")


def _destination(line: str) -> str:
    networks = re.findall(r"\S+/\d+", line)
    return str(networks[-1] if networks else line.rsplit(maxsplit=1)[-1])
