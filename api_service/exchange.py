"""One request and its answer on a client's connection: what ends it when the client takes too long."""

import contextlib
import socket
from contextvars import ContextVar
from typing import Any, Final


class Exchange:
    """From the first byte of a request to the last of its answer."""

    def __init__(self, connection: socket.socket) -> None:
        self._connection = connection
        self.request: Any = None  # gunicorn's, once its head has arrived
        self.is_late = False
        self.head_lines = b""  # more headers of the answer, written as they are: CRLF behind each

    def stop_reading(self) -> None:
        """Let no more of the request in: who reads it finds its end. The answer can still be written."""
        self.is_late = True
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RD)

    def cut(self) -> None:
        """End the connection, answered or not."""
        with contextlib.suppress(OSError):
            self._connection.shutdown(socket.SHUT_RDWR)

    def refuse_more(self) -> None:
        """Give up on the rest of the request: nothing else is read here, and the answer says that this is the last."""
        self.stop_reading()
        self.request.force_close()


EXCHANGE: Final[ContextVar[Exchange | None]] = ContextVar("exchange", default=None)
"""The one that this thread serves; None where no gunicorn is around, as in tests."""
