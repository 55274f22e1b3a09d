"""Choosing ports on this machine."""

import socket
from collections.abc import Iterator

import pytest

from infra.local.errors import LocalStackError
from infra.local.ports import free_port, is_free, port_from_environment
from infra.local.stack import Ports


@pytest.fixture
def taken_port() -> Iterator[int]:
    """A port somebody listens on."""
    port = free_port()
    with socket.create_server(("127.0.0.1", port)):
        yield port


def test_free_ports_are_free_and_never_the_same() -> None:
    """Two servers started side by side must not meet."""
    ports = [free_port() for _ in range(50)]

    assert len(set(ports)) == 50
    assert all(is_free(port) for port in ports)


def test_a_port_that_is_set_is_used() -> None:
    """An empty variable is as good as none."""
    port = free_port()

    assert port_from_environment({"API_PORT": f" {port} "}, "API_PORT") == port
    assert port_from_environment({"API_PORT": ""}, "API_PORT") > 0


def test_a_port_that_is_set_but_taken_is_refused_by_name(taken_port: int) -> None:
    """One sentence says which variable."""
    with pytest.raises(LocalStackError, match=f"API_PORT={taken_port} is in use"):
        Ports.choose({"API_PORT": str(taken_port)})


@pytest.mark.parametrize("value", ["0", "65536", "http", "-1", "80 80"])
def test_a_value_that_is_no_port_is_refused(value: str) -> None:
    """With what would be."""
    with pytest.raises(LocalStackError, match="is not a TCP port"):
        Ports.choose({"DB_PORT": value})


def test_two_parts_cannot_have_one_port() -> None:
    """Both variables are named."""
    port = str(free_port())

    with pytest.raises(LocalStackError, match="API_PORT and DLQ_PORT"):
        Ports.choose({"API_PORT": port, "DLQ_PORT": port})


def test_a_documented_port_is_used_unless_it_is_taken(taken_port: int) -> None:
    """What the README says works, and a second stack on the machine works as well."""
    ports = Ports.choose({}, documented=True)

    assert taken_port not in {ports.api, ports.kafka}
    assert ports.api == 8080 or not is_free(8080)
