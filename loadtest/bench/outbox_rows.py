"""Outbox rows by the million, made inside PostgreSQL: about 600 bytes of JSON each, a key of their own, our headers."""

from typing import Final, LiteralString

_TEXT: Final = (
    "Your order has been shipped and will arrive on Thursday between nine and twelve. Track it with the link below; "
    "keep the invoice for your records. Thank you for the trust you place in our small shop. "
)
SOURCE: Final[LiteralString] = """
    SELECT made.id, (hashtext(made.id::text) & 63)::smallint AS bucket, %(topic)s::text AS topic,
           made.id::text AS key,
           format('{"id":"%%s","tenant_id":"default","channel":"webhook","recipient":"https://hooks-%%s.example.com/o",'
                  '"created_at":"2030-01-31T09:00:00.000Z","priority":"normal","on_unknown":"retry","message":"%%s"}',
                  made.id, made.n %% 1000, substr(made.words, 1 + (made.n %% 200)::int, 380)) AS value
      FROM (SELECT uuidv7() AS id, n, repeat(%(text)s, 4) AS words FROM generate_series(1, %(count)s) AS n) made
"""
FILL: Final[LiteralString] = f"""
    INSERT INTO outbox (notification_id, bucket, topic, key, value, headers)
    SELECT id, bucket, topic, convert_to(key, 'UTF8'), convert_to(value, 'UTF8'),
           '{{"attempt": "1", "content-type": "application/json", "schema-version": "1"}}'::jsonb
      FROM ({SOURCE}) source
"""


def parameters(topic: str, count: int) -> dict[str, str | int]:
    """Return what SOURCE and FILL take."""
    return {"topic": topic, "count": count, "text": _TEXT}
