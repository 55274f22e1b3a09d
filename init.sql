-- The schema of the notification pipeline. PostgreSQL 15 to 18, no extension; running it twice changes nothing.
--
-- Two rules shape every table:
--   * No index on notifications names or filters on status: a column in an index, or in its WHERE clause, rules out
--     heap-only updates, and status changes at least twice per notification.
--   * outbox is a narrow first-in-first-out table with one index. What is not due yet waits in outbox_due, what Kafka
--     refuses rests in outbox_dead, so that the relay never steps over rows it may not send.
-- Instants are timestamptz; now() of this server is the one clock for everything that comes due.

BEGIN;
SET LOCAL client_min_messages = warning;
SELECT pg_advisory_xact_lock(7246190);  -- two installers at once take turns

CREATE TABLE IF NOT EXISTS tenants (
  id         text PRIMARY KEY CHECK (id ~ '^[a-z0-9][a-z0-9_-]{0,62}$'),
  name       text NOT NULL,
  created_at timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE tenants IS 'Whose notification it is. Tables name the tenant without a foreign key: the reference would lock one shared row per accepted notification.';
INSERT INTO tenants (id, name) VALUES ('default', 'Default tenant') ON CONFLICT (id) DO NOTHING;

CREATE TABLE IF NOT EXISTS api_keys (
  id            text PRIMARY KEY,
  tenant_id     text NOT NULL REFERENCES tenants (id),
  secret_sha256 bytea NOT NULL CHECK (octet_length(secret_sha256) = 32),
  scopes        text[] NOT NULL CHECK (scopes <@ ARRAY['send', 'read', 'admin']),
  created_at    timestamptz NOT NULL DEFAULT now(),
  expires_at    timestamptz,
  revoked_at    timestamptz,
  last_used_at  timestamptz
);
COMMENT ON TABLE api_keys IS 'Who may call the API for a tenant. Only the SHA-256 of a key''s 256-bit secret is kept, so a dump of this table opens nothing.';

CREATE TABLE IF NOT EXISTS notifications (
  id             uuid PRIMARY KEY,
  tenant_id      text NOT NULL,
  channel        text NOT NULL CHECK (channel IN ('email', 'webhook')),
  recipient      text NOT NULL,
  priority       text NOT NULL CHECK (priority IN ('low', 'normal', 'high', 'urgent')),
  ordering_key   text,
  on_unknown     text NOT NULL CHECK (on_unknown IN ('retry', 'hold')),
  status         text NOT NULL CHECK (status IN ('pending', 'scheduled', 'processing', 'sent', 'failed',
                                                 'cancelled', 'expired', 'suppressed')),
  attempt        smallint NOT NULL DEFAULT 1 CHECK (attempt >= 1),
  scheduled_for  timestamptz,
  expires_at     timestamptz,
  created_at     timestamptz NOT NULL,
  updated_at     timestamptz NOT NULL DEFAULT now(),
  bucket         smallint NOT NULL CHECK (bucket BETWEEN 0 AND 63),
  topic          text NOT NULL,
  traceparent    text,
  correlation_id text,
  record         bytea NOT NULL,
  CHECK (expires_at > scheduled_for),
  CHECK (status <> 'scheduled' OR scheduled_for IS NOT NULL)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE notifications IS 'What a client asked for, and how far it has come. Conservation: accepted = the sum over all statuses, at any instant.';
COMMENT ON COLUMN notifications.id IS 'UUIDv7 made by the API before the INSERT, so the Kafka value is built once.';
COMMENT ON COLUMN notifications.attempt IS 'The attempt that is waiting, running, or was the last one; it guards every move, so a record of an older attempt moves nothing.';
COMMENT ON COLUMN notifications.created_at IS 'The accepting process'' clock, the same instant that is inside id. Nothing comes due by it.';
COMMENT ON COLUMN notifications.updated_at IS 'When status last changed, by this server''s clock: what the sweeper measures age by.';
COMMENT ON COLUMN notifications.bucket IS 'crc32(Kafka key) mod 64: which relay may publish it, so that one key is published by one relay at a time.';
COMMENT ON COLUMN notifications.record IS 'The finished Kafka value (JSON, UTF-8; shared/records.py): each publication of this notification carries these bytes.';

CREATE INDEX IF NOT EXISTS notifications_tenant_recipient ON notifications (tenant_id, recipient, id);
COMMENT ON INDEX notifications_tenant_recipient IS 'Listing by recipient, newest first.';

CREATE TABLE IF NOT EXISTS outbox (
  seq             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  notification_id uuid NOT NULL,
  bucket          smallint NOT NULL,
  topic           text NOT NULL,
  key             bytea NOT NULL,
  value           bytea NOT NULL,
  headers         jsonb NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT now()
) WITH (
  autovacuum_vacuum_scale_factor = 0, autovacuum_vacuum_threshold = 20000, autovacuum_vacuum_cost_delay = 0,
  autovacuum_vacuum_insert_scale_factor = 0, autovacuum_vacuum_insert_threshold = 1000000,
  autovacuum_analyze_scale_factor = 0, autovacuum_analyze_threshold = 2000000000
);
COMMENT ON TABLE outbox IS 'The one way into Kafka: a row here is written in the transaction that changes the status, and deleted after Kafka''s delivery report.';
COMMENT ON COLUMN outbox.seq IS 'The order of publication within a bucket. Its sequence must keep CACHE 1: cached numbers would look like open transactions to the relay.';
COMMENT ON COLUMN outbox.headers IS 'Kafka headers, an object of strings: attempt, content-type, schema-version, traceparent, correlation-id; dead letters add their error.';

CREATE TABLE IF NOT EXISTS outbox_due (
  notification_id uuid PRIMARY KEY,
  tenant_id       text NOT NULL,
  due_at          timestamptz NOT NULL
);
CREATE INDEX IF NOT EXISTS outbox_due_in_order ON outbox_due (due_at, notification_id);
DROP INDEX IF EXISTS outbox_due_due_at;  -- what it was before
COMMENT ON TABLE outbox_due IS 'Scheduled notifications until they are due, and pending ones that were put off: their tenant''s share, or their endpoint''s rate, was used up. A row whose notification was cancelled is dropped when it comes due.';
COMMENT ON INDEX outbox_due_in_order IS 'The relay''s question every 100 ms: what has come due? What is due at one instant goes in the order accepted, chunk after chunk.';

CREATE TABLE IF NOT EXISTS outbox_dead (
  seq             bigint PRIMARY KEY,
  notification_id uuid NOT NULL,
  bucket          smallint NOT NULL,
  topic           text NOT NULL,
  key             bytea NOT NULL,
  value           bytea NOT NULL,
  headers         jsonb NOT NULL,
  created_at      timestamptz NOT NULL,
  error           text NOT NULL,
  refused_at      timestamptz NOT NULL DEFAULT now()
);
COMMENT ON TABLE outbox_dead IS 'Rows Kafka refuses for good (too large, invalid). Their notification is failed in the same transaction.';

CREATE TABLE IF NOT EXISTS delivery_attempts (
  notification_id uuid NOT NULL,
  attempt         smallint NOT NULL CHECK (attempt >= 1),
  tenant_id       text NOT NULL,
  owner           uuid NOT NULL,
  lease_until     timestamptz NOT NULL,
  began_at        timestamptz NOT NULL DEFAULT now(),
  ended_at        timestamptz,
  outcome         text NOT NULL DEFAULT 'begun'
                  CHECK (outcome IN ('begun', 'accepted', 'transient', 'permanent', 'unknown')),
  provider        text,
  destination     text,
  reason          text,
  detail          text,
  receipt         text,
  tries           smallint,
  PRIMARY KEY (notification_id, attempt),
  CHECK ((outcome = 'begun') = (ended_at IS NULL))
);
CREATE INDEX IF NOT EXISTS delivery_attempts_open ON delivery_attempts (lease_until) WHERE outcome = 'begun';
COMMENT ON TABLE delivery_attempts IS 'One try at a provider each. A row is begun by the claim, before the first byte is sent, so no delivery is without one.';
COMMENT ON COLUMN delivery_attempts.reason IS 'A constant such as http_503; never user data.';
COMMENT ON COLUMN delivery_attempts.detail IS 'One line for a person, without addresses or bodies.';
COMMENT ON COLUMN delivery_attempts.tries IS 'Calls made within this attempt: quick repeats after a transient refusal count here.';
COMMENT ON INDEX delivery_attempts_open IS 'The rescuer''s question: whose lease is over?';

CREATE TABLE IF NOT EXISTS dlq_messages (
  id               uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id        text NOT NULL,
  notification_id  uuid UNIQUE,
  channel          text,
  attempt          smallint NOT NULL DEFAULT 0,
  message_key      bytea,
  original_payload bytea,
  headers          jsonb NOT NULL DEFAULT '{}',
  topic            text,
  partition        integer,
  "offset"         bigint,
  failure_class    text NOT NULL CHECK (failure_class IN ('transient', 'permanent', 'unknown', 'poison')),
  reason           text NOT NULL,
  destination      text,
  fingerprint      text NOT NULL,
  first_error      text NOT NULL,
  error_message    text NOT NULL,
  retry_count      smallint NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
  status           text NOT NULL DEFAULT 'failed' CHECK (status IN ('failed', 'retrying', 'resolved')),
  retry_at         timestamptz,
  rest_reason      text,
  first_failed_at  timestamptz NOT NULL DEFAULT now(),
  last_failed_at   timestamptz NOT NULL DEFAULT now(),
  resolved_at      timestamptz,
  resolution       text CHECK (resolution IN ('sent', 'discarded', 'expired', 'cancelled', 'suppressed')),
  resolved_by      text,
  resolution_note  text,
  CHECK ((status = 'resolved') = (resolved_at IS NOT NULL)),
  CHECK ((status = 'resolved') = (resolution IS NOT NULL)),
  CHECK (retry_at IS NULL OR status = 'failed')
);
CREATE UNIQUE INDEX IF NOT EXISTS dlq_messages_source ON dlq_messages
  (topic, partition, "offset", coalesce(md5(original_payload), '')) WHERE notification_id IS NULL;
CREATE INDEX IF NOT EXISTS dlq_messages_due ON dlq_messages (retry_at) WHERE status = 'failed' AND retry_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS dlq_messages_listed ON dlq_messages (tenant_id, first_failed_at, id);
COMMENT ON TABLE dlq_messages IS 'Dead letters, one per notification: what failed, why, and when it is tried again. retry_at NULL on a failed row: at rest, waits for a person.';
COMMENT ON COLUMN dlq_messages.original_payload IS 'The bytes of the record as Kafka carried them, unchanged, whether or not they can be decoded. Its key, headers, topic, partition and offset are those of the first failure, too.';
COMMENT ON COLUMN dlq_messages.failure_class IS 'transient, permanent, unknown: the receiver''s side. poison: ours. Alerts tell a dead customer URL from a broken pipeline by this.';
COMMENT ON COLUMN dlq_messages.fingerprint IS 'failure_class|destination|reason, bounded, as it is in an index: dead letters with one cause share it.';
COMMENT ON COLUMN dlq_messages.rest_reason IS 'Why no retry is planned: permanent, retries_used_up, on_unknown_hold, poison, refused_by_kafka.';
COMMENT ON INDEX dlq_messages_source IS 'Undecodable bytes are known by where they stood, so that reading them twice tracks them once; by their digest too, since a topic made anew begins at offset 0 again.';
COMMENT ON INDEX dlq_messages_due IS 'The scheduler''s question: which retries have come due?';
COMMENT ON INDEX dlq_messages_listed IS 'Listing a tenant''s dead letters, newest first.';

ALTER TABLE dlq_messages ADD COLUMN IF NOT EXISTS retry_id uuid;
DO $$ BEGIN
  -- A table made before there were suppressions allows no such end.
  IF NOT EXISTS (SELECT FROM pg_constraint WHERE conname = 'dlq_messages_resolution_check'
                    AND conrelid = 'dlq_messages'::regclass AND pg_get_constraintdef(oid) LIKE '%suppressed%') THEN
    ALTER TABLE dlq_messages DROP CONSTRAINT IF EXISTS dlq_messages_resolution_check,
      ADD CONSTRAINT dlq_messages_resolution_check
          CHECK (resolution IN ('sent', 'discarded', 'expired', 'cancelled', 'suppressed'));
  END IF;
END $$;
CREATE INDEX IF NOT EXISTS dlq_messages_by_cause ON dlq_messages (tenant_id, fingerprint, last_failed_at, id)
  INCLUDE (status, failure_class, channel, retry_at, first_failed_at) WHERE status <> 'resolved';
CREATE INDEX IF NOT EXISTS dlq_messages_failed ON dlq_messages (tenant_id, last_failed_at, id) WHERE status = 'failed';
COMMENT ON COLUMN dlq_messages.retry_id IS 'The bulk retry that took it last, a row of dlq_retries.';
COMMENT ON INDEX dlq_messages_by_cause IS 'What has failed, by cause: groups are counted from this index alone, and those resolved, which are most, are not in it.';
COMMENT ON INDEX dlq_messages_failed IS 'A bulk retry''s walk over what has failed, longest ago first.';

CREATE TABLE IF NOT EXISTS dlq_retries (
  id              uuid PRIMARY KEY,
  tenant_id       text NOT NULL,
  status          text NOT NULL CHECK (status IN ('canary', 'waiting', 'running', 'done', 'stopped', 'cancelled')),
  failure_class   text,
  channel         text,
  fingerprint     text,
  reason          text,
  destination     text,
  failed_from     timestamptz,
  failed_to       timestamptz,
  rate_per_s      float8 NOT NULL CHECK (rate_per_s BETWEEN 0.1 AND 1000),
  canary          integer NOT NULL CHECK (canary BETWEEN 0 AND 100),
  by              text NOT NULL CHECK (length(by) BETWEEN 1 AND 100),
  note            text,
  matched         integer NOT NULL,
  retried         integer NOT NULL DEFAULT 0,
  sent            integer NOT NULL DEFAULT 0,
  failed          integer NOT NULL DEFAULT 0,
  ended_otherwise integer NOT NULL DEFAULT 0,
  stop_reason     text,
  created_at      timestamptz NOT NULL DEFAULT now(),
  finished_at     timestamptz,
  ended_by        text,
  ended_note      text,
  next_at         timestamptz NOT NULL DEFAULT now(),
  after_at        timestamptz NOT NULL DEFAULT '-infinity',
  after_id        uuid NOT NULL DEFAULT '00000000-0000-0000-0000-000000000000',
  exhausted       boolean NOT NULL DEFAULT false,
  CONSTRAINT dlq_retries_filter_check
       CHECK (num_nonnulls(failure_class, channel, fingerprint, reason, destination, failed_from, failed_to) > 0),
  CONSTRAINT dlq_retries_counts_check CHECK (sent + failed + ended_otherwise <= retried),
  CONSTRAINT dlq_retries_finished_check
       CHECK ((status IN ('done', 'stopped', 'cancelled')) = (finished_at IS NOT NULL)),
  CONSTRAINT dlq_retries_stopped_check CHECK ((status = 'stopped') = (stop_reason IS NOT NULL))
);
CREATE INDEX IF NOT EXISTS dlq_retries_open ON dlq_retries (created_at)
  WHERE finished_at IS NULL OR sent + failed + ended_otherwise < retried;
CREATE INDEX IF NOT EXISTS dlq_retries_listed ON dlq_retries (tenant_id, id);
COMMENT ON TABLE dlq_retries IS 'Retries of many dead letters by a filter: what a person asked for, and how far it has come. All its state is here, so that any dlq_consumer can go on with it.';
COMMENT ON COLUMN dlq_retries.status IS 'canary: the first letters go out; waiting: for how they end; running: the others follow; stopped: a canary failed.';
COMMENT ON COLUMN dlq_retries.ended_otherwise IS 'Neither sent nor failed: cancelled, expired or suppressed on the way.';
COMMENT ON COLUMN dlq_retries.next_at IS 'When the next letter may go out, by this server''s clock: the rate is kept by it.';
COMMENT ON COLUMN dlq_retries.after_at IS 'With after_id how far the walk over dlq_messages_failed has come.';
COMMENT ON COLUMN dlq_retries.exhausted IS 'Nothing is left to send; it is done once all that was sent has ended.';
COMMENT ON INDEX dlq_retries_open IS 'The executor''s question: which of them have something left to do or to count?';
COMMENT ON INDEX dlq_retries_listed IS 'Listing a tenant''s bulk retries, newest first.';

CREATE TABLE IF NOT EXISTS dlq_actions (
  id             bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
  dead_letter_id uuid NOT NULL,
  at             timestamptz NOT NULL DEFAULT now(),
  action         text NOT NULL CHECK (action IN ('retried', 'discarded', 'retried_by_filter')),
  by             text NOT NULL CHECK (length(by) BETWEEN 1 AND 100),
  note           text,
  retry_id       uuid,
  attempt        smallint,
  outcome        text CHECK (outcome IN ('sent', 'failed', 'cancelled', 'expired', 'suppressed')),
  CONSTRAINT dlq_actions_retry_check CHECK ((action = 'retried_by_filter') = (retry_id IS NOT NULL)),
  CONSTRAINT dlq_actions_attempt_check CHECK ((action = 'discarded') = (attempt IS NULL))
);
CREATE INDEX IF NOT EXISTS dlq_actions_dead_letter ON dlq_actions (dead_letter_id, id);
CREATE INDEX IF NOT EXISTS dlq_actions_retry ON dlq_actions (retry_id, outcome) WHERE retry_id IS NOT NULL;
COMMENT ON TABLE dlq_actions IS 'What persons did about dead letters, written in the transaction that did it.';
COMMENT ON COLUMN dlq_actions.attempt IS 'The attempt that a retry began.';
COMMENT ON COLUMN dlq_actions.outcome IS 'How that attempt ended, noted for bulk retries; NULL: not yet.';
COMMENT ON INDEX dlq_actions_dead_letter IS 'The history of a dead letter.';
COMMENT ON INDEX dlq_actions_retry IS 'What a bulk retry still waits for, and what of it failed.';

CREATE TABLE IF NOT EXISTS suppressions (
  id              uuid PRIMARY KEY DEFAULT gen_random_uuid(),
  tenant_id       text NOT NULL,
  channel         text NOT NULL CHECK (channel IN ('email', 'webhook')),
  recipient       text NOT NULL,
  reason          text NOT NULL CHECK (reason IN ('gone', 'address_refused', 'manual')),
  detail          text,
  notification_id uuid,
  created_by      text NOT NULL,
  created_at      timestamptz NOT NULL DEFAULT now(),
  lifted_at       timestamptz,
  lifted_by       text,
  UNIQUE (tenant_id, channel, recipient),
  CHECK ((lifted_at IS NULL) = (lifted_by IS NULL))
);
CREATE INDEX IF NOT EXISTS suppressions_listed ON suppressions (tenant_id, created_at, id);
CREATE INDEX IF NOT EXISTS suppressions_lifted ON suppressions (id) WHERE lifted_at IS NOT NULL;
CREATE INDEX IF NOT EXISTS suppressions_endpoints ON suppressions (id)
  WHERE lifted_at IS NULL AND channel = 'webhook' AND starts_with(recipient, 'ep_');
COMMENT ON TABLE suppressions IS 'Recipients nothing is sent to until the row is lifted: an endpoint that is gone, an address a mail server refused for good, or a person''s word.';
COMMENT ON COLUMN suppressions.notification_id IS 'The notification whose failure led to it.';
COMMENT ON COLUMN suppressions.detail IS 'The failure''s reason, such as http_410, or a person''s note.';
COMMENT ON INDEX suppressions_listed IS 'Listing a tenant''s suppressions, newest first.';
COMMENT ON INDEX suppressions_endpoints IS 'The upkeep''s question: which endpoints that are disabled were deleted?';
COMMENT ON INDEX suppressions_lifted IS 'The upkeep''s question: whose held notifications may go on?';

CREATE TABLE IF NOT EXISTS outbox_held (
  notification_id uuid PRIMARY KEY,
  suppression_id  uuid NOT NULL,
  held_at         timestamptz NOT NULL DEFAULT now()
);
CREATE INDEX IF NOT EXISTS outbox_held_suppression ON outbox_held (suppression_id, notification_id);
COMMENT ON TABLE outbox_held IS 'Suppressed notifications until their suppression is lifted; each suppressed notification has a row here.';
COMMENT ON INDEX outbox_held_suppression IS 'What waits for one suppression, in the order accepted.';

SELECT set_config('init.queues_keys', (to_regclass('ordering_queue') IS NULL)::text, true);
CREATE TABLE IF NOT EXISTS ordering_queue (
  tenant_id       text NOT NULL,
  ordering_key    text NOT NULL,
  seq             bigint GENERATED ALWAYS AS IDENTITY,
  notification_id uuid NOT NULL UNIQUE,
  passed          boolean NOT NULL DEFAULT false,
  first_since     timestamptz,
  PRIMARY KEY (tenant_id, ordering_key, seq)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
ALTER TABLE ordering_queue ADD COLUMN IF NOT EXISTS first_since timestamptz;
COMMENT ON TABLE ordering_queue IS 'Notifications with an ordering key that are pending or processing in their first attempt, each key in the order it is to be attempted.';
COMMENT ON COLUMN ordering_queue.passed IS 'Its record was read too early and dropped: whoever makes it the first of its key publishes it again.';
COMMENT ON COLUMN ordering_queue.first_since IS 'When the one before it made it the first of its key; NULL: it is not, or was from the beginning. What has waited for its turn has not stood still.';

CREATE TABLE IF NOT EXISTS ordering_turns (
  tenant_id       text NOT NULL,
  ordering_key    text NOT NULL,
  notification_id uuid NOT NULL,
  PRIMARY KEY (tenant_id, ordering_key)
) WITH (autovacuum_vacuum_scale_factor = 0.02, autovacuum_vacuum_cost_delay = 0);
COMMENT ON TABLE ordering_turns IS 'Keys with a first attempt under way, and whose it is. The primary key is what allows one at a time.';

-- The order of keys: docs/decisions/0009-order-is-guarded-by-the-claim.md. Whoever takes something out of a key's queue
-- or turn waits for the lock of the key's first row; whoever claims only tries for it. So a claim waits for nobody, and
-- no row is marked as passed behind the back of the one who has just made it the first.

CREATE OR REPLACE FUNCTION ordering_claim(ids uuid[]) RETURNS TABLE (id uuid, verdict text)
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
  own      ordering_queue;
  first_id uuid;
  holder   uuid;
BEGIN
  IF cardinality(ids) = 0 THEN
    RETURN;
  END IF;
  -- Sorted: two claims that take turns at once meet in one order. Each statement below sees what has been committed
  -- up to it, unlike the statement that calls.
  FOR own IN SELECT q.* FROM ordering_queue q WHERE q.notification_id = ANY (ids)
              ORDER BY q.tenant_id, q.ordering_key, q.seq LOOP
    id := own.notification_id;
    verdict := 'busy';
    SELECT q.notification_id INTO first_id FROM ordering_queue q
     WHERE q.tenant_id = own.tenant_id AND q.ordering_key = own.ordering_key ORDER BY q.seq LIMIT 1;
    PERFORM FROM ordering_queue q WHERE q.notification_id = first_id FOR NO KEY UPDATE SKIP LOCKED;
    IF FOUND THEN
      SELECT t.notification_id INTO holder FROM ordering_turns t
       WHERE t.tenant_id = own.tenant_id AND t.ordering_key = own.ordering_key;
      IF holder IS NULL AND first_id = id THEN
        INSERT INTO ordering_turns (tenant_id, ordering_key, notification_id)
        VALUES (own.tenant_id, own.ordering_key, id) ON CONFLICT DO NOTHING;
        IF FOUND THEN
          verdict := 'go';
          IF own.passed THEN
            UPDATE ordering_queue q SET passed = false WHERE q.notification_id = own.notification_id;
          END IF;
        END IF;
      ELSE
        PERFORM FROM ordering_turns t WHERE t.notification_id = holder AND t.tenant_id = own.tenant_id
            AND t.ordering_key = own.ordering_key FOR UPDATE SKIP LOCKED;
        IF FOUND OR holder IS NULL THEN
          PERFORM FROM ordering_queue q WHERE q.notification_id = id FOR NO KEY UPDATE SKIP LOCKED;
          IF FOUND THEN
            verdict := 'early';
            UPDATE ordering_queue q SET passed = true WHERE q.notification_id = id AND NOT q.passed;
          END IF;
        END IF;
      END IF;
    END IF;
    RETURN NEXT;
  END LOOP;
END $$;
COMMENT ON FUNCTION ordering_claim IS 'Of these notifications, pending and locked by the caller: go (the turn of its key is taken for it), early (not its turn; marked as passed), busy (somebody is changing the key; ask again).';

CREATE OR REPLACE FUNCTION ordering_free(tenant text, okey text, leaver uuid, stays boolean) RETURNS void
LANGUAGE plpgsql SET enable_seqscan = off AS $$
DECLARE
  first_id uuid;
  head     ordering_queue;
  freed    boolean;
BEGIN
  SELECT q.notification_id INTO first_id FROM ordering_queue q
   WHERE q.tenant_id = tenant AND q.ordering_key = okey ORDER BY q.seq LIMIT 1 FOR UPDATE;
  IF NOT stays THEN
    DELETE FROM ordering_queue q WHERE q.notification_id = leaver;
  END IF;
  DELETE FROM ordering_turns t WHERE t.tenant_id = tenant AND t.ordering_key = okey AND t.notification_id = leaver;
  SELECT q.* INTO head FROM ordering_queue q WHERE q.tenant_id = tenant AND q.ordering_key = okey
   ORDER BY q.seq LIMIT 1 FOR UPDATE;
  freed := head.passed AND NOT EXISTS (
      SELECT FROM ordering_turns t WHERE t.tenant_id = tenant AND t.ordering_key = okey);
  IF freed OR head.notification_id <> first_id THEN  -- one write of the row, which is locked anyway
    UPDATE ordering_queue q SET passed = q.passed AND NOT freed,
           first_since = CASE WHEN q.notification_id = first_id THEN q.first_since ELSE now() END
     WHERE q.notification_id = head.notification_id;
  END IF;
  IF freed THEN
    -- As shared.db.outbox.APPEND_PENDING writes it.
    INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
    SELECT n.id, n.bucket, n.topic, convert_to(n.tenant_id || '/' || n.ordering_key, 'UTF8'), n.record,
           jsonb_strip_nulls(jsonb_build_object(
               'attempt', n.attempt::text, 'content-type', 'application/json', 'schema-version', '1',
               'traceparent', n.traceparent, 'correlation-id', n.correlation_id))
      FROM notifications n WHERE n.id = head.notification_id AND n.status = 'pending';
  END IF;
END $$;
COMMENT ON FUNCTION ordering_free IS 'Ends a notification''s turn and, unless it stays, its place in the queue of its key; publishes the one that is first now if its record has passed.';

CREATE OR REPLACE FUNCTION ordering_follow() RETURNS trigger
LANGUAGE plpgsql AS $$
DECLARE
  was_in boolean := TG_OP <> 'INSERT' AND OLD.status IN ('pending', 'processing') AND OLD.attempt = 1;
  is_in  boolean := TG_OP <> 'DELETE' AND NEW.status IN ('pending', 'processing') AND NEW.attempt = 1;
BEGIN
  IF is_in AND NOT was_in THEN
    INSERT INTO ordering_queue (tenant_id, ordering_key, notification_id)
    VALUES (NEW.tenant_id, NEW.ordering_key, NEW.id) ON CONFLICT (notification_id) DO NOTHING;
  ELSIF was_in AND (NOT is_in OR NEW.status = 'pending') THEN
    PERFORM ordering_free(OLD.tenant_id, OLD.ordering_key, OLD.id, is_in);
  END IF;
  RETURN NULL;
END $$;
COMMENT ON FUNCTION ordering_follow IS 'Keeps ordering_queue and ordering_turns in step with notifications. Those without an ordering key never come here.';

CREATE OR REPLACE TRIGGER ordering_enter AFTER INSERT ON notifications
  FOR EACH ROW WHEN (NEW.ordering_key IS NOT NULL) EXECUTE FUNCTION ordering_follow();
CREATE OR REPLACE TRIGGER ordering_move AFTER UPDATE ON notifications
  FOR EACH ROW WHEN (NEW.ordering_key IS NOT NULL AND OLD.status <> NEW.status) EXECUTE FUNCTION ordering_follow();
CREATE OR REPLACE TRIGGER ordering_delete AFTER DELETE ON notifications
  FOR EACH ROW WHEN (OLD.ordering_key IS NOT NULL) EXECUTE FUNCTION ordering_follow();

-- Once, in a database older than these tables: what waits or is under way gets its place and its turn. The triggers'
-- lock keeps everybody else from notifications until this commits.
WITH live AS (
  SELECT tenant_id, ordering_key, id, status FROM notifications
   WHERE current_setting('init.queues_keys')::boolean
     AND ordering_key IS NOT NULL AND attempt = 1 AND status IN ('pending', 'processing')
), turns AS (
  INSERT INTO ordering_turns (tenant_id, ordering_key, notification_id)
  SELECT tenant_id, ordering_key, id FROM live WHERE status = 'processing' ORDER BY id ON CONFLICT DO NOTHING
)
INSERT INTO ordering_queue (tenant_id, ordering_key, notification_id)
SELECT tenant_id, ordering_key, id FROM live ORDER BY status = 'processing' DESC, id;

CREATE TABLE IF NOT EXISTS idempotency_keys (
  tenant_id       text NOT NULL,
  key             text NOT NULL CHECK (length(key) BETWEEN 1 AND 255),
  request_sha256  bytea NOT NULL CHECK (octet_length(request_sha256) = 32),
  response_status smallint NOT NULL,
  response_body   bytea NOT NULL,
  response_path   text,
  created_at      timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (tenant_id, key)
);
CREATE INDEX IF NOT EXISTS idempotency_keys_age ON idempotency_keys (created_at);
COMMENT ON TABLE idempotency_keys IS 'The stored answer to a keyed request, written in the transaction that accepted it; kept at least 24 hours.';
COMMENT ON COLUMN idempotency_keys.response_path IS 'The Location header of the stored answer.';
COMMENT ON INDEX idempotency_keys_age IS 'Pruning of old keys.';

CREATE UNLOGGED TABLE IF NOT EXISTS delivery_consumers (
  consumer    uuid PRIMARY KEY,
  reported_at timestamptz NOT NULL DEFAULT now()
) WITH (fillfactor = 50);
ALTER TABLE delivery_consumers ADD COLUMN IF NOT EXISTS channels text[] NOT NULL DEFAULT '{email,webhook}';
COMMENT ON COLUMN delivery_consumers.channels IS 'What it sends: those that send webhooks divide the rate of an endpoint.';
COMMENT ON TABLE delivery_consumers IS 'Which delivery consumers report on their destinations; one that has not for 15 s is taken for gone. Not logged: after a crash all of them report anew.';

CREATE UNLOGGED TABLE IF NOT EXISTS destination_reports (
  destination   text NOT NULL,
  consumer      uuid NOT NULL,
  channel       text NOT NULL,
  breaker       text NOT NULL CHECK (breaker IN ('closed', 'open', 'half_open')),
  slots_in_use  integer NOT NULL,
  slots_allowed integer NOT NULL,
  waiting       integer NOT NULL,
  calls         integer NOT NULL,
  failures      integer NOT NULL,
  last_reason   text,
  next_probe_at timestamptz,
  changed_at    timestamptz NOT NULL DEFAULT now(),
  PRIMARY KEY (destination, consumer),
  CHECK ((breaker = 'closed') = (next_probe_at IS NULL))
) WITH (fillfactor = 50);
ALTER TABLE destination_reports ADD COLUMN IF NOT EXISTS tenant_id text NOT NULL DEFAULT '';
DO $$ BEGIN
  -- A table made before tenants had destinations of their own knows each of them once.
  IF NOT EXISTS (SELECT FROM pg_constraint WHERE conrelid = 'destination_reports'::regclass AND contype = 'p'
                    AND cardinality(conkey) = 3) THEN
    ALTER TABLE destination_reports DROP CONSTRAINT IF EXISTS destination_reports_pkey,
      ADD CONSTRAINT destination_reports_pkey PRIMARY KEY (destination, tenant_id, consumer);
  END IF;
END $$;
CREATE INDEX IF NOT EXISTS destination_reports_not_closed ON destination_reports (destination) WHERE breaker <> 'closed';
COMMENT ON TABLE destination_reports IS 'What each delivery consumer holds against each of its destinations, for people to look at: nothing is decided by it. Written every 2 s where it has changed.';
COMMENT ON COLUMN destination_reports.tenant_id IS 'Whose destination it is; empty: one that all share, such as the mail host.';
COMMENT ON COLUMN destination_reports.destination IS 'scheme://host:port of a webhook, host:port of the mail server: no path, no query, no user.';
COMMENT ON COLUMN destination_reports.calls IS 'Calls the breaker judges by: those of the last 15 to 30 seconds. failures: how many of them failed.';
COMMENT ON INDEX destination_reports_not_closed IS 'Which destinations are left alone at the moment? The state changes rarely, so updates of the numbers stay heap-only.';

CREATE TABLE IF NOT EXISTS audit_marks (
  only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  mark     uuid NOT NULL,
  passed   bigint NOT NULL,
  moved_at timestamptz NOT NULL
);
COMMENT ON TABLE audit_marks IS 'The ledger''s mark: up to which id everything was verified, and how many ids that were. See shared/db/ledger.py.';

CREATE TABLE IF NOT EXISTS audit_books (
  status  text PRIMARY KEY,
  settled bigint NOT NULL DEFAULT 0,
  pruned  bigint NOT NULL DEFAULT 0,
  ahead   bigint NOT NULL DEFAULT 0
);
COMMENT ON TABLE audit_books IS 'The ledger''s counts by status, which only grow: settled behind the mark, pruned of those, pruned ahead of the mark.';

CREATE TABLE IF NOT EXISTS audit_open (
  notification_id uuid PRIMARY KEY
);
COMMENT ON TABLE audit_open IS 'Behind the ledger''s mark and not settled: live, failed, suppressed, or breaking a rule. Each run looks at these again.';

ALTER TABLE tenants ADD COLUMN IF NOT EXISTS suspended_at timestamptz,
                    ADD COLUMN IF NOT EXISTS is_operator boolean NOT NULL DEFAULT false,
                    ADD COLUMN IF NOT EXISTS daily_quota integer CHECK (daily_quota > 0);
COMMENT ON COLUMN tenants.suspended_at IS 'Since when its keys and users are refused; what was accepted before is still delivered.';
COMMENT ON COLUMN tenants.is_operator IS 'Its admins run the installation: they see what belongs to no tenant.';
COMMENT ON COLUMN tenants.daily_quota IS 'Notifications a day that are accepted of it; NULL: any number.';

ALTER TABLE api_keys ADD COLUMN IF NOT EXISTS name text NOT NULL DEFAULT '' CHECK (length(name) <= 100),
                     ADD COLUMN IF NOT EXISTS limits text CHECK (length(limits) <= 200),
                     ADD COLUMN IF NOT EXISTS created_by text,
                     ADD COLUMN IF NOT EXISTS revoked_by text;
CREATE INDEX IF NOT EXISTS api_keys_listed ON api_keys (tenant_id, created_at, id);
COMMENT ON COLUMN api_keys.limits IS 'Request limits of this key, such as 500/second;1000000/day; NULL: those of the settings.';
COMMENT ON INDEX api_keys_listed IS 'Listing a tenant''s keys, newest first.';

CREATE TABLE IF NOT EXISTS users (
  id            uuid PRIMARY KEY,
  tenant_id     text NOT NULL REFERENCES tenants (id),
  email         text NOT NULL UNIQUE CHECK (email = lower(email) AND length(email) <= 254),
  name          text NOT NULL CHECK (length(name) BETWEEN 1 AND 100),
  password_hash text NOT NULL,
  role          text NOT NULL CHECK (role IN ('user', 'admin')),
  created_at    timestamptz NOT NULL DEFAULT now(),
  updated_at    timestamptz NOT NULL DEFAULT now(),
  disabled_at   timestamptz,
  last_login_at timestamptz
);
CREATE INDEX IF NOT EXISTS users_listed ON users (tenant_id, created_at, id);
COMMENT ON INDEX users_listed IS 'Listing a tenant''s users, newest first.';
COMMENT ON TABLE users IS 'People who sign in with a password; each belongs to one tenant.';
COMMENT ON COLUMN users.password_hash IS 'argon2id, or bcrypt of an imported user until the next sign-in.';

CREATE TABLE IF NOT EXISTS endpoints (
  id             uuid PRIMARY KEY,
  tenant_id      text NOT NULL,
  url            text NOT NULL CHECK (length(url) <= 2048),
  description    text CHECK (length(description) <= 500),
  header_names   text[] NOT NULL DEFAULT '{}',
  sealed_headers bytea,
  rate_per_s     float8 CHECK (rate_per_s BETWEEN 0.1 AND 10000),
  timeout_s      float8 CHECK (timeout_s BETWEEN 0.1 AND 120),
  created_at     timestamptz NOT NULL DEFAULT now(),
  updated_at     timestamptz NOT NULL DEFAULT now(),
  deleted_at     timestamptz
);
CREATE INDEX IF NOT EXISTS endpoints_listed ON endpoints (tenant_id, created_at, id) WHERE deleted_at IS NULL;
COMMENT ON INDEX endpoints_listed IS 'Listing a tenant''s endpoints, newest first.';
COMMENT ON TABLE endpoints IS 'Webhook receivers that have a name of their own: a notification names ep_<id> as its recipient. Disabled: an active suppression of that recipient.';
COMMENT ON COLUMN endpoints.sealed_headers IS 'Custom headers, a JSON object, encrypted: one of them may be an Authorization. shared/secrets.py';
COMMENT ON COLUMN endpoints.rate_per_s IS 'Deliveries a second at most; NULL: as many as it takes.';

CREATE TABLE IF NOT EXISTS signing_secrets (
  id          uuid PRIMARY KEY,
  tenant_id   text NOT NULL,
  endpoint_id uuid REFERENCES endpoints (id),
  sealed      bytea NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  expires_at  timestamptz
);
CREATE INDEX IF NOT EXISTS signing_secrets_owner ON signing_secrets (tenant_id, endpoint_id);
COMMENT ON INDEX signing_secrets_owner IS 'What a delivery is signed with.';
COMMENT ON TABLE signing_secrets IS 'What webhooks are signed with, encrypted: an endpoint''s secrets, or, endpoint_id NULL, the tenant''s for plain URLs. Rotated: the older one signs too until it expires.';

CREATE TABLE IF NOT EXISTS sender_domains (
  tenant_id   text NOT NULL,
  domain      text NOT NULL CHECK (length(domain) <= 253),
  token       text NOT NULL,
  created_at  timestamptz NOT NULL DEFAULT now(),
  verified_at timestamptz,
  PRIMARY KEY (tenant_id, domain)
);
COMMENT ON TABLE sender_domains IS 'Domains that a tenant''s e-mail may be from once verified: their owner has put the token into DNS, or an operator said so.';
COMMENT ON COLUMN sender_domains.token IS 'What the TXT record has to hold; public, and different for each tenant.';

CREATE TABLE IF NOT EXISTS audit_log (
  seq           bigint PRIMARY KEY,
  at            timestamptz NOT NULL,
  tenant_id     text NOT NULL,
  actor_kind    text NOT NULL CHECK (actor_kind IN ('key', 'user', 'command', 'open')),
  actor_id      text NOT NULL,
  actor_name    text NOT NULL,
  action        text NOT NULL,
  entity_type   text NOT NULL,
  entity_id     text NOT NULL,
  before        jsonb,
  after         jsonb,
  address       text,
  user_agent    text,
  request_id    text,
  previous_hash bytea NOT NULL,
  hash          bytea NOT NULL
);
CREATE INDEX IF NOT EXISTS audit_log_listed ON audit_log (tenant_id, seq);
COMMENT ON INDEX audit_log_listed IS 'Listing what was done in a tenant, latest first.';
COMMENT ON TABLE audit_log IS 'Who did what to which row, from where. Each row carries the hash of the one before, so that a changed or missing row is found: notify-audit verify.';

CREATE TABLE IF NOT EXISTS audit_head (
  only_one boolean PRIMARY KEY DEFAULT true CHECK (only_one),
  seq      bigint NOT NULL,
  hash     bytea NOT NULL
);
COMMENT ON TABLE audit_head IS 'The last row of audit_log: rows cut off at its end are missed by this. Its lock makes writers take turns.';

CREATE OR REPLACE FUNCTION audit_hash(entry audit_log) RETURNS bytea
LANGUAGE sql IMMUTABLE AS $$
  SELECT sha256(convert_to(jsonb_build_array(
      encode(entry.previous_hash, 'hex'), entry.seq, extract(epoch FROM entry.at), entry.tenant_id, entry.actor_kind,
      entry.actor_id, entry.actor_name, entry.action, entry.entity_type, entry.entity_id, entry.before, entry.after,
      entry.address, entry.user_agent, entry.request_id)::text, 'UTF8'))
$$;
COMMENT ON FUNCTION audit_hash IS 'The hash of a row: of all that it says, and of the hash of the row before.';

CREATE OR REPLACE FUNCTION audit_append(
  tenant text, actor_kind text, actor_id text, actor_name text, action text, entity_type text, entity_id text,
  before jsonb, after jsonb, address text, user_agent text, request_id text
) RETURNS bigint
LANGUAGE plpgsql SECURITY DEFINER AS $$
DECLARE
  head  audit_head;
  entry audit_log;
BEGIN
  INSERT INTO audit_head (seq, hash) VALUES (0, sha256('')) ON CONFLICT DO NOTHING;
  SELECT * INTO STRICT head FROM audit_head FOR UPDATE;
  entry := ROW(head.seq + 1, clock_timestamp(), tenant, actor_kind, actor_id, actor_name, action, entity_type,
               entity_id, before, after, address, user_agent, request_id, head.hash, ''::bytea);
  entry.hash := audit_hash(entry);
  INSERT INTO audit_log SELECT entry.*;
  UPDATE audit_head SET seq = entry.seq, hash = entry.hash;
  RETURN entry.seq;
END $$;
COMMENT ON FUNCTION audit_append IS 'Writes a row in the caller''s transaction and returns its number. The one way in: no service may write to audit_log itself.';

ALTER TABLE api_keys ADD COLUMN IF NOT EXISTS previous_secret_sha256 bytea,
                     ADD COLUMN IF NOT EXISTS previous_expires_at timestamptz;
COMMENT ON COLUMN api_keys.previous_secret_sha256 IS 'The secret before the last rotation: accepted too until previous_expires_at.';

ALTER TABLE users ADD COLUMN IF NOT EXISTS token_version integer NOT NULL DEFAULT 1;
COMMENT ON COLUMN users.token_version IS 'What a token has to carry: raised by a new password and by being disabled, which ends all tokens before.';

-- Who calls is found out before there is a tenant to speak for, so the next four see the rows of all tenants. Each gives
-- no more than the one row whose id or address its caller has.

CREATE OR REPLACE FUNCTION find_api_key(key_id text) RETURNS TABLE (
  tenant_id text, secret_sha256 bytea, previous_sha256 bytea, scopes text[], name text, limits text,
  expires_at timestamptz, valid_for_s float8, previous_valid_for_s float8, is_revoked boolean, is_suspended boolean,
  is_operator boolean, daily_quota integer
) LANGUAGE sql STABLE SECURITY DEFINER AS $$
  SELECT k.tenant_id, k.secret_sha256, k.previous_secret_sha256, k.scopes, k.name, k.limits, k.expires_at,
         extract(epoch FROM k.expires_at - now())::float8, extract(epoch FROM k.previous_expires_at - now())::float8,
         k.revoked_at IS NOT NULL, t.suspended_at IS NOT NULL, t.is_operator, t.daily_quota
    FROM api_keys k JOIN tenants t ON t.id = k.tenant_id WHERE k.id = key_id
$$;
COMMENT ON FUNCTION find_api_key IS 'A key by its id, for whoever has to judge the secret that came with it. Instants as seconds from now: the API has another clock.';

CREATE OR REPLACE FUNCTION touch_api_keys(key_ids text[]) RETURNS void
LANGUAGE sql SECURITY DEFINER AS $$
  UPDATE api_keys SET last_used_at = now() WHERE id IN (
    SELECT k.id FROM api_keys k
     WHERE k.id = ANY (key_ids) AND (k.last_used_at IS NULL OR k.last_used_at < now() - interval '1 minute')
     ORDER BY k.id FOR NO KEY UPDATE SKIP LOCKED)
$$;
COMMENT ON FUNCTION touch_api_keys IS 'Notes that keys were used, each at most once a minute however many processes say so.';

CREATE OR REPLACE FUNCTION find_user(address text) RETURNS TABLE (
  id uuid, tenant_id text, name text, role text, token_version integer, is_disabled boolean, is_suspended boolean,
  is_operator boolean, daily_quota integer, password_hash text
) LANGUAGE sql STABLE SECURITY DEFINER AS $$
  SELECT u.id, u.tenant_id, u.name, u.role, u.token_version, u.disabled_at IS NOT NULL, t.suspended_at IS NOT NULL,
         t.is_operator, t.daily_quota, u.password_hash
    FROM users u JOIN tenants t ON t.id = u.tenant_id WHERE u.email = address
$$;
COMMENT ON FUNCTION find_user IS 'Somebody who signs in.';

CREATE OR REPLACE FUNCTION find_signed_in(user_id uuid) RETURNS TABLE (
  id uuid, tenant_id text, name text, role text, token_version integer, is_disabled boolean, is_suspended boolean,
  is_operator boolean, daily_quota integer
) LANGUAGE sql STABLE SECURITY DEFINER AS $$
  SELECT u.id, u.tenant_id, u.name, u.role, u.token_version, u.disabled_at IS NOT NULL, t.suspended_at IS NOT NULL,
         t.is_operator, t.daily_quota
    FROM users u JOIN tenants t ON t.id = u.tenant_id WHERE u.id = user_id
$$;
COMMENT ON FUNCTION find_signed_in IS 'Whoever a token was issued to, as they are now.';

DO $$
DECLARE
  own text;
BEGIN
  -- Nobody's temporary table or other schema may stand in for what these functions name.
  FOR own IN SELECT oid::regprocedure FROM pg_proc WHERE prosecdef AND pronamespace = current_schema::regnamespace LOOP
    EXECUTE format('ALTER FUNCTION %s SET search_path = %I, pg_temp', own, current_schema);
  END LOOP;
END $$;

CREATE OR REPLACE VIEW outbox_event AS
SELECT id,
       recipient,
       channel,
       convert_from(record, 'UTF8')::jsonb ->> 'message' AS message,
       CASE status WHEN 'failed' THEN 'FAILED'
                   WHEN 'pending' THEN 'PENDING' WHEN 'scheduled' THEN 'PENDING' WHEN 'processing' THEN 'PENDING'
                   ELSE 'PROCESSED' END AS status,
       created_at AS "createdAt"
  FROM notifications;
COMMENT ON VIEW outbox_event IS 'The pattern''s textbook table, for reading: PENDING until it has ended, FAILED with a dead letter, PROCESSED otherwise.';

-- Who may do what. Each service has a role with the grants it uses and no others; a deployment lets it log in
-- (ALTER ROLE notify_api LOGIN PASSWORD '...') or makes login roles members of it. The API's role sees the rows of one
-- tenant, the one its transaction names in notify.tenant, and without a name none; the other services' roles work for
-- all tenants at once. Whoever ran this file owns the tables and is bound by none of it.

DO $$
DECLARE
  made text;
BEGIN
  FOREACH made IN ARRAY ARRAY['notify_api', 'notify_relay', 'notify_delivery', 'notify_dlq'] LOOP
    BEGIN
      IF to_regrole(made) IS NULL THEN
        EXECUTE format('CREATE ROLE %I NOLOGIN', made);
      END IF;
    EXCEPTION WHEN duplicate_object OR unique_violation THEN NULL;  -- another database's installer has just made it
    END;
    EXECUTE format('REVOKE ALL ON ALL TABLES IN SCHEMA %I FROM %I', current_schema, made);
    EXECUTE format('REVOKE ALL ON ALL SEQUENCES IN SCHEMA %I FROM %I', current_schema, made);
    EXECUTE format('GRANT USAGE ON SCHEMA %I TO %I', current_schema, made);
  END LOOP;
  BEGIN
    -- notify-audit has to know since when other sessions' transactions are open.
    IF NOT pg_has_role('notify_relay', 'pg_read_all_stats', 'USAGE') THEN
      GRANT pg_read_all_stats TO notify_relay;
    END IF;
  EXCEPTION WHEN insufficient_privilege THEN
    RAISE WARNING 'notify-audit needs this of an administrator: GRANT pg_read_all_stats TO notify_relay';
  END;
END $$;

GRANT SELECT, INSERT, UPDATE (status, attempt, updated_at) ON notifications TO notify_api;
GRANT INSERT ON outbox TO notify_api;
GRANT SELECT, INSERT ON outbox_due, idempotency_keys, dlq_actions TO notify_api;
GRANT SELECT ON tenants, delivery_attempts, outbox_held, delivery_consumers, destination_reports, audit_log TO notify_api;
GRANT SELECT, UPDATE (status, retry_at, rest_reason, retry_count, resolved_at, resolution, resolved_by, resolution_note)
   ON dlq_messages TO notify_api;
GRANT SELECT, INSERT, UPDATE (status, finished_at, ended_by, ended_note) ON dlq_retries TO notify_api;
GRANT SELECT, INSERT, UPDATE (reason, detail, notification_id, created_by, created_at, lifted_at, lifted_by)
   ON suppressions TO notify_api;
GRANT SELECT, INSERT, UPDATE (secret_sha256, previous_secret_sha256, previous_expires_at, revoked_at, revoked_by)
   ON api_keys TO notify_api;
GRANT SELECT, INSERT, UPDATE (role, password_hash, token_version, disabled_at, last_login_at, updated_at)
   ON users TO notify_api;
GRANT SELECT, INSERT, UPDATE (url, description, header_names, sealed_headers, rate_per_s, timeout_s, updated_at, deleted_at)
   ON endpoints TO notify_api;
GRANT SELECT, INSERT, UPDATE (expires_at), DELETE ON signing_secrets TO notify_api;
GRANT SELECT, INSERT, UPDATE (verified_at), DELETE ON sender_domains TO notify_api;
GRANT SELECT, INSERT, UPDATE, DELETE ON ordering_queue, ordering_turns TO notify_api;

GRANT SELECT, UPDATE (status, attempt, updated_at), DELETE ON notifications TO notify_relay;
GRANT SELECT, INSERT, DELETE ON outbox, outbox_dead TO notify_relay;
GRANT SELECT ON SEQUENCE outbox_seq_seq TO notify_relay;
GRANT SELECT, UPDATE, DELETE ON outbox_due, outbox_held, idempotency_keys, delivery_attempts TO notify_relay;
GRANT SELECT, INSERT, UPDATE, DELETE ON dlq_messages, ordering_queue, ordering_turns TO notify_relay;
GRANT SELECT, INSERT, UPDATE, DELETE ON audit_marks, audit_books, audit_open TO notify_relay;
GRANT SELECT, DELETE ON dlq_actions TO notify_relay;
GRANT SELECT ON dlq_retries, suppressions, audit_log, audit_head TO notify_relay;
GRANT UPDATE (lifted_at, lifted_by) ON suppressions TO notify_relay;
GRANT SELECT (id, tenant_id, deleted_at) ON endpoints TO notify_relay;

GRANT SELECT, UPDATE (status, attempt, updated_at) ON notifications TO notify_delivery;
GRANT SELECT, INSERT, UPDATE, DELETE ON delivery_attempts, ordering_queue, ordering_turns TO notify_delivery;
GRANT SELECT, INSERT, UPDATE, DELETE ON delivery_consumers, destination_reports TO notify_delivery;
GRANT SELECT, INSERT, UPDATE ON suppressions TO notify_delivery;
GRANT SELECT, UPDATE ON dlq_messages TO notify_delivery;
GRANT SELECT ON endpoints, signing_secrets TO notify_delivery;
GRANT INSERT ON outbox, outbox_held TO notify_delivery;
GRANT SELECT, INSERT ON outbox_due TO notify_delivery;

GRANT SELECT, UPDATE (status, attempt, updated_at) ON notifications TO notify_dlq;
GRANT SELECT, INSERT, UPDATE ON dlq_messages, dlq_actions TO notify_dlq;
GRANT SELECT, UPDATE ON dlq_retries TO notify_dlq;
GRANT INSERT ON outbox TO notify_dlq;

REVOKE EXECUTE ON FUNCTION audit_append, find_api_key, touch_api_keys, find_user, find_signed_in FROM PUBLIC;
GRANT EXECUTE ON FUNCTION audit_append, find_api_key, touch_api_keys, find_user, find_signed_in TO notify_api;

DO $$
DECLARE
  tenant constant text := 'nullif(current_setting(''notify.tenant'', true), '''')';
  named  text;
  own    text;
BEGIN
  FOR named, own IN
    SELECT c.relname, CASE c.relname
             WHEN 'tenants' THEN 'id = %1$s'
             WHEN 'dlq_actions' THEN 'EXISTS (SELECT FROM dlq_messages d WHERE d.id = dead_letter_id)'
             WHEN 'outbox_held' THEN 'EXISTS (SELECT FROM notifications n WHERE n.id = notification_id)'
             WHEN 'destination_reports' THEN 'tenant_id IN (%1$s, '''')'
             WHEN 'audit_log' THEN 'tenant_id = %1$s OR tenant_id = '''' AND EXISTS ('
                                   'SELECT FROM tenants t WHERE t.id = %1$s AND t.is_operator)'
             ELSE 'tenant_id = %1$s' END
      FROM pg_class c
     WHERE c.relnamespace = current_schema::regnamespace AND c.relkind = 'r' AND NOT c.relrowsecurity
       AND (c.relname IN ('tenants', 'dlq_actions', 'outbox_held') OR EXISTS (
            SELECT FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attname = 'tenant_id')) LOOP
    EXECUTE format('ALTER TABLE %I ENABLE ROW LEVEL SECURITY', named);
    EXECUTE format('CREATE POLICY own_tenant ON %I TO notify_api USING (%s)', named, format(own, tenant));
    EXECUTE format('CREATE POLICY all_tenants ON %I TO notify_relay, notify_delivery, notify_dlq USING (true)', named);
  END LOOP;
END $$;

COMMIT;
