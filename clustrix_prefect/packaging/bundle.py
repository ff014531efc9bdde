"""A task's function with all of the user's code that it needs, as source.

One mechanism for every Python on the far side. A bundle is the same bytes for the same code,
whatever the machine, the directory or the time, and has two parts: the code, and the values
that the code finds around it (variables of its module, what a closure holds). The far side
compiles the one and unpickles the other: `far_side/bundle.py`.
"""

from __future__ import annotations

import ast
import functools
import io
import json
import sys
import threading
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.packaging import pickling
from clustrix_prefect.packaging.effects import take_effects
from clustrix_prefect.packaging.identity import digest, sha256
from clustrix_prefect.packaging.imports import Imports, of_tree, top_level
from clustrix_prefect.packaging.local_modules import LocalModules
from clustrix_prefect.packaging.ownership import is_user_module, look_up, plain_function
from clustrix_prefect.packaging.parts import SharedValues, shared_values
from clustrix_prefect.packaging.pickling import CallPickler, Met, Reference
from clustrix_prefect.packaging.slicing import Piece, Slice, Variable
from clustrix_prefect.packaging.sources import InnerFunction, ModuleSources, has_source

# Captured values up to this size are pickled for each call, as they may have changed meanwhile;
# larger ones once for all calls of a map.
_PICKLED_EACH_TIME = 16 * 1024


@dataclass(frozen=True)
class Bundle:
    """What travels of a function.

    Attributes:
        code: The document that the far side reads.
        code_sha256: Its name in the far side's store.
        captured: Pickles of the values around the code, or None.
        captured_sha256: Their name in the far side's store.
        identity: The same for the same code and values, in any process.
        imports: What the code imports that does not travel with it.
        needs_sha256: Names the code together with what it imports.
        sources: The source in it: the file, the line where it begins, the text.
        met: The user's code that it brings.
    """

    code: bytes
    code_sha256: str
    captured: bytes | None
    captured_sha256: str | None
    identity: str
    imports: Imports
    needs_sha256: str
    sources: tuple[tuple[str, int, str], ...]
    met: frozenset[Met]


class FunctionBundles:
    """The bundles of one function for one version of Python.

    Args:
        function: What a task runs.
        python: The far side's Python version.
        name: The task's name, for errors.
    """

    def __init__(self, function: Callable[..., Any], python: tuple[int, int], name: str) -> None:
        self._function = function
        self._python = python
        self._name = name
        self._made: dict[frozenset[Met], _Built] = {}
        self._lock = threading.Lock()

    def for_arguments(self, met: frozenset[Met]) -> Bundle:
        """The bundle that also brings the code that a call's arguments name.

        Raises:
            NotPortable: The function cannot travel.
        """
        with self._lock:
            built = self._made.get(met)
            if built is None or not built.is_current():
                builder = _Builder(self._function, self._python, f"the task {self._name!r}")
                built = self._made[met] = builder.build(met)
        return built.bundle


@dataclass
class _Built:
    """A bundle, and whether it still says what is there."""

    bundle: Bundle
    values: list[tuple[Callable[[], Any], Any]]
    classes: list[tuple[type, dict[str, Any]]]
    pickle_again: Callable[[], bytes | None]
    checked_for: SharedValues | None

    def is_current(self) -> bool:
        """Whether the variables around the function are what they were."""
        if any(_now(read) is not value for read, value in self.values):
            return False
        if not all(_is_as_before(each, before) for each, before in self.classes):
            return False
        captured, shared = self.bundle.captured, shared_values()
        if captured is None:
            return True
        if len(captured) > _PICKLED_EACH_TIME and shared is not None and shared is self.checked_for:
            return True
        self.checked_for = shared
        try:
            return self.pickle_again() == captured
        except NotPortable:
            return False  # building it anew says why


