"""A module as the rules see it: its tree, and what its names stand for."""

import ast
import functools
from collections.abc import Iterable
from pathlib import Path
from typing import NamedTuple


class Finding(NamedTuple):
    """A line that breaks a rule."""

    rule: str
    line: int
    text: str


class Source:
    """One module: `path` is relative to the repository."""

    def __init__(self, path: str, tree: ast.Module) -> None:
        self.path = path
        self.tree = tree
        self.nodes = list(ast.walk(tree))
        self.calls = [node for node in self.nodes if isinstance(node, ast.Call)]

    @classmethod
    def of(cls, text: str, path: str = "planted.py") -> "Source":
        """Read a module's text."""
        return cls(path, ast.parse(text))

    @functools.cached_property
    def aliases(self) -> dict[str, str]:
        """What each imported name stands for, as a dotted name from the top."""
        found = {}
        for node in self.nodes:
            if isinstance(node, ast.Import):
                for one in node.names:
                    found[one.asname or one.name.partition(".")[0]] = one.name if one.asname else one.name.split(".")[0]
            elif isinstance(node, ast.ImportFrom) and not node.level:
                found |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
        return found

    @functools.cached_property
    def constants(self) -> dict[str, ast.expr]:
        """What is assigned at the top of the module, once."""
        found: dict[str, ast.expr] = {}
        for node in self.tree.body:
            targets = (
                node.targets
                if isinstance(node, ast.Assign)
                else [node.target]
                if isinstance(node, ast.AnnAssign)
                else []
            )
            if isinstance(node, (ast.Assign, ast.AnnAssign)) and node.value is not None:
                found |= {one.id: node.value for one in targets if isinstance(one, ast.Name)}
        return found

    def finding(self, rule: str, node: ast.expr | ast.stmt) -> Finding:
        """Name the line of a node."""
        return Finding(rule, node.lineno, ast.unparse(node)[:100])


def dotted(node: ast.expr, aliases: dict[str, str]) -> str:
    """Return the dotted name of what an expression names, imports followed; what is no name begins with a dot."""
    if isinstance(node, ast.Name):
        return aliases.get(node.id, node.id)
    if isinstance(node, ast.Attribute):
        return f"{dotted(node.value, aliases)}.{node.attr}"
    return ""


def keyword(call: ast.Call, name: str) -> ast.expr | None:
    """Return what a call passes under a name."""
    return next((one.value for one in call.keywords if one.arg == name), None)


def modules_below(root: Path, packages: Iterable[str]) -> list[Source]:
    """Read every module of these packages."""
    paths = sorted(path for package in packages for path in (root / package).rglob("*.py"))
    return [Source.of(path.read_text(encoding="utf-8"), str(path.relative_to(root))) for path in paths]
