"""The rule that SQL is put together from constants of our own, and from nothing that came from outside.

mypy takes `LiteralString` for `str`. Here it is held: what is run, and what is passed or assigned as a LiteralString,
has to be a constant, or be made from constants, as far as one module shows.
"""

import ast
import re
from collections.abc import Iterator
from typing import Final

from tests.own_rules.source import Finding, Source

_RUN: Final = {"execute", "executemany", "stream", "copy"}
_LOOKS_LIKE_SQL: Final = re.compile(
    r"\b(?:SELECT\b.*\bFROM|INSERT INTO|UPDATE\b.*\bSET|DELETE FROM|SET (?:LOCAL )?\w+ (?:=|TO)|COPY \w+|ALTER \w+|"
    r"CREATE \w+|DROP \w+|WITH \w+ AS)\b",
    re.DOTALL,
)
_CONSTANT: Final = re.compile(r"_?[A-Z][A-Z0-9_]*")
_LITERAL: Final = "LiteralString"
Function = ast.FunctionDef | ast.AsyncFunctionDef
Scope = tuple[Function, ...]
"""The functions something is in, the innermost first."""


def sql_put_together_from_values(source: Source) -> Iterator[Finding]:
    """Values go as parameters."""
    judge = _Judge(source)
    for scope, node in judge.nodes:
        for one in judge.faulty_in(node, scope):
            yield source.finding("sql_put_together_from_values", one)


def _says_literal(annotation: ast.expr | None) -> bool:
    return annotation is not None and _LITERAL in ast.unparse(annotation)


class _Judge:
    def __init__(self, source: Source) -> None:
        self.nodes = list(self._walk(source.tree))
        self._constants = source.constants
        self._returns: dict[str, ast.expr | None] = {}
        self._parameters: dict[str, list[ast.arg | ast.AnnAssign]] = {}
        for _, node in self.nodes:
            if isinstance(node, Function):
                self._returns[node.name] = node.returns
                known = (*node.args.args, *node.args.kwonlyargs)
                self._parameters[node.name] = [one for one in known if one.arg not in ("self", "cls")]
            elif isinstance(node, ast.ClassDef):  # a dataclass or a named tuple, whose fields are what it is made from
                self._parameters[node.name] = [one for one in node.body if isinstance(one, ast.AnnAssign)]
        self._asking: set[tuple[Scope, str]] = set()

    @staticmethod
    def _walk(tree: ast.Module) -> Iterator[tuple[Scope, ast.AST]]:
        stack: list[tuple[Scope, ast.AST]] = [((), tree)]
        while stack:
            scope, node = stack.pop()
            yield scope, node
            inner = (node, *scope) if isinstance(node, Function) else scope
            stack += [(inner, child) for child in ast.iter_child_nodes(node)]

    def faulty_in(self, node: ast.AST, scope: Scope) -> Iterator[ast.expr]:
        """Which expressions of a node should be made from constants and are not."""
        wanted: list[ast.expr] = []
        if isinstance(node, ast.Call):
            wanted = self._arguments(node)
        elif isinstance(node, ast.JoinedStr):
            words = "".join(str(part.value) for part in node.values if isinstance(part, ast.Constant))
            wanted = [node] if _LOOKS_LIKE_SQL.search(words) else []
        elif isinstance(node, ast.AnnAssign) and _says_literal(node.annotation) and node.value is not None:
            wanted = [node.value]
        elif isinstance(node, ast.Return) and node.value is not None and scope:
            wanted = [node.value] if _says_literal(scope[0].returns) else []
        return (one for one in wanted if not self.is_literal(one, scope))

    def _arguments(self, call: ast.Call) -> list[ast.expr]:
        """Which arguments of a call should be literal: the SQL of what runs it, and each that says LiteralString."""
        wanted: list[ast.expr] = []
        if isinstance(call.func, ast.Attribute) and call.func.attr in _RUN and not _is_no_sql(call):
            place = 1 if isinstance(call.func.value, ast.Name) and call.func.value.id == "prepared" else 0
            wanted += call.args[place : place + 1]
        own = isinstance(call.func, ast.Attribute) and getattr(call.func.value, "id", "") in ("self", "cls")
        name = getattr(call.func, "attr", "") if own else getattr(call.func, "id", "")
        parameters = self._parameters.get(name, [])
        wanted += [value for one, value in zip(parameters, call.args, strict=False) if _says_literal(one.annotation)]
        named = {_name_of(one) for one in parameters if _says_literal(one.annotation)}
        return wanted + [one.value for one in call.keywords if one.arg in named]

    def is_literal(self, node: ast.expr, scope: Scope) -> bool:  # noqa: PLR0911 - one line a kind
        """Say whether a value is made from constants alone."""
        if isinstance(node, ast.Constant):
            return True
        if isinstance(node, ast.JoinedStr):
            return all(self.is_literal(one.value, scope) for one in node.values if isinstance(one, ast.FormattedValue))
        if isinstance(node, ast.BinOp):
            both = self.is_literal(node.left, scope) and self.is_literal(node.right, scope)
            return both and isinstance(node.op, (ast.Add, ast.Mult))
        if isinstance(node, ast.IfExp):
            return self.is_literal(node.body, scope) and self.is_literal(node.orelse, scope)
        if isinstance(node, (ast.Tuple, ast.List)):
            return all(self.is_literal(one, scope) for one in node.elts)
        if isinstance(node, ast.Attribute):
            return self._is_literal_attribute(node.attr)
        if isinstance(node, ast.Call):
            return self._returns_literal(node, scope)
        return isinstance(node, ast.Name) and self._is_literal_name(node.id, scope)

    def _is_literal_attribute(self, name: str) -> bool:
        """A field that is declared a LiteralString, or one that is set from such a parameter."""
        for scope, node in self.nodes:
            if isinstance(node, ast.AnnAssign) and getattr(node.target, "id", None) == name:
                if _says_literal(node.annotation):
                    return True
            elif isinstance(node, ast.Assign):
                for target, value in _pairs(node):
                    if isinstance(target, ast.Attribute) and target.attr == name and isinstance(value, ast.Name):
                        return self._is_literal_name(value.id, scope)
        return _CONSTANT.fullmatch(name) is not None

    def _returns_literal(self, call: ast.Call, scope: Scope) -> bool:
        if isinstance(call.func, ast.Attribute) and call.func.attr == "join" and len(call.args) == 1:
            joined = call.args[0]
            if isinstance(joined, (ast.GeneratorExp, ast.ListComp)):
                return self.is_literal(call.func.value, scope) and self.is_literal(joined.elt, scope)
            return self.is_literal(call.func.value, scope) and self.is_literal(joined, scope)
        return _says_literal(self._returns.get(getattr(call.func, "id", "")))

    def _is_literal_name(self, name: str, scope: Scope) -> bool:
        if _CONSTANT.fullmatch(name):  # of this module, where its own assignment is judged, or of another
            value = self._constants.get(name)
            return value is None or self._is_literal_once((), name, [value])
        for place, function in enumerate(scope):
            arguments = (*function.args.args, *function.args.kwonlyargs)
            if (parameter := next((one for one in arguments if one.arg == name), None)) is not None:
                return _says_literal(parameter.annotation)
            if values := list(_assigned(name, function)):
                return self._is_literal_once(scope[place:], name, values)
        return False

    def _is_literal_once(self, scope: Scope, name: str, values: list[ast.expr | None]) -> bool:
        """Judge what a name is given; where that is made from the name itself, the rest of it decides."""
        if (scope, name) in self._asking:
            return True
        self._asking.add((scope, name))
        found = all(value is not None and self.is_literal(value, scope) for value in values)
        self._asking.discard((scope, name))
        return found


