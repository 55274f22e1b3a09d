"""Every kind of fault there is. A new module of faults is one line here."""

from tests.chaos.faults import Kind, carrier, clocks, connections, locks, processes, servers, storage

_MODULES = (processes, servers, connections, carrier, locks, storage, clocks)
KINDS: dict[str, Kind] = {kind.name: kind for module in _MODULES for kind in module.KINDS}
