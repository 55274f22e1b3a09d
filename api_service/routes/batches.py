"""Many notifications in one request: the interface for throughput."""

from dataclasses import dataclass
from typing import Any, Final

import flask
from flask import Response

from api_service import accept, bodies, documents, queries, schemas
from api_service.accept import NotificationRequest
from api_service.callers import Scope
from api_service.faults import Fault, FieldFault
from api_service.idempotency import Answer, keyed_request
from api_service.problems import Problem, invalid
from api_service.representations import NOTIFICATIONS_PATH, accepted
from api_service.responses import dumps
from api_service.routes.notifications import answered, replay_or_refuse
from api_service.routing import Routes
from api_service.services import origin, services, tenant_id
from shared.db.accepting import NewNotification

MAX_ITEMS: Final = 1000
PATH: Final = f"{NOTIFICATIONS_PATH}/batch"
routes: Final = Routes("batches", "Send up to a thousand notifications in one request.")


@dataclass(frozen=True, slots=True)
class _Batch:
    """Items as they came, what each asks for, and by its place what is wrong with each other one."""

    values: list[Any]
    requests: list[NotificationRequest | None]
    faults: dict[int, list[FieldFault]]  # pointers begin at the item

    def all_faults(self) -> list[FieldFault]:
        """Return all faults with pointers into the whole batch."""
        return [
            FieldFault(f"/{index}{fault.pointer}", fault.fault)
            for index, faults in sorted(self.faults.items())
            for fault in faults
        ]


@routes.add("POST", PATH, "/api/notifications/batch", scope=Scope.SEND, doc=documents.SEND_BATCH)
def send_batch() -> Response:
    """Accept up to 1,000 notifications, as a JSON array or as NDJSON.

    All or nothing, in one transaction. With atomic=false what is valid is accepted, in one transaction as well, and
    the answer has a result per item; where no item is valid it is a 400 all the same.
    """
    atomic = queries.load(queries.BATCH, flask.request.args)["atomic"] is queries.Flag.TRUE
    batch = _read()
    operation = f"POST {PATH} atomic={atomic}"
    keyed = keyed_request(flask.request.headers, operation, batch.values, tenant_id=tenant_id())
    if batch.faults and (atomic or len(batch.faults) == len(batch.values)):
        return replay_or_refuse(keyed, invalid(batch.all_faults()))
    wanted = [request for request in batch.requests if request is not None]
    news = accept.prepare_many(wanted, topics=services().topics, origin=origin())
    body: dict[str, Any] = {"accepted": len(news)}
    if atomic:
        body["notifications"] = [accepted(new) for new in news]
    else:
        body["results"] = _results(batch, news)
    return answered(keyed, news, Answer(202, dumps(body)))


def _results(batch: _Batch, news: list[NewNotification]) -> list[dict[str, Any]]:
    remaining = iter(news)
    return [
        {"index": index} | ({"problem": invalid(batch.faults[index]).members()} if request is None
                            else accepted(next(remaining)))
        for index, request in enumerate(batch.requests)
    ]  # fmt: skip


def _read() -> _Batch:
    """Return the items of the request. Raises Problem when there are none, or too many."""
    media_type = bodies.require_type(bodies.JSON, bodies.NDJSON)
    raw = bodies.read_bytes(bodies.MAX_BATCH_BYTES)
    if media_type == bodies.NDJSON:
        return _read_lines(bodies.lines(raw, at_most=MAX_ITEMS))
    values = bodies.parse(raw)
    if type(values) is not list:
        raise invalid([FieldFault("", Fault("not_an_array", "an array of notifications is expected"))])
    return _understood(values, {})


def _read_lines(lines: list[bytes]) -> _Batch:
    _check_count(len(lines))
    values: list[Any] = []
    faults: dict[int, list[FieldFault]] = {}
    for index, line in enumerate(lines):
        try:
            values.append(bodies.parse(line))
        except Problem as problem:
            values.append(line.decode("utf-8", "replace"))
            faults[index] = [error for error in problem.errors if isinstance(error, FieldFault)]
    return _understood(values, faults)


def _understood(values: list[Any], faults: dict[int, list[FieldFault]]) -> _Batch:
    """Check all items but those that are known to be faulty."""
    _check_count(len(values))
    default_url = services().settings.default_webhook_url
    requests: list[NotificationRequest | None] = []
    for index, value in enumerate(values):
        request = None
        if index not in faults:
            try:
                request = schemas.load(value, default_webhook_url=default_url)
            except schemas.InvalidRequestError as error:
                faults[index] = error.faults
        requests.append(request)
    for index, fault in services().known.faults(requests, tenant_id=tenant_id()).items():
        requests[index], faults[index] = None, [fault]
    return _Batch(values, requests, faults)


def _check_count(count: int) -> None:
    if count == 0:
        raise invalid([FieldFault("", Fault("empty", "a batch has at least one item"))])
    if count > MAX_ITEMS:
        raise Problem("batch_too_long", f"{count} items; a batch has at most {MAX_ITEMS}")
