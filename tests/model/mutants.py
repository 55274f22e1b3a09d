"""Small wrong turns in the product, each of which the machine has to notice: or its silence would prove nothing."""

import inspect
import textwrap
from collections.abc import Callable, Mapping
from typing import Any, Final

import pytest

from delivery_consumer.offsets import PartitionOffsets
from outbox_relay.relay import Relay
from outbox_relay.upkeep import Upkeep
from shared.db import notifications, outbox

Mutant = Callable[[pytest.MonkeyPatch], None]


def rewritten(function: Callable[..., Any], changes: Mapping[str, str]) -> Any:
    """Return a function with parts of its text replaced; each part must be there."""
    text = textwrap.dedent(inspect.getsource(function))
    for old, new in changes.items():
        assert old in text, f"{function.__name__} has changed: {old!r} is not in it"
        text = text.replace(old, new)
    names: dict[str, Any] = dict(vars(inspect.getmodule(function)))
    exec(compile("from __future__ import annotations\n" + text, function.__name__, "exec"), names)  # our own text
    return names[function.__name__]


def claims_whatever_its_status(patch: pytest.MonkeyPatch) -> None:
    """The claim takes what was cancelled, sent, or claimed by another."""
    claim = rewritten(notifications.claim, {" AND n.status = 'pending'": ""})
    patch.setattr(notifications, "claim", claim)


def deletes_before_the_acknowledgement(patch: pytest.MonkeyPatch) -> None:
    """The relay deletes rows once it has produced them."""
    take_off = Relay._take_off

    def hasty(self: Relay) -> None:
        take_off(self)
        if seqs := list(self._flight.seqs()):
            outbox.delete(self._connection(), seqs)

    patch.setattr(Relay, "_take_off", hasty)


def commits_before_the_outcome(patch: pytest.MonkeyPatch) -> None:
    """The consumer commits what it has read."""
    patch.setattr(PartitionOffsets, "safe", property(lambda self: self._next))


def cancels_whatever_its_status(patch: pytest.MonkeyPatch) -> None:
    """A cancel is answered with yes, however late it comes."""
    changes = {" AND status IN ('pending', 'scheduled', 'suppressed')": ""}
    patch.setattr(notifications, "cancel", rewritten(notifications.cancel, changes))


def never_sweeps(patch: pytest.MonkeyPatch) -> None:
    """Nobody looks for what Kafka has lost."""
    patch.setattr(Upkeep, "_sweep", lambda _self, _conn: 0)


def writes_back_whoever_owns_it(patch: pytest.MonkeyPatch) -> None:
    """Whoever comes last decides how an attempt ended."""
    changes = {"AND a.owner = %(owner)s AND a.outcome = 'begun'": "AND %(owner)s IS NOT NULL"}
    patch.setattr(notifications, "write_back", rewritten(notifications.write_back, changes))


MUTANTS: Final[tuple[Mutant, ...]] = (
    claims_whatever_its_status,
    deletes_before_the_acknowledgement,
    commits_before_the_outcome,
    cancels_whatever_its_status,
    never_sweeps,
    writes_back_whoever_owns_it,
)
