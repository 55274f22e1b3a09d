"""Which TCP ports the local stack listens on."""

import secrets
import socket
from collections.abc import Mapping

from infra.local.errors import LocalStackError

# Below the range from which Linux (32768) and macOS (49152) take the ports of outgoing connections: a port from there
# could be in use again between being chosen here and being bound by the process it was chosen for.
_FIRST, _LAST = 20_000, 32_000
_TRIES = 200

_handed_out: set[int] = set()


def free_port() -> int:
    """Return a port nobody listens on at 127.0.0.1, never the same one twice in this process."""
    for _ in range(_TRIES):
        port = _FIRST + secrets.randbelow(_LAST - _FIRST)
        if port not in _handed_out and is_free(port):
            _handed_out.add(port)
            return port
    raise LocalStackError(f"No free TCP port was found between {_FIRST} and {_LAST} on 127.0.0.1.")


def is_free(port: int) -> bool:
    """Say whether a server could listen on this port of 127.0.0.1 now; connections in TIME_WAIT do not matter."""
    with socket.socket(socket.AF_INET, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
            probe.listen(1)
        except OSError:
            return False
    return True


def port_from_environment(environ: Mapping[str, str], variable: str) -> int:
    """Return the port `variable` asks for, or a free one when it is unset or empty.

    Raises LocalStackError when the value is no port, or somebody listens there already.
    """
    value = environ.get(variable, "").strip()
    if not value:
        return free_port()
    if not value.isascii() or not value.isdigit() or not 1 <= int(value) <= 65_535:
        raise LocalStackError(f"{variable}={value!r} is not a TCP port; expected a number from 1 to 65535.")
    if not is_free(int(value)):
        raise LocalStackError(f"{variable}={value} is in use by another program; stop it, or choose another port.")
    _handed_out.add(int(value))
    return int(value)
