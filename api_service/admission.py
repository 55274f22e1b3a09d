"""The way in, for whoever serves a request: who calls, how often already, and whether they may."""

from typing import Final
from wsgiref.types import WSGIEnvironment

from api_service.callers import Caller, Scope, admitted
from api_service.finishing import Begun
from api_service.problems import Problem
from api_service.representations import NOTIFICATION_PATHS
from api_service.routing import ANY_CALLER, AnyCaller
from api_service.services import Services

_WRITING: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_SENDING: Final = frozenset(path + end for path in NOTIFICATION_PATHS for end in ("", "/batch"))


def admit(services: Services, environ: WSGIEnvironment, begun: Begun, need: Scope | AnyCaller, rule: str) -> Caller:
    """Return who a request is from, counted once however it is served; `rule` is the path it is for, as routed.

    Raises Problem: 401 and, counted by address, 429 where the caller is not known; 429 where there were too many of its
    requests; 403 where it lacks the scope; or what the gate raises.
    """
    if begun.caller is None:
        try:
            caller = services.gate.caller(environ)
        except Problem as problem:
            if problem.code == "unauthorized":
                services.limits.admit_stranger(begun.client.address)
            raise
        is_action = environ["REQUEST_METHOD"] in _WRITING and rule not in _SENDING
        begun.limits = services.limits.admit(caller, is_action=is_action)
        begun.caller = caller
    return begun.caller if need is ANY_CALLER else admitted(begun.caller, need)