def _now(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (AttributeError, KeyError):  # it was deleted
        return _Built


def _is_as_before(each: type, before: dict[str, Any]) -> bool:
    now = vars(each)
    return len(now) == len(before) and all(now.get(key) is value for key, value in before.items())


@dataclass(frozen=True)
class _Pickles:
    """The values around a function.

    Attributes:
        data: Their pickles, or None.
        met: The user's code that they name.
        named: For each variable, what of its own module it names.
    """

    data: bytes | None
    met: set[Met]
    named: list[tuple[Slice, Variable, set[str]]]


def _names_in(module: str, met: set[Met]) -> set[str]:
    return {each.name for each in met if isinstance(each, Reference) and each.module == module}


class _Builder:
    """Collects what a function needs, and makes a bundle of it."""

    def __init__(self, function: Callable[..., Any], python: tuple[int, int], name: str) -> None:
        self._function = function
        self._python = python
        self._name = name
        self._home, self._home_namespace = _home_of(function)
        self._modules = LocalModules()
        self._slices: dict[str, Slice] = {}
        self._inner: dict[str, InnerFunction] = {}
        self._packages: set[str] = set()
        self._followed: set[int] = set()
        self._met: set[Met] = set()

    def build(self, extra: Iterable[Met]) -> _Built:
        """The bundle, with this code besides what the function needs."""
        entry = self._entry()
        for each in (*sorted(extra, key=repr), *([entry] if entry is not None else ())):
            self._need(each)
        captured = self._captured(entry)
        document = self._document(entry)
        code = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        imports = self._imports()
        captured_sha256 = None if captured is None else sha256(captured)
        bundle = Bundle(
            code=code,
            code_sha256=sha256(code),
            captured=captured,
            captured_sha256=captured_sha256,
            identity=digest(*self._essence(entry), captured_sha256 or ""),
            imports=imports,
            needs_sha256=digest(sha256(code), *sorted(imports.required), *sorted(imports.optional)),
            sources=self._sources(),
            met=frozenset(self._met),
        )
        values: list[tuple[Callable[[], Any], Any]] = [
            (functools.partial(part.value, variable), part.value(variable))
            for part in self._slices.values()
            for variable in part.variables.values()
        ]
        classes = [each for part in self._slices.values() for each in part.classes]
        return _Built(bundle, values, classes, lambda: self._pickle(entry).data, shared_values())

    def _entry(self) -> Reference | None:
        """The function as something that a module calls by name; None if none does."""
        function = self._function
        module = getattr(function, "__module__", None)
        name = getattr(function, "__qualname__", "")
        if not module or (is_user_module(module) and not has_source(module)):
            return None
        if plain_function(look_up(module, name)) is function:
            return Reference(module, name)
        return None

    # --- what is needed -------------------------------------------------------------------

    def _need(self, each: Met) -> None:
        if each in self._met:
            return
        self._met.add(each)
        if isinstance(each, InnerFunction):
            self._inner[each.key] = each
            self._follow([each.node], each.namespace)
            part = self._slice_of(each.module)
            if part is not None:
                part.need_inner(each)
                self._follow_slice(part)
            return
        if not is_user_module(each.module):
            self._packages.add(each.module)
            return
        part = self._slice_of(each.module) if each.name else None
        if part is None:
            self._modules.add(each.module)
        else:
            part.need([each.name.partition(".")[0]])
            self._follow_slice(part)

    def _slice_of(self, module: str) -> Slice | None:
        """The slice of this module; None if it travels whole, or not at all."""
        if module not in ("__main__", self._home):
            return None
        if module in self._modules.found:
            return None  # another module imports it, so that it has to be one that can be
        if module not in self._slices:
            namespace = vars(sys.modules[module]) if module in sys.modules else {}
            if module == self._home:
                namespace = self._home_namespace
            self._slices[module] = Slice(ModuleSources(module, namespace))
        return self._slices[module]

    def _follow_slice(self, part: Slice) -> None:
        """Find the modules that a slice imports."""
        nodes = [piece.node for piece in part.pieces.values()]
        self._follow(nodes, part.sources.namespace)

    def _follow(self, nodes: Iterable[ast.AST], namespace: dict[str, Any]) -> None:
        new = [node for node in nodes if id(node) not in self._followed]
        self._followed.update(map(id, new))
        for node in new:
            self._modules.follow(node, namespace.get("__package__") or "")
        if self._home in self._modules.found:
            self._slices.pop(self._home, None)

    # --- values ---------------------------------------------------------------------------

    def _captured(self, entry: Reference | None) -> bytes | None:
        """The pickles of all variables, in the order in which the far side needs them."""
        while True:
            pickled = self._pickle(entry)
            new = pickled.met - self._met
            for each in sorted(new, key=repr):
                self._need(each)
            moved = [part.load_after(variable, names) for part, variable, names in pickled.named]
            if not new and not any(moved) and not self._take_effects():
                return pickled.data

    def _take_effects(self) -> bool:
        """Take in what was registered with the user's code that travels."""
        taken = [
            take_effects(part, self._modules.found, self._reach) for part in self._slices.values()
        ]
        for part in list(self._slices.values()):
            self._follow_slice(part)
        return any(taken)

    def _reach(self, module: str) -> set[str]:
        modules = LocalModules()
        modules.add(module)
        return set(modules.found)

    def _pickle(self, entry: Reference | None) -> _Pickles:
        buffer = io.BytesIO()
        pickler = CallPickler(buffer, self._python)
        met: set[Met] = set()
        named: list[tuple[Slice, Variable, set[str]]] = []
        for part in self._in_order():
            for piece in part.in_order:
                if isinstance(piece, Variable):
                    pickler.met = set()
                    variable = f"the variable {piece.name!r} of {part.sources.name}"
                    try:
                        pickler.dump_named(
                            part.value(piece), f"{variable}, which {self._name} uses,"
                        )
                    except NotPortable as error:
                        if variable.partition(" ")[2] in error.what:
                            raise
                        text = f"{error.what.rstrip('.')}: {variable}, which {self._name} uses."
                        raise NotPortable(text, error.remedy) from error
                    met |= pickler.met
                    named.append((part, piece, _names_in(part.sources.name, pickler.met)))
        pickler.met = met
        if entry is None:
            pickler.dump_named(self._function, self._name)
        return _Pickles(buffer.getvalue() or None, met, named)

    def _in_order(self) -> list[Slice]:
        # A script may hold what its function's module defines, but not the other way round.
        return [
            self._slices[name] for name in sorted(self._slices, key=lambda n: (n != self._home, n))
        ]

    # --- the document ---------------------------------------------------------------------

    def _document(self, entry: Reference | None) -> dict[str, Any]:
        return {
            "python": list(pickling.HERE),
            "entry": None if entry is None else {"module": entry.module, "name": entry.name},
            "modules": [
                {
                    "name": module.name,
                    "path": module.path,
                    "package": module.is_package,
                    "source": module.source,
                }
                for _, module in sorted(self._modules.found.items())
            ],
            "slices": [
                {
                    "name": part.sources.name,
                    "package": part.sources.namespace.get("__package__") or "",
                    "path": part.sources.files[0].shown_as if part.sources.files else "",
                    "pieces": [_described(piece) for piece in part.in_order],
                }
                for part in self._in_order()
            ],
            "inner": [
                {
                    "key": inner.key,
                    "module": inner.module,
                    "name": inner.name,
                    "path": inner.path,
                    "line": inner.line,
                    "source": inner.source,
                    "free": inner.free,
                }
                for _, inner in sorted(self._inner.items())
            ],
        }

    def _sources(self) -> tuple[tuple[str, int, str], ...]:
        return (
            *((module.path, 1, module.source) for _, module in sorted(self._modules.found.items())),
            *((piece.path, piece.line, piece.source) for piece in self._pieces()),
            *((inner.path, inner.line, inner.source) for _, inner in sorted(self._inner.items())),
        )

    def _pieces(self) -> Iterator[Piece]:
        for part in self._in_order():
            yield from (piece for piece in part.in_order if isinstance(piece, Piece))

    def _imports(self) -> Imports:
        nodes: list[ast.AST] = [
            *(module.tree for module in self._modules.found.values()),
            *(piece.node for piece in self._pieces()),
            *(inner.node for inner in self._inner.values()),
        ]
        found = functools.reduce(Imports.__or__, map(of_tree, nodes), Imports())
        brought = {name.partition(".")[0] for name in self._modules.found}
        return Imports(
            frozenset(name for name in found.required if top_level(name) not in brought)
            | self._modules.compiled
            | self._packages,
            frozenset(name for name in found.optional if top_level(name) not in brought),
        )

    def _essence(self, entry: Reference | None) -> list[str]:
        """What the code says, wherever it is written."""
        said = [repr(entry)]
        for name, module in sorted(self._modules.found.items()):
            said += [name, module.source]
        for part in self._in_order():
            said.append(part.sources.name)
            for piece in part.in_order:
                said.append(piece.essence if isinstance(piece, Piece) else piece.name)
        for key, inner in sorted(self._inner.items()):
            said += [key, inner.module]
        return said


def _described(piece: Piece | Variable) -> dict[str, Any]:
    if isinstance(piece, Variable):
        return {"variable": piece.name}
    return {
        "path": piece.path,
        "line": piece.line,
        "source": piece.source,
        "annotations": piece.annotations,
        "wrapped": dict(piece.wrapped),
    }


def _home_of(function: Any) -> tuple[str | None, dict[str, Any]]:
    """The user's module in which a function was written, and what is in that module."""
    while True:
        function = plain_function(function)
        if isinstance(function, functools.partial):
            function = function.func
        elif isinstance(function, types.MethodType):
            function = function.__func__
        elif hasattr(function, "__wrapped__"):
            function = function.__wrapped__
        else:
            break
    namespace = getattr(function, "__globals__", {})
    module = namespace.get("__name__") or getattr(function, "__module__", None)
    if not isinstance(module, str) or not is_user_module(module):
        return None, {}
    return module, namespace or vars(sys.modules[module])
