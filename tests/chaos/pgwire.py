"""As much of PostgreSQL's wire protocol as it takes to see which statement passes by, and when its answer is complete.

Source: PostgreSQL documentation, "Frontend/Backend Protocol", message formats.
"""

from dataclasses import dataclass, field

_STARTUP_REQUESTS = {80877102, 80877103, 80877104}  # cancel, SSL, GSS: answered without a message type, or not at all


@dataclass(slots=True)
class Framing:
    """Cuts one direction of a connection into messages; bytes of an unfinished one are kept for the next call."""

    untyped: bool  # a client's first messages have a length and no type
    _rest: bytes = b""

    def messages(self, chunk: bytes) -> list[tuple[bytes, bytes]]:
        """Return (type, body) of every message that is complete now; the type of a first message is empty."""
        data, at, complete = self._rest + chunk, 0, []
        while True:
            head = 4 if self.untyped else 5
            if len(data) - at < head:
                break
            length = int.from_bytes(data[at + head - 4 : at + head])
            end = at + head - 4 + length
            if len(data) < end:
                break
            kind, body = data[at : at + head - 4], data[at + head : end]
            if self.untyped and int.from_bytes(body[:4]) not in _STARTUP_REQUESTS:
                self.untyped = False
            complete.append((kind, body))
            at = end
        self._rest = data[at:]
        return complete


@dataclass(slots=True)
class Statements:
    """Tells which statements a client sends, prepared earlier or not."""

    framing: Framing = field(default_factory=lambda: Framing(untyped=True))
    _prepared: dict[bytes, str] = field(default_factory=dict)

    def sent(self, chunk: bytes) -> list[str]:
        """Return the texts of the statements that these bytes complete the execution of, in order."""
        texts: list[str] = []
        for kind, body in self.framing.messages(chunk):
            if kind == b"Q":
                texts.append(_text(body))
            elif kind == b"P":
                name, _, rest = body.partition(b"\0")
                self._prepared[name] = _text(rest)
            elif kind == b"B":
                _portal, _, rest = body.partition(b"\0")
                texts.append(self._prepared.get(rest.partition(b"\0")[0], ""))
        return texts


@dataclass(slots=True)
class Answers:
    """Tells when the server has answered everything it was asked."""

    framing: Framing = field(default_factory=lambda: Framing(untyped=False))
    _greeted: bool = False

    def complete(self, chunk: bytes) -> bool:
        """Say whether these bytes bring a ReadyForQuery."""
        if not self._greeted and chunk[:1] in (b"N", b"G") and len(chunk) == 1:  # no to SSL: one byte, no message
            return False
        self._greeted = True
        return any(kind == b"Z" for kind, _ in self.framing.messages(chunk))


def _text(body: bytes) -> str:
    return body.partition(b"\0")[0].decode("utf-8", "replace")
