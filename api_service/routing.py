"""Routes and their documentation in one place, with types: flask-smorest has none."""

from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any, Final, TypeVar

from flask_smorest import Blueprint

from api_service.callers import Scope
from api_service.documenting import common, problems

View = TypeVar("View", bound=Callable[..., Any])


class AnyCaller(Enum):
    """What an operation needs that is for each caller, whatever their scopes."""

    ANY_CALLER = "any caller"


ANY_CALLER: Final = AnyCaller.ANY_CALLER
Need = Scope | AnyCaller | None
"""What the callers of an operation need: a scope, being known, or, None, nothing."""
_OPERATIONS: Final[dict[tuple[str, str], Mapping[str, Any]]] = {}
"""What the document says about each method and path."""
_NEEDS: Final[dict[tuple[str, str], Need]] = {}


def declares(method: str, rule: str, where: str, name: str | None = None) -> bool:
    """Say whether an operation is documented to take such a parameter: `where` is query or header, None any name."""
    parameters = _OPERATIONS.get(("GET" if method == "HEAD" else method, rule), {}).get("parameters", ())
    return any(one["in"] == where and name in (None, one.get("name")) for one in parameters)


def scope_of(method: str, rule: str) -> Need:
    """Return what a caller needs for an operation. Raises KeyError where that was not said."""
    return _NEEDS["GET" if method == "HEAD" else method, rule]


def with_security(doc: Mapping[str, Any], need: Need) -> dict[str, Any]:
    """Return an operation as the document has it: who may call it, and how others are answered.

    The scope stands beside each way of saying who one is, as OpenAPI 3.1 has it for roles.
    """
    if "security" in doc:
        return dict(doc)
    if need is None:
        return {**doc, "security": []}
    scopes = [need.value] if isinstance(need, Scope) else []
    quota = ("quota_used_up",) if need is Scope.SEND else ()
    refused = problems("unauthorized", "forbidden", "rate_limited", *quota)
    return {**doc, "security": [{"bearer": scopes}, {"apiKey": scopes}], "responses": refused | doc["responses"]}


class Routes:
    """A group of routes under one tag of the OpenAPI document."""

    def __init__(self, name: str, description: str) -> None:
        self.blueprint: Any = Blueprint(name, __name__, description=description)

    def add(
        self, method: str, *rules: str, scope: Need, doc: Mapping[str, Any], **options: Any
    ) -> Callable[[View], View]:
        """Serve a view at one or more paths; `doc` is its OpenAPI operation, its docstring the summary.

        `scope` is what its callers need. `options` are those of werkzeug's Rule.
        """

        def register(view: View) -> View:
            described = with_security(doc, scope)
            described["responses"] = common() | described["responses"]
            documented = self.blueprint.doc(**described)(view)
            for rule in rules:
                _OPERATIONS[method, rule] = doc
                _NEEDS[method, rule] = scope
                self.blueprint.add_url_rule(rule, view_func=documented, methods=[method], **options)
            return view

        return register
