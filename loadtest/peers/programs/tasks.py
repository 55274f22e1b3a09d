"""What the task queues do, whichever they are: a row accepted durably, read by a task, sent signed, and updated.

POST /notifications        one JSON object; 202 with its id
POST /notifications/batch  a JSON array; 202 with all ids
"""

import base64
import hashlib
import hmac
import os
import threading
import time
import uuid
from collections.abc import Callable
from typing import Any

import orjson
import psycopg
import requests
from flask import Flask, Response, request
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool

from loadtest.peers.settings import API_THREADS

DSN = os.environ["DATABASE_URL"]
SECRET = base64.b64decode(os.environ["BENCH_SECRET"].removeprefix("whsec_"))
TIMEOUT_S = 15
_INSERT = "INSERT INTO messages (id, recipient, body) VALUES (%s, %s, %s)"
_INSERT_MANY = """
    INSERT INTO messages (id, recipient, body)
    SELECT id, recipient, body FROM jsonb_to_recordset(%s::jsonb) AS item(id uuid, recipient text, body jsonb)
"""
_local = threading.local()


def create_api(enqueue: Callable[[list[str]], None]) -> Flask:
    """Return the API. A task is queued after its row's commit: what a crash in between loses is the peers' to lose."""
    app = Flask("peer")
    pool = ConnectionPool(DSN, min_size=API_THREADS, max_size=API_THREADS, kwargs={"autocommit": True}, open=True)

    @app.post("/notifications")
    def send() -> Response:
        item = orjson.loads(request.get_data(cache=False))
        id_ = str(uuid.uuid4())
        with pool.connection() as conn:
            conn.execute(_INSERT, (id_, item["recipient"], Jsonb(item)))
        enqueue([id_])
        return Response(orjson.dumps({"id": id_}), 202, content_type="application/json")

    @app.post("/notifications/batch")
    def send_batch() -> Response:
        items = orjson.loads(request.get_data(cache=False))
        rows = [{"id": str(uuid.uuid4()), "recipient": item["recipient"], "body": item} for item in items]
        with pool.connection() as conn:
            conn.execute(_INSERT_MANY, (orjson.dumps(rows).decode(),))
        ids = [row["id"] for row in rows]
        enqueue(ids)
        return Response(orjson.dumps({"ids": ids}), 202, content_type="application/json")

    @app.get("/health/ready")
    def ready() -> Response:
        return Response(b"{}", content_type="application/json")

    return app


def deliver(id_: str) -> None:
    """Read a row, send its webhook, note that it was sent; connections are kept, one of each per thread."""
    conn, session = _connections()
    row = conn.execute("SELECT recipient, body FROM messages WHERE id = %s AND status = 'pending'", (id_,)).fetchone()
    if row is None:
        return
    recipient, item = row
    body = orjson.dumps({"type": "notification", "data": {"id": id_, "message": item["message"], "payload": item}})
    answer = session.post(recipient, data=body, headers=_headers(id_, body), timeout=TIMEOUT_S)
    answer.raise_for_status()
    conn.execute("UPDATE messages SET status = 'sent', updated_at = now() WHERE id = %s", (id_,))


def _connections() -> tuple[psycopg.Connection[Any], requests.Session]:
    if not hasattr(_local, "conn"):
        _local.conn = psycopg.connect(DSN, autocommit=True, prepare_threshold=0)
        _local.session = requests.Session()
        _local.session.trust_env = False  # looking for proxies would cost it a fifth
    return _local.conn, _local.session


def _headers(id_: str, body: bytes) -> dict[str, str]:
    timestamp = str(int(time.time()))
    signed = hmac.digest(SECRET, f"{id_}.{timestamp}.".encode() + body, hashlib.sha256)
    return {
        "Content-Type": "application/json",
        "webhook-id": id_,
        "webhook-timestamp": timestamp,
        "webhook-signature": f"v1,{base64.b64encode(signed).decode()}",
    }
