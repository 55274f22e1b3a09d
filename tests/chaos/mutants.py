"""Deliberate bugs, one at a time: each takes away what a promise rests on, and the checker must notice.

A mutant is a change of texts at import. `scenarios` names what can show it (see scenarios.py), `caught_by` the
violations of which at least one has to be reported: a mutant that is caught for another reason was not understood.
"""

from dataclasses import dataclass

from tests.chaos.rewriting import Edit


@dataclass(frozen=True, slots=True)
class Mutant:
    """A bug in words, the scenarios that can show it, the promises it breaks and how the checker says so."""

    name: str
    says: str
    edits: tuple[Edit, ...]
    scenarios: tuple[str, ...]
    invariants: str
    caught_by: frozenset[str]


def _mutant(
    name: str, says: str, scenarios: str, invariants: str, caught_by: str, *edits: tuple[str, str, str]
) -> Mutant:
    made = tuple(Edit(*edit) for edit in edits)
    return Mutant(name, says, made, tuple(scenarios.split()), invariants, frozenset(caught_by.split()))


_CLAIM = "shared.db.notifications"

MUTANTS: tuple[Mutant, ...] = (
    # Relaying
    _mutant(
        "delete_before_ack",
        "the relay deletes outbox rows when it produces them, not when Kafka has acknowledged them",
        "broker_frozen", "I9", "outbox_row_gone_before_the_ack not_ended",
        (
            "outbox_relay.relay",
            "            self._flight.produce(rows)\n",
            "            outbox.delete(self._connection(), [row.seq for row in rows])\n"
            "            self._flight.produce(rows)\n",
        ),
    ),
    _mutant(
        "no_gap_set",
        "the relay's cursor passes numbers whose transactions have not committed, and never looks back",
        "late_commits", "I5, I9", "not_ended",
        (
            "outbox_relay.reader",
            "    def _open_gaps(self, page: Page) -> None:\n",
            "    def _open_gaps(self, page: Page) -> None:\n        return\n",
        ),
    ),
    _mutant(
        "range_delete",
        "acknowledged outbox rows are deleted by range",
        "late_commits", "I5, I9", "not_ended",
        (
            "shared.db.outbox",
            "DELETE FROM outbox WHERE seq = ANY(%s::bigint[])",
            "DELETE FROM outbox WHERE seq <= (SELECT max(s) FROM unnest(%s::bigint[]) AS s)",
        ),
    ),
    _mutant(
        "no_sweeper",
        "nobody publishes again what Kafka has lost",
        "records_lost", "I10", "not_ended",
        ("outbox_relay.upkeep", "        return self._sweeper.run_once(conn)\n", "        return 0\n"),
    ),
    _mutant(
        "no_rescue",
        "leases of dead consumers are never ended",
        "killed_after_yes", "I4", "not_ended attempt_never_ended",
        (
            "outbox_relay.upkeep",
            "        if time.monotonic() < self._rescue_from:\n",
            "        if time.monotonic() < self._rescue_from + 1e9:\n",
        ),
    ),
    _mutant(
        "rescue_as_transient",
        "an attempt whose consumer died ends as if the receiver had refused it",
        "killed_after_yes", "I7", "unexplained_duplicate taken_but_recorded_otherwise",
        (
            _CLAIM,
            "SET outcome = 'unknown', reason = 'lease_over'",
            "SET outcome = 'transient', reason = 'lease_over'",
        ),
    ),
    _mutant(
        "promote_early",
        "scheduled notifications go out an hour before they are due",
        "scheduled", "I14", "early",
        ("shared.db.outbox", "WHERE due_at <= now()", "WHERE due_at <= now() + interval '1 hour'"),
    ),
    # Several relays
    _mutant(
        "no_look_back",
        "a relay that takes buckets over goes on from where it is, past what their last owner left",
        "relay_gone", "I5, I12", "left_by_a_dead_relay",
        (
            "outbox_relay.relay",
            "            self._rewind = True  # rows of these buckets were passed over until now\n",
            "",
        ),
    ),
    _mutant(
        "given_up_in_flight",
        "a relay gives buckets up while rows of theirs are on their way to Kafka",
        "relays_hand_over", "I12", "published_twice published_out_of_order",
        (
            "outbox_relay.relay",
            "            if self._flight or self._page or landed:\n                return False\n",
            "",
        ),
    ),
    _mutant(
        "taken_without_lock",
        "a relay takes buckets that are still another's",
        "relays_hand_over", "I12", "published_twice published_out_of_order",
        ("outbox_relay.buckets", "WHERE pg_try_advisory_lock(%s, b)", "WHERE %s > b"),
    ),
    # Claiming and sending
    _mutant(
        "claim_without_status",
        "a claim takes whatever its attempt number fits, cancelled, under way or sent",
        "offsets_lost", "I7, I13", "begun_after_cancel cancelled_but_ended_otherwise unexplained_duplicate",
        (
            _CLAIM,
            "AND n.attempt = t.attempt AND n.status = 'pending'\n              LEFT JOIN",
            "AND n.attempt = t.attempt AND n.status <> 'scheduled'\n              LEFT JOIN",
        ),
        (
            _CLAIM,
            "              FROM free WHERE n.id = free.id AND n.status = 'pending'\n",
            "              FROM free WHERE n.id = free.id\n",
        ),
        (
            _CLAIM,
            "              FROM moved WHERE status = 'processing'\n        ), held AS (",
            "              FROM moved WHERE status = 'processing'\n"
            "            ON CONFLICT (notification_id, attempt) DO UPDATE\n"
            "               SET owner = EXCLUDED.owner, lease_until = EXCLUDED.lease_until, outcome = 'begun',\n"
            "                   ended_at = NULL\n        ), held AS (",
        ),
    ),
    _mutant(
        "claim_without_attempt",
        "a record of an earlier attempt claims the present one, and sends under its own number",
        "offsets_lost", "I6, I7", "seen_after_its_attempt taken_but_recorded_otherwise unexplained_duplicate",
        (
            _CLAIM,
            "JOIN notifications n ON n.id = t.id AND n.attempt = t.attempt AND n.status = 'pending'\n"
            "              LEFT JOIN",
            "JOIN notifications n ON n.id = t.id AND n.status = 'pending'\n              LEFT JOIN",
        ),
        (
            _CLAIM,
            "        SELECT id, attempt, CASE status WHEN 'processing' THEN 'claimed' ELSE status END,\n",
            "        SELECT id, (SELECT min(t.attempt) FROM unnest(%(ids)s::uuid[], %(attempts)s::smallint[])\n"
            "                    AS t(id, attempt) WHERE t.id = moved.id),\n"
            "               CASE status WHEN 'processing' THEN 'claimed' ELSE status END,\n",
        ),
    ),
    _mutant(
        "sent_before_send",
        "an attempt is written back as accepted before its receiver was asked",
        "refusing_receiver killed_before_send", "I5", "sent_but_never_seen",
        (
            "delivery_consumer.engine",
            "            self._outcomes.append((job, await self._attempt(job)))\n            self._to_write.set()\n",
            "            ended = self._deliverer.cut_off(job)\n"
            "            self._outcomes.append((job, __import__('dataclasses').replace(\n"
            "                ended, outcome='accepted', reason='accepted', receipt='early')))\n"
            "            self._to_write.set()\n"
            "            await self._attempt(job)\n",
        ),
    ),
    _mutant(
        "commit_before_outcome",
        "offsets are committed as soon as records are read",
        "killed_with_backlog", "I5, I11", "not_ended",
        (
            "delivery_consumer.offsets",
            "        return self._open[0] if self._open else self._next\n",
            "        return self._next\n",
        ),
    ),
    _mutant(
        "latest",
        "a consumer whose offsets are lost begins at the end of the topic",
        "offsets_lost", "I10, I11", "not_ended",
        ("shared.kafka", '"auto.offset.reset": "earliest"', '"auto.offset.reset": "latest"'),
    ),
    _mutant(
        "write_back_without_owner",
        "whoever comes last decides how an attempt ended",
        "zombie", "I4, I7", "attempt_ended_twice unexplained_duplicate sent_without_its_accepted_attempt",
        (
            _CLAIM,
            "              FROM o WHERE a.notification_id = o.id AND a.attempt = o.attempt\n"
            "                       AND a.owner = %(owner)s AND a.outcome = 'begun'\n",
            "              FROM o WHERE a.notification_id = o.id AND a.attempt = o.attempt AND %(owner)s IS NOT NULL\n",
        ),
    ),
    _mutant(
        "unknown_as_accepted",
        "silence after the last byte counts as a yes",
        "silent_receiver", "I5", "sent_but_never_seen",
        (
            "delivery_consumer.delivery",
            "    UnknownOutcomeError: Outcome.UNKNOWN,\n",
            "    UnknownOutcomeError: Outcome.ACCEPTED,\n",
        ),
    ),
    _mutant(
        "unknown_as_transient",
        "silence after the last byte counts as a no, whatever on_unknown asks for",
        "silent_receiver", "I7", "silence_taken_for_an_answer",
        (
            "delivery_consumer.delivery",
            "    UnknownOutcomeError: Outcome.UNKNOWN,\n",
            "    UnknownOutcomeError: Outcome.TRANSIENT,\n",
        ),
    ),
    _mutant(
        "expiry_ignored",
        "what has expired is sent all the same",
        "expired", "I14", "begun_after_expiry",
        (
            _CLAIM,
            "CASE WHEN n.expires_at <= now() THEN 'expired'\n                                 WHEN free.s",
            "CASE WHEN free.s",
        ),
        ("delivery_consumer.delivery", "        if job.expires_at is not None and now >= job.expires_at:\n",
         "        if job.expires_at is not None and now >= job.expires_at + 3600:\n"),
    ),
    # Dead letters
    _mutant(
        "dlq_commit_before_track",
        "a dead letter's offset is committed before it is recorded",
        "killed_before_track", "I15", "not_ended",
        (
            "dlq_consumer.consumer",
            "        pruned = set(dlq_messages.track(conn, rows))\n        self._commit(messages)\n",
            "        self._commit(messages)\n        pruned = set(dlq_messages.track(conn, rows))\n",
        ),
    ),
    _mutant(
        "retry_not_published",
        "a due retry moves the status and appends no outbox row",
        "refusing_receiver", "I3, I5", "not_ended",
        (
            _CLAIM,
            "              FROM due LEFT JOIN moved ON moved.id = due.notification_id WHERE d.id = due.id\n"
            "        ), published AS ({APPEND_PENDING})\n",
            "              FROM due LEFT JOIN moved ON moved.id = due.notification_id WHERE d.id = due.id\n        )\n",
        ),
    ),
    _mutant(
        "retry_without_limit",
        "the last rung of the ladder is repeated for ever",
        "refusing_receiver", "I16", "retried_without_end",
        (
            "dlq_consumer.backoff",
            "    if retry_count >= len(ladder_s):\n        return None\n    rung_s = ladder_s[retry_count]\n",
            "    rung_s = ladder_s[min(retry_count, len(ladder_s) - 1)]\n",
        ),
    ),
    _mutant(
        "retry_without_jitter",
        "what failed in one second comes back in one second",
        "refusing_receiver", "I17", "retries_without_jitter",
        (
            "dlq_consumer.backoff",
            "    return max(rung_s / 2, asked_s) + rung_s * rng.random()\n",
            "    return max(rung_s, asked_s)\n",
        ),
    ),
    # The API
    _mutant(
        "outbox_after_commit",
        "the outbox rows of a batch are written by a second statement, once the first has been committed",
        "answers_lost", "I1, I5", "not_ended",
        ("shared.db.accepting", "               AND pg_current_xact_id() IS NOT NULL\n", "               AND false\n"),
        (
            "shared.db.accepting",
            "    return prepared.execute(conn, query, _columns(news) | _kept(answer)) > 0\n",
            "    written = prepared.execute(conn, query, _columns(news) | _kept(answer)) > 0\n"
            "    if written:\n"
            "        outbox = query.partition('o AS (')[2].partition('AND (')[0]\n"
            "        prepared.execute(conn, outbox, _columns(news))\n"
            "    return written\n",
        ),
    ),
    _mutant(
        "written_again_as_others",
        "what was committed and not heard of is written again, under new ids",
        "answers_lost", "I2", "accepted_twice",
        (
            "api_service.accept",
            "    with contextlib.suppress(errors.UniqueViolation):\n"
            "        # Only these very ids can be in the way: the connection broke after a first attempt had been"
            " committed.\n"
            "        write(conn, news)\n",
            "    try:\n"
            "        write(conn, news)\n"
            "    except errors.UniqueViolation:\n"
            "        write(conn, [new._replace(id=uuid7()) for new in news])\n",
        ),
    ),
    _mutant(
        "cancel_without_guard",
        "a cancel is granted in any state",
        "cancels", "I13", "cancelled_but_ended_otherwise accepted_but_not_sent begun_after_cancel",
        (
            _CLAIM,
            "tenant_id = %(tenant_id)s AND status IN ('pending', 'scheduled', 'suppressed')\n"
            "            RETURNING id, attempt\n",
            "tenant_id = %(tenant_id)s\n            RETURNING id, attempt\n",
        ),
    ),
    _mutant(
        "key_not_stored",
        "a repeat under an idempotency key is accepted again",
        "repeated_keys", "I2", "accepted_twice repeat_answered_otherwise",
        (
            "api_service.idempotency",
            "        kept = accept.write_keyed(conn, news, stored)\n",
            "        accept.write(conn, news)\n        kept = stored\n",
        ),
    ),
    # Order
    _mutant(
        "no_order",
        "notifications of one ordering key are sent side by side",
        "ordered", "I12", "order_inverted two_of_a_key_at_once",
        (
            "delivery_consumer.lanes",
            "        if (key := job.key) is not None:\n            if (queue",
            "        if (key := None) is not None:\n            if (queue",
        ),
        (_CLAIM, "n.ordering_key IS NOT NULL AND n.attempt = 1 AS ordered", "false AS ordered"),
    ),
)  # fmt: skip
BY_NAME = {mutant.name: mutant for mutant in MUTANTS}
