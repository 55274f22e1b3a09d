"""Routes and their documentation in one place, with types: flask-smorest has none."""

from collections.abc import Callable, Mapping
from typing import Any, Final, TypeVar

from flask_smorest import Blueprint

from api_service.callers import Scope

View = TypeVar("View", bound=Callable[..., Any])
_OPERATIONS: Final[dict[tuple[str, str], Mapping[str, Any]]] = {}
"""What the document says about each method and path."""
_SCOPES: Final[dict[tuple[str, str], Scope | None]] = {}


def declares(method: str, rule: str, where: str, name: str | None = None) -> bool:
    """Say whether an operation is documented to take such a parameter: `where` is query or header, None any name."""
    parameters = _OPERATIONS.get(("GET" if method == "HEAD" else method, rule), {}).get("parameters", ())
    return any(one["in"] == where and name in (None, one.get("name")) for one in parameters)


def scope_of(method: str, rule: str) -> Scope | None:
    """Return what a caller needs for an operation, None where anybody may. Raises KeyError where that was not said."""
    return _SCOPES["GET" if method == "HEAD" else method, rule]


class Routes:
    """A group of routes under one tag of the OpenAPI document."""

    def __init__(self, name: str, description: str) -> None:
        self.blueprint: Any = Blueprint(name, __name__, description=description)

    def add(
        self, method: str, *rules: str, scope: Scope | None, doc: Mapping[str, Any], **options: Any
    ) -> Callable[[View], View]:
        """Serve a view at one or more paths; `doc` is its OpenAPI operation, its docstring the summary.

        `scope` is what its callers need, None where anybody may call. `options` are those of werkzeug's Rule.
        """

        def register(view: View) -> View:
            documented = self.blueprint.doc(**doc)(view)
            for rule in rules:
                _OPERATIONS[method, rule] = doc
                _SCOPES[method, rule] = scope
                self.blueprint.add_url_rule(rule, view_func=documented, methods=[method], **options)
            return view

        return register
