"""What was promised so far, and whether it still holds: the invariants of docs/guarantees.md, exactly."""

from dataclasses import dataclass
from typing import Final

from shared.model import MOVES, Status
from shared.records import Record, decode_record
from tests.model.broker import Broker
from tests.model.consumer import TOPICS, PromiseBrokenError
from tests.model.database import Administrator, Snapshot

ENDED: Final = frozenset({"sent", "cancelled", "expired", "suppressed"})
AT_REST: Final = frozenset(
    {"permanent", "retries_used_up", "on_unknown_hold", "poison", "refused_by_kafka", "notification_moved_on"}
)


def _reachable() -> dict[str, frozenset[str]]:
    reach = {state.value: {next_.value for next_ in MOVES[state]} for state in Status}
    for _ in Status:
        for onward in reach.values():
            onward |= {far for near in list(onward) for far in reach[near]}
    return {state: frozenset(onward | {state}) for state, onward in reach.items()}


REACHABLE: Final = _reachable()


@dataclass(slots=True)
class Accepted:
    """A notification a producer was told of, or may have been."""

    id: str
    record: bytes
    ordering_key: str | None
    hold: bool
    in_line: bool  # accepted by a statement of its own: its place among its key is known
    replays: int = 0


def broken(what: str) -> PromiseBrokenError:
    """An invariant that does not hold."""
    return PromiseBrokenError(what)


