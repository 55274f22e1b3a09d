"""Many notifications in one request: the interface for throughput."""

from dataclasses import dataclass
from typing import Any, Final

import flask
from flask import Response

from api_service import accept, bodies, documents, queries, schemas
from api_service.accept import DEFAULT_TENANT, NotificationRequest
from api_service.faults import Fault, FieldFault
from api_service.idempotency import Answer, KeyedRequest, keyed_request
from api_service.problems import Problem, invalid
from api_service.representations import NOTIFICATIONS_PATH, accepted
from api_service.responses import dumps
from api_service.routes.notifications import answered, replay_or_refuse
from api_service.routing import Routes
from api_service.services import origin, services
from shared.db.accepting import NewNotification

MAX_ITEMS: Final = 1000
PATH: Final = f"{NOTIFICATIONS_PATH}/batch"
routes: Final = Routes("batches", "Send up to a thousand notifications in one request.")


@dataclass(frozen=True, slots=True)
class _Item:
    """One item of a batch: what it asks for, or what is wrong with it, pointers beginning at the item."""

    wanted: NotificationRequest | None
    faults: list[FieldFault]


@routes.add("POST", PATH, "/api/notifications/batch", doc=documents.SEND_BATCH)
def send_batch() -> Response:
    """Accept up to 1,000 notifications, as a JSON array or as NDJSON.

    All or nothing, in one transaction. With atomic=false what is valid is accepted, in one transaction as well, and
    the answer has a result per item; where no item is valid it is a 400 all the same.
    """
    atomic = queries.load(queries.BATCH, flask.request.args)["atomic"] is queries.Flag.TRUE
    values, items = _read()
    operation = f"POST {PATH} atomic={atomic}"
    keyed = keyed_request(flask.request.headers, operation, values, tenant_id=DEFAULT_TENANT)
    faults = _located(items)
    if faults and (atomic or all(item.wanted is None for item in items)):
        return replay_or_refuse(keyed, invalid(faults))
    return _accept(keyed, items, with_results=not atomic)


def _accept(keyed: KeyedRequest | None, items: list[_Item], *, with_results: bool) -> Response:
    topics, source = services().topics, origin()
    news = [accept.prepare(item.wanted, topics=topics, origin=source) if item.wanted else None for item in items]
    taken = [new for new in news if new is not None]
    body: dict[str, Any] = {"accepted": len(taken)}
    if with_results:
        body["results"] = [_result(index, item, new) for index, (item, new) in enumerate(zip(items, news, strict=True))]
    else:
        body["notifications"] = [accepted(new) for new in taken]
    return answered(keyed, taken, Answer(202, dumps(body)))


def _result(index: int, item: _Item, new: NewNotification | None) -> dict[str, Any]:
    outcome = {"problem": invalid(item.faults).members()} if new is None else accepted(new)
    return {"index": index} | outcome


def _read() -> tuple[list[Any], list[_Item]]:
    """Return the items as they came and as they were understood. Raises Problem when there are none, or too many."""
    media_type = bodies.require_type(bodies.JSON, bodies.NDJSON)
    raw = bodies.read_bytes(bodies.MAX_BATCH_BYTES)
    if media_type == bodies.NDJSON:
        lines = [line for line in raw.split(b"\n") if line.strip()]
        _check_count(len(lines))
        pairs = [_parse_line(line) for line in lines]
        return [value for value, _ in pairs], [item for _, item in pairs]
    values = bodies.parse(raw)
    if type(values) is not list:
        raise invalid([FieldFault("", Fault("not_an_array", "an array of notifications is expected"))])
    _check_count(len(values))
    return values, [_understand(value) for value in values]


def _check_count(count: int) -> None:
    if count == 0:
        raise invalid([FieldFault("", Fault("empty", "a batch has at least one item"))])
    if count > MAX_ITEMS:
        raise Problem("batch_too_long", f"{count} items; a batch has at most {MAX_ITEMS}")


def _parse_line(line: bytes) -> tuple[Any, _Item]:
    try:
        value = bodies.parse(line)
    except Problem as problem:
        faults = [error for error in problem.errors if isinstance(error, FieldFault)]
        return line.decode("utf-8", "replace"), _Item(None, faults)
    return value, _understand(value)


def _understand(value: Any) -> _Item:
    try:
        return _Item(schemas.load(value, default_webhook_url=services().settings.default_webhook_url), [])
    except schemas.InvalidRequestError as error:
        return _Item(None, error.faults)


def _located(items: list[_Item]) -> list[FieldFault]:
    """Return all faults with pointers into the whole batch."""
    return [
        FieldFault(f"/{index}{fault.pointer}", fault.fault) for index, item in enumerate(items) for fault in item.faults
    ]
