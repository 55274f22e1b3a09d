"""Every kind of fault there is. A new module of faults is one line here."""

from tests.chaos.faults import Kind, processes, servers

KINDS: dict[str, Kind] = {kind.name: kind for module in (processes, servers) for kind in module.KINDS}