def _name_of(parameter: ast.arg | ast.AnnAssign) -> str:
    return parameter.arg if isinstance(parameter, ast.arg) else getattr(parameter.target, "id", "")


def _pairs(node: ast.Assign) -> Iterator[tuple[ast.expr, ast.expr]]:
    for target in node.targets:
        if isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            yield from zip(target.elts, node.value.elts, strict=False)
        else:
            yield target, node.value


def _assigned(name: str, scope: Function) -> Iterator[ast.expr | None]:
    """Whatever a local name is given; None for what cannot be told."""
    for node in ast.walk(scope):
        if isinstance(node, ast.Assign):
            yield from (value for target, value in _pairs(node) if getattr(target, "id", None) == name)
        elif isinstance(node, (ast.AnnAssign, ast.AugAssign)) and getattr(node.target, "id", None) == name:
            yield node.value
        elif isinstance(node, (ast.For, ast.AsyncFor, ast.comprehension)):
            yield from _looped(name, node.target, node.iter)
        elif isinstance(node, ast.withitem) and getattr(node.optional_vars, "id", None) == name:
            yield None


def _looped(name: str, target: ast.expr, over: ast.expr) -> Iterator[ast.expr | None]:
    if getattr(target, "id", None) == name:
        yield over
    elif isinstance(target, ast.Tuple):
        for place, one in enumerate(target.elts):
            if getattr(one, "id", None) == name:
                rows = over.elts if isinstance(over, (ast.Tuple, ast.List)) else [None]
                yield from (row.elts[place] if isinstance(row, ast.Tuple) else None for row in rows)


def _is_no_sql(call: ast.Call) -> bool:
    """Other things that are run or copied: `dict.copy()`, `shutil.copy(a, b)`."""
    return (
        isinstance(call.func, ast.Attribute)
        and call.func.attr == "copy"
        and (not call.args or (isinstance(call.func.value, ast.Name) and call.func.value.id in ("shutil", "copy")))
    )