class Promises:
    """The model's memory: what producers were told, what the receiver saw."""

    def __init__(self, administrator: Administrator, broker: Broker) -> None:
        self._db, self._broker = administrator, broker
        self.accepted: dict[str, Accepted] = {}
        self.order: dict[str, list[str]] = {}
        self.cancelled: set[str] = set()
        self.keys: dict[str, tuple[str, str, float]] = {}  # idempotency key → body, id, when
        self.seen: dict[str, list[tuple[int, str]]] = {}  # what the receiver got
        self.poison: set[bytes] = set()
        self.calls = 0
        self.gone = False  # a recipient may be suppressed
        self._status: dict[str, tuple[str, int]] = {}
        self._letters: dict[str, tuple[str, int]] = {}
        self._first_begun: set[str] = set()

    def accept(self, entry: Accepted) -> None:
        """Note what was accepted."""
        self.accepted[entry.id] = entry
        if entry.ordering_key and entry.in_line:
            self.order.setdefault(entry.ordering_key, []).append(entry.id)

    # The receiver

    def call_begins(self, owner: str, record: Record, attempt: int) -> None:
        """Judge a call before its first byte: I6, I7, I8, I13, I14."""
        self.calls += 1
        entry = self.accepted.get(record.id)
        if entry is None:
            raise broken(f"I6: {record.id} was never accepted")
        if decode_record(entry.record) != record:
            raise broken(f"I8: the content of {record.id} has changed")
        if record.id in self.cancelled:
            raise broken(f"I13: attempt {attempt} of {record.id} begins after its cancel was answered")
        rows = self._db.rows(
            """SELECT a.outcome, a.owner::text, n.scheduled_for > now(), a.began_at >= n.expires_at
                 FROM notifications n LEFT JOIN delivery_attempts a ON a.notification_id = n.id AND a.attempt = %s
                WHERE n.id = %s""",
            attempt,
            record.id,
        )
        outcome, its_owner, early, late = rows[0]
        if (outcome, its_owner) != ("begun", owner):
            raise broken(f"I6: attempt {attempt} of {record.id} is {outcome} of {its_owner}, called by {owner}")
        if early or late:
            raise broken(f"I14: attempt {attempt} of {record.id} begins {'early' if early else 'late'}")
        self._judge_repeat(record.id, attempt)

    def _judge_repeat(self, notification_id: str, attempt: int) -> None:
        if not (seen := self.seen.get(notification_id)):
            return
        outcomes = dict(
            self._db.rows("SELECT attempt, outcome FROM delivery_attempts WHERE notification_id = %s", notification_id)
        )
        for earlier, how in seen:
            if earlier == attempt or outcomes.get(earlier) != "unknown":
                raise broken(f"I7: {notification_id} was {how} at attempt {earlier}, and is called again at {attempt}")

    def delivered(self, notification_id: str, attempt: int, how: str) -> None:
        """The receiver has it."""
        self.seen.setdefault(notification_id, []).append((attempt, how))

    # The database

    def check(self, now: Snapshot) -> None:
        """Hold everything against one snapshot."""
        status = {row[0]: (row[1], row[2]) for row in now.notifications}
        self._check_conservation(status)
        self._check_causes(now, status)
        self._check_moves(now, status)
        self._check_attempts(now, status)
        self._check_dead_letters(now)
        self._check_order(now, status)
        self._status = status

    def _check_conservation(self, status: dict[str, tuple[str, int]]) -> None:
        if status.keys() != self.accepted.keys():
            gone, more = self.accepted.keys() - status.keys(), status.keys() - self.accepted.keys()
            raise broken(f"I3: accepted and not there: {gone}; there and not accepted: {more}")

    def _check_causes(self, now: Snapshot, status: dict[str, tuple[str, int]]) -> None:
        """I3, and with it I9, I10, I11: whoever has not ended has somebody who will go on with it."""
        broker = self._broker
        records = broker.unread(lambda topic: topic != TOPICS.dlq) | {
            ticket for topic, ticket in broker.lost if topic != TOPICS.dlq
        }
        letters = broker.unread(lambda topic: topic == TOPICS.dlq) | {
            ticket for topic, ticket in broker.lost if topic == TOPICS.dlq
        }
        for id_, _topic, attempt, dead in now.outbox:
            (letters if dead else records).add((id_, attempt))
        begun = {(row[0], row[1]) for row in now.attempts if row[2] == "begun"}
        tracked = {row[0]: row[1] for row in now.dead_letters if row[0]}
        due, passed, held = set(now.due), set(now.passed), set(now.held)
        for id_, (state, attempt) in status.items():
            caused = (
                (id_, attempt) in records or id_ in passed
                if state == "pending"
                else id_ in due
                if state == "scheduled"
                else (id_, attempt) in begun
                if state == "processing"
                else tracked.get(id_, 0) >= attempt or (id_, attempt) in letters
                if state == "failed"
                else id_ in held
                if state == "suppressed"
                else True
            )
            if not caused:
                raise broken(f"I3: nothing will go on with {id_}, {state} at attempt {attempt}")

    def _check_moves(self, now: Snapshot, status: dict[str, tuple[str, int]]) -> None:
        """I4, I13: only along the table of moves, the attempt never falls, a cancel that was answered stays."""
        accepted = {row[0] for row in now.attempts if row[2] == "accepted" and row[3]}
        for id_, (state, attempt) in status.items():
            before, earlier = self._status.get(id_, (state, attempt))
            if state not in REACHABLE[before] or attempt < earlier:
                raise broken(f"I4: {id_} went from {before} ({earlier}) to {state} ({attempt})")
            if (state == "sent") is not (id_ in accepted):
                raise broken(f"I4: {id_} is {state}, and {'has' if id_ in accepted else 'has no'} receipt")
            if state == "sent" and not self.seen.get(id_):
                raise broken(f"I5: {id_} is sent, and nobody has seen it")
            if id_ in self.cancelled and state != "cancelled":
                raise broken(f"I13: the cancel of {id_} was answered, and it is {state}")

    def _check_attempts(self, now: Snapshot, status: dict[str, tuple[str, int]]) -> None:
        for id_, attempt, outcome, *_ in now.attempts:
            state, at = status[id_]
            if attempt > at or (outcome == "begun" and (state, at) != ("processing", attempt)):
                raise broken(f"I4: attempt {attempt} of {id_} is {outcome}, the notification {state} at {at}")

    def _check_dead_letters(self, now: Snapshot) -> None:
        """I15, I16: bytes unchanged, places true, no count falls, what is resolved stays so."""
        for row in now.dead_letters:
            id_, _attempt, state, retries, _due, resolution, key, topic, partition, offset, payload, _key, *_ = row
            value = None if payload is None else bytes.fromhex(payload)
            if id_ is not None:
                if value != self.accepted[id_].record:
                    raise broken(f"I15: the bytes of {id_} have changed")
                if retries > len(_LADDER) + self.accepted[id_].replays:
                    raise broken(f"I16: {id_} was retried {retries} times")
            elif value not in self.poison:
                raise broken("I15: undecodable bytes that nobody wrote")
            if offset is not None and value not in self._broker.ever.get((topic, partition, offset), []):
                raise broken(f"I15: {topic}/{partition}/{offset} never held the bytes it is said to have held")
            before, fewer = self._letters.get(key, (state, retries))
            if retries < fewer or (before == "resolved" and state != "resolved"):
                raise broken(f"I16: a dead letter went from {before} ({fewer}) to {state} ({retries})")
            # What was held for a suppression goes on where it was when that is lifted.
            self._letters[key] = ("held" if resolution == "suppressed" else state, retries)

    def _check_order(self, now: Snapshot, status: dict[str, tuple[str, int]]) -> None:
        """I12: first attempts of a key begin in the order accepted, one at a time, whatever happens."""
        begun = {row[0] for row in now.attempts if row[1] == 1}
        for line in self.order.values():
            for place, id_ in enumerate(line):
                if id_ not in begun or id_ in self._first_begun:
                    continue
                self._first_begun.add(id_)
                for earlier in line[:place]:
                    if status[earlier] in (("pending", 1), ("processing", 1)):
                        raise broken(f"I12: {id_} begins before {earlier} has ended, which is {status[earlier]}")
        self._first_begun &= begun  # an attempt that was given back never was

    def check_rest(self, now: Snapshot) -> None:
        """I4, I5, I10 at rest: everything has ended, in one way."""
        letters = {row[0]: row for row in now.dead_letters if row[0]}
        for id_, state, attempt, _key in now.notifications:
            if state in ENDED:
                if id_ in letters and letters[id_][2] != "resolved":
                    raise broken(f"I4: {id_} is {state}, its dead letter {letters[id_][2]}")
                continue
            if state != "failed" or id_ not in letters:
                raise broken(f"I5: {id_} never ends: {state} at attempt {attempt}")
            letter = letters[id_]
            if letter[2] == "failed" and letter[12] not in AT_REST:
                raise broken(f"I16: the dead letter of {id_} rests for {letter[12]}")
            if letter[2] == "retrying":
                raise broken(f"I16: the dead letter of {id_} is being retried for ever")
        kept = {bytes.fromhex(row[10] or "") for row in now.dead_letters if row[0] is None}
        if gone := self.poison - kept - self._broker.lost_bytes:
            raise broken(f"I15: undecodable bytes were not kept: {gone}")


_LADDER: Final = (1, 2)  # as many rungs as tests.model.services.LADDER_S
