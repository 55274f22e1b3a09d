"""The settings of the peers: each one as it is, and with one of its settings changed at a time."""

from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from loadtest.bench.frame import Contender, Plan, Stage
from loadtest.bench.peers import RELAYS, PeerProgram, relaying
from loadtest.bench.pipelines import TASK_QUEUES, TaskQueue
from loadtest.bench.rig import Rig
from loadtest.bench.stages.whole import Measured, Throughput
from loadtest.peers import settings

AS_SET: Final = "as set"
_SHARE: Final = 5
_NOTIFICATIONS: Final = 2_000
"""A round has a part of the work of the stages that compare the peers with us: many values are tried, one by one."""


def variations(peer: str) -> dict[str, dict[str, Any]]:
    """Return what is changed by name of the contender: nothing first, then each value that is tried and not set."""
    present = settings.SETTINGS[peer]
    tried = [(name, value) for name, values in settings.TRIED[peer].items() for value in values]
    changed = {f"{name} {value}": {name: value} for name, value in tried if value != present[name]}
    return {AS_SET: {}, **changed}


def _relay(peer: str, rig: Rig, plan: Plan) -> list[Contender]:
    installation, rows = relaying(rig, "tune", brokers=None), plan.pick(RELAYS[peer][1] // _SHARE, 200)

    def contender(name: str, changed: Mapping[str, Any]) -> Contender:
        return PeerProgram(installation, peer, rows=rows, name=name, changed=changed)

    return [contender(name, changed) for name, changed in variations(peer).items()]


def _task_queue(peer: str, rig: Rig, plan: Plan) -> list[Contender]:
    installation, measure = rig.installation("tune", brokers="none:0"), Throughput(plan.pick(_NOTIFICATIONS, 500))
    queues = [TaskQueue(installation, peer, name=name, changed=changed) for name, changed in variations(peer).items()]
    return [Measured(queue, plan, measure) for queue in queues]


def _stage(peer: str) -> Stage:
    build = _task_queue if peer in TASK_QUEUES else _relay
    return Stage(f"tune_{peer.lower().replace('-outbox', '')}", peer, partial(build, peer))


STAGES: Final = tuple(_stage(peer) for peer in settings.SETTINGS)
