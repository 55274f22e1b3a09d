"""Waiting until everything has ended, which it has to, once nothing fails any more."""

import time
from dataclasses import dataclass
from typing import Any

import psycopg

from tests.chaos.ledger import now
from tests.chaos.producer import Client
from tests.chaos.world import World

QUIET_WITHIN_S = 120.0
# A slow machine may take longer, as long as it gets on; how long it took is reported.
_STANDSTILL_S = 45.0
_PATIENCE_S = 480.0
_LOOK_EVERY_S = 2.0
# A retry planned further ahead than this was put off by a breaker or a full queue; a person makes it now.
_FAR_AHEAD_S = 8.0
_REPLAYS_AT_A_TIME = 300

_OPEN = """
    SELECT count(*) FILTER (WHERE n.status IN ('pending', 'scheduled', 'processing')),
           count(*) FILTER (WHERE n.status = 'failed' AND (d.id IS NULL OR d.status <> 'failed'
                                                           OR d.attempt < n.attempt OR d.retry_at IS NOT NULL)),
           (SELECT count(*) FROM outbox), (SELECT count(*) FROM outbox_due),
           (SELECT count(*) FROM delivery_attempts WHERE outcome = 'begun'),
           (SELECT count(*) FROM dlq_messages d WHERE d.status = 'retrying')
      FROM notifications n LEFT JOIN dlq_messages d ON n.status = 'failed' AND d.notification_id = n.id
"""
_FAR = """
    SELECT id FROM dlq_messages
     WHERE status = 'failed' AND retry_at > now() + %s * interval '1 second' ORDER BY retry_at LIMIT %s
"""


@dataclass(slots=True)
class Quiet:
    """How the wait ended."""

    reached: bool = False
    took_s: float = 0.0
    replayed: int = 0
    left: tuple[Any, ...] = ()


def wait_for_quiet(world: World) -> Quiet:
    """Return once everything is at rest, or time is up; replay by the API what is planned far ahead."""
    quiet, began = Quiet(), now()
    moved_at = began
    client = Client(world.topology.api_url, api_key=world.topology.key.text)
    while now() - began < QUIET_WITHIN_S or (now() - moved_at < _STANDSTILL_S and now() - began < _PATIENCE_S):
        try:
            left = world.rows(_OPEN)[0]
            moved_at = moved_at if left == quiet.left else now()
            quiet.left = left
            if not any(quiet.left):
                quiet.reached = True
                break
            quiet.replayed += _replay(world, client)
        except psycopg.OperationalError:
            pass
        time.sleep(_LOOK_EVERY_S)
    quiet.took_s = round(now() - began, 1)
    world.note("quiet", reached=quiet.reached, took_s=quiet.took_s, replayed=quiet.replayed, left=quiet.left)
    return quiet


def _replay(world: World, client: Client) -> int:
    replayed = 0
    for (letter_id,) in world.rows(_FAR, _FAR_AHEAD_S, _REPLAYS_AT_A_TIME):
        answer = client.call("POST", f"/api/v1/dead-letters/{letter_id}/retry")
        replayed += answer is not None and answer[0] == 202
    return replayed
