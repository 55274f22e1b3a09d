"""Changing modules of the product as they are imported: texts replaced, functions wrapped, constants set.

The product itself knows nothing of this. A change names what it expects to find, and one that does not find it is an
error, so that a test of a mutant can never quietly become a test of the product as it is.
"""

import ast
import importlib.abc
import importlib.machinery
import sys
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import CodeType, ModuleType
from typing import Any

REPOSITORY = Path(__file__).resolve().parents[2]
PRODUCT = ("api_service", "outbox_relay", "delivery_consumer", "dlq_consumer", "shared")
Wrap = Callable[[Callable[..., Any]], Callable[..., Any]]


class NotFoundInProductError(Exception):
    """The product has no such module, name or text: whoever moved it has to move this with it."""


@dataclass(frozen=True, slots=True)
class Edit:
    """A text of a module that occurs there exactly once, and what stands in its place."""

    module: str
    old: str
    new: str


@dataclass(frozen=True, slots=True)
class Place:
    """A function of the product, such as `Flight.produce` in `outbox_relay.flight`."""

    module: str
    name: str


@dataclass(slots=True)
class _Changes:
    edits: list[Edit] = field(default_factory=list)
    wraps: list[tuple[str, Wrap]] = field(default_factory=list)
    constants: list[tuple[str, Any]] = field(default_factory=list)


class Rewriter(importlib.abc.MetaPathFinder):
    """Holds changes, and makes them when their modules are imported. Install it before the first of them is."""

    def __init__(self) -> None:
        self._changes: defaultdict[str, _Changes] = defaultdict(_Changes)

    def edit(self, edits: Iterable[Edit]) -> None:
        """Have texts replaced. Raises NotFoundInProductError unless each occurs exactly once."""
        for edit in edits:
            check_edit(edit)
            self._changes[edit.module].edits.append(edit)

    def wrap(self, place: Place, wrap: Wrap) -> None:
        """Have a function replaced by what `wrap` makes of it. Raises NotFoundInProductError."""
        check_place(place)
        self._changes[place.module].wraps.append((place.name, wrap))

    def set(self, place: Place, value: Any) -> None:
        """Have a constant of a module set to another value. Raises NotFoundInProductError."""
        check_constant(place)
        self._changes[place.module].constants.append((place.name, value))

    def install(self) -> None:
        """From now on imports go through here."""
        if early := sorted(set(self._changes) & set(sys.modules)):
            raise RuntimeError(f"imported before it could be changed: {', '.join(early)}")
        sys.meta_path.insert(0, self)

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        """Find a module that is to be changed; all others are left to the usual finders."""
        if fullname not in self._changes:
            return None
        spec = importlib.machinery.PathFinder.find_spec(fullname, path, target)
        if spec is None or spec.origin is None:
            raise NotFoundInProductError(f"there is no module {fullname}")
        spec.loader = _Loader(fullname, spec.origin, self._changes[fullname])
        return spec


class _Loader(importlib.machinery.SourceFileLoader):
    """Loads one module with its changes; never from, and never into, the cache of compiled modules."""

    def __init__(self, fullname: str, path: str, changes: _Changes) -> None:
        super().__init__(fullname, path)
        self._own_changes = changes

    def get_code(self, fullname: str) -> CodeType:
        text = edited(Path(self.path).read_text(encoding="utf-8"), self._own_changes.edits)
        return compile(text, self.path, "exec", dont_inherit=True)

    def exec_module(self, module: ModuleType) -> None:
        super().exec_module(module)
        for name, value in self._own_changes.constants:
            setattr(module, name, value)
        for name, wrap in self._own_changes.wraps:
            *owners, last = name.split(".")
            owner: Any = module
            for part in owners:
                owner = getattr(owner, part)
            setattr(owner, last, wrap(vars(owner)[last]))


def edited(text: str, edits: Iterable[Edit]) -> str:
    """Return a module's text with each edit made. Raises NotFoundInProductError."""
    for edit in edits:
        if (count := text.count(edit.old)) != 1:
            raise NotFoundInProductError(f"{edit.module} has this {count} times, not once:\n{edit.old}")
        text = text.replace(edit.old, edit.new)
    return text


def source_of(module: str) -> Path:
    """Return the file of a module of the product, without importing anything. Raises NotFoundInProductError."""
    if module.partition(".")[0] not in PRODUCT:
        raise NotFoundInProductError(f"{module} is not of the product")
    base = REPOSITORY / module.replace(".", "/")
    for path in (base.with_suffix(".py"), base / "__init__.py"):
        if path.is_file():
            return path
    raise NotFoundInProductError(f"there is no module {module}")


def check_edit(edit: Edit) -> None:
    """Raise NotFoundInProductError unless the old text is there exactly once and the new one is Python."""
    path = source_of(edit.module)
    compile(edited(path.read_text(encoding="utf-8"), [edit]), str(path), "exec", dont_inherit=True)


def check_place(place: Place) -> None:
    """Raise NotFoundInProductError unless the module defines that function, where its name says."""
    scope: Sequence[ast.stmt] = _body(place.module)
    *classes, function = place.name.split(".")
    for name in classes:
        found = [node for node in scope if isinstance(node, ast.ClassDef) and node.name == name]
        if not found:
            raise NotFoundInProductError(f"{place.module} has no class {place.name.rpartition('.')[0]}")
        scope = found[0].body
    if not any(isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name == function for node in scope):
        raise NotFoundInProductError(f"{place.module} has no function {place.name}")


def check_constant(place: Place) -> None:
    """Raise NotFoundInProductError unless the module gives that name a value."""
    names = {
        target.id
        for node in _body(place.module)
        if isinstance(node, ast.Assign | ast.AnnAssign)
        for targets in (node.targets if isinstance(node, ast.Assign) else [node.target],)
        for target in _names(targets)
    }
    if place.name not in names:
        raise NotFoundInProductError(f"{place.module} has no constant {place.name}")


def _names(targets: Sequence[ast.expr]) -> list[ast.Name]:
    flat = [one for target in targets for one in (target.elts if isinstance(target, ast.Tuple) else [target])]
    return [one for one in flat if isinstance(one, ast.Name)]


def _body(module: str) -> list[ast.stmt]:
    return ast.parse(source_of(module).read_text(encoding="utf-8")).body
