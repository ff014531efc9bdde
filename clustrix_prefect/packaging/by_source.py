"""A task's function with all of the user's code that it needs, as source.

For another minor version of Python than the flow's, to which no bytecode travels. There are
whole modules, *slices* of the flow's own, and functions that no module knows by name; and the
values that the code finds around it (variables of its module, what a closure holds). The far side
compiles the one and unpickles the other: `far_side/worker/bundle.py`.
"""

from __future__ import annotations

import ast
import builtins
import copyreg
import functools
import io
import json
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from typing import Any
from zoneinfo import ZoneInfo

from cloudpickle import CloudPickler
from cloudpickle.cloudpickle import _builtin_type
from prefect.tasks import Task

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.packaging import references
from clustrix_prefect.packaging.annotation_text import (
    refuse_looking,
    with_text,
    without_defaults,
)
from clustrix_prefect.packaging.bundle import Built, Bundle, Home
from clustrix_prefect.packaging.identity import digest, sha256
from clustrix_prefect.packaging.imports import Imports, of_tree, top_level
from clustrix_prefect.packaging.local_classes import cells_of, held_values, local_class
from clustrix_prefect.packaging.local_modules import LocalModule, LocalModules
from clustrix_prefect.packaging.ownership import is_user_module, look_up, plain_function
from clustrix_prefect.packaging.pickling import (
    HERE,
    CallPickler,
    LocalClass,
    Met,
    Reference,
    dotted,
    reduce_cached,
    sets_itself_up,
)
from clustrix_prefect.packaging.registrations import take_effects
from clustrix_prefect.packaging.runtime_values import Cached
from clustrix_prefect.packaging.slicing import Piece, Slice, Variable
from clustrix_prefect.packaging.sources import (
    InnerFunction,
    ModuleSources,
    has_source,
    inner_function,
)

# Types of values that older versions of Python do not have, and the first that has them.
_NEWER: dict[type, tuple[int, int]] = {
    ZoneInfo: (3, 9),
    types.GenericAlias: (3, 9),
    types.UnionType: (3, 10),
}
if sys.version_info >= (3, 11):
    _NEWER |= {builtins.ExceptionGroup: (3, 11), builtins.BaseExceptionGroup: (3, 11)}
# `from __future__ import annotations`
_OLDEST_WITH_TEXT = (3, 7)
# What numpy 2 makes of a generator of random numbers, numpy 1 cannot read.
_OLDEST_WITH_NUMPY_2 = (3, 9)


class SourcePickler(CallPickler):
    """Pickles for another minor version of Python: the user's code is only named in them.

    Functions and classes travel as source, in a bundle; the pickler notes which it met.
    """

    # The variable whose value is being pickled.
    defining = ""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        # What decorators make again far away, by its id: its module, and its name there.
        self.made: dict[int, tuple[str, str]] = {}
        # The ids of the cells of closures that were pickled.
        self.cells: set[int] = set()

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        needed = _NEWER.get(kind) or _needed_by_numpy(kind, self.python)
        if needed is not None:
            if self.python >= needed:
                return CloudPickler.reducer_override(self, obj)
            raise NotPortable(
                f"A {kind.__module__}.{kind.__qualname__} needs Python "
                f"{dotted(needed)}, and the cluster has {dotted(self.python)}.",
                "Send plain data instead, or set the block's `python` to a newer one.",
            )
        if kind is types.CellType:
            self.cells.add(id(obj))
            return references.cell, ()
        if id(obj) in self.made:
            self._note(*self.made[id(obj)])
            return references.named, self.made[id(obj)]
        if kind is types.MethodType and getattr(obj.__self__, obj.__name__, None) == obj:
            return getattr, (obj.__self__, obj.__name__)
        if kind is Cached and is_user_module(obj.__module__):
            if look_up(obj.__module__, obj.__qualname__) is obj:
                self._note(obj.__module__, obj.__qualname__)
                return references.named, (obj.__module__, obj.__qualname__)
            return reduce_cached(obj)
        if kind is types.CodeType:
            raise _without_source("bytecode", self.python)
        return super().reducer_override(obj)

    def _reduce_value(self, obj: Any) -> Any:
        kind = type(obj)
        if sets_itself_up(obj):
            return references.exception, (kind, obj.args, vars(obj))
        if is_user_module(kind.__module__) and isinstance(kind.__reduce__, types.FunctionType):
            reduced = obj.__reduce__()
            module = getattr(obj, "__module__", None)
            if isinstance(reduced, str) and module and look_up(module, reduced) is obj:
                if reduced == self.defining:
                    return copyreg.__newobj__, (kind,), vars(obj)  # type: ignore[attr-defined]
                self._note(module, reduced)
                return references.named, (module, reduced)
        return super()._reduce_value(obj)

    def _reduce_task(self, obj: Any) -> Any:
        name = getattr(obj.fn, "__qualname__", "")
        if look_up(obj.fn.__module__, name) is obj and is_user_module(obj.fn.__module__):
            self._note(obj.fn.__module__, name)
            return references.named, (obj.fn.__module__, name)
        return super()._reduce_task(obj)

    def _reduce_function(self, obj: types.FunctionType) -> Any:
        if not is_user_module(obj.__module__):
            self._note_module(obj.__module__)
            return CloudPickler.reducer_override(self, obj)
        known = look_up(obj.__module__, obj.__qualname__)
        if has_source(obj.__module__):
            if known is obj:
                self._note(obj.__module__, obj.__qualname__)
                return references.named, (obj.__module__, obj.__qualname__)
            if isinstance(known, Task) and known.fn is obj:
                self._note(obj.__module__, obj.__qualname__)
                return references.named_function, (obj.__module__, obj.__qualname__)
        source = inner_function(obj)
        if source is None and "." in obj.__qualname__.rpartition("<locals>.")[2]:
            raise NotPortable(
                f"{obj.__module__}.{obj.__qualname__} is a method of a class that was made inside "
                "a function, and travels to another version of Python with that class only.",
                "Pass an object of the class, or a method bound to one.",
            )
        if source is None:
            raise _without_source(f"{obj.__module__}.{obj.__qualname__}", self.python)
        self.met.add(source)
        closure = obj.__closure__ or ()
        state = {
            "defaults": obj.__defaults__,
            "kwdefaults": obj.__kwdefaults__,
            "attributes": {k: v for k, v in vars(obj).items() if k != "__wrapped__"},
            "cells": [(cell, cell.cell_contents) for cell in closure if _is_filled(cell)],
        }
        made = (source.key, closure, obj.__name__, obj.__qualname__)
        return references.inner_function, made, state, None, None, references.fill_function

    def _reduce_class(self, obj: type) -> Any:
        if not is_user_module(obj.__module__):
            self._note_module(obj.__module__)
            reduced = CloudPickler.reducer_override(self, obj)
            if reduced is NotImplemented or reduced[0] in (type, _builtin_type):
                return reduced
        if has_source(obj.__module__) and look_up(obj.__module__, obj.__qualname__) is obj:
            self._note(obj.__module__, obj.__qualname__)
            return references.named, (obj.__module__, obj.__qualname__)
        source = local_class(obj)
        self.met.add(source.maker)
        cells = cells_of(obj, source)
        filled = [
            (name, cell, cell.cell_contents)
            for name, cell in zip(source.maker.free, cells, strict=True)
            if _is_filled(cell)
        ]
        early = [(cell, value) for name, cell, value in filled if name in source.early]
        late = [(cell, value) for name, cell, value in filled if name not in source.early]
        made = (source.maker.key, source.tracker_id, cells, obj.__qualname__, early)
        state = (late, held_values(obj, source), source.layers)
        return references.inner_class, made, state, None, None, references.fill_inner_class


def _needed_by_numpy(kind: type, python: tuple[int, int]) -> tuple[int, int] | None:
    if python >= _OLDEST_WITH_NUMPY_2 or not kind.__module__.startswith("numpy.random."):
        return None
    is_1 = sys.modules["numpy"].__version__.startswith("1.")
    return None if is_1 else _OLDEST_WITH_NUMPY_2


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
        return True
    except ValueError:  # an inner function that was not defined yet
        return False


def _without_source(what: str, python: tuple[int, int]) -> NotPortable:
    return NotPortable(
        f"There is no source of {what}, and without it nothing travels to another version of "
        f"Python: this flow runs on {dotted(HERE)}, the cluster on {dotted(python)}.",
        "Define it in a file, at the top level, or use the same version of Python on both sides.",
    )


def _now(read: Callable[[], Any]) -> Any:
    try:
        return read()
    except (AttributeError, KeyError):  # it was deleted
        return Built


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


class SourceBuilder:
    """Collects what a function needs, and makes a bundle of it."""

    def __init__(
        self, function: Callable[..., Any], python: tuple[int, int], name: str, home: Home
    ) -> None:
        self._function = function
        self._python = python
        self._name = name
        self._home, self._home_namespace = home.module, home.namespace
        self._modules = LocalModules()
        self._slices: dict[str, Slice] = {}
        self._inner: dict[str, InnerFunction] = {}
        self._packages: set[str] = set()
        self._followed: set[int] = set()
        self._met: set[Met] = set()

    def build(self, extra: Iterable[Met]) -> Built:
        """Return the bundle, with this code besides what the function needs."""
        entry = self._entry()
        for each in (*sorted(extra, key=repr), *([entry] if entry is not None else ())):
            self._need(each)
        captured = self._captured(entry)
        document = self._document(entry)
        self._refuse_looking()
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

        def is_current() -> bool:
            return (
                all(_now(read) is value for read, value in values)
                and all(_is_as_before(each, before) for each, before in classes)
                and (captured is None or self._pickle(entry).data == captured)
            )

        return Built(bundle, is_current)

    def _entry(self) -> Reference | None:
        """Return the function as something that a module calls by name; None if none does."""
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
        if each in self._met or isinstance(each, LocalClass):
            return
        self._met.add(each)
        if isinstance(each, InnerFunction):
            self._inner[each.key] = each
            self._follow([each.node], each.namespace)
            part = self._slice_of(each.module)
            if part is None:
                self._modules.add(each.module)
            else:
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
        """Return the slice of this module; None if it travels whole, or not at all."""
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
        """Return the pickles of all variables, in the order in which the far side needs them."""
        while True:
            pickled = self._pickle(entry)
            new = pickled.met - self._met
            for each in sorted(new, key=repr):
                self._need(each)
            moved = [part.load_after(variable, names) for part, variable, names in pickled.named]
            if not new and not any(moved) and not self._take_effects():
                for part in self._slices.values():
                    part.set_again()
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
        pickler = SourcePickler(buffer, self._python)
        for part in self._slices.values():
            pickler.made |= {each: (part.sources.name, name) for each, name in part.made.items()}
        met: set[Met] = set()
        named: list[tuple[Slice, Variable, set[str]]] = []
        for part in self._in_order():
            for piece in part.in_order:
                if isinstance(piece, Variable):
                    pickler.met = set()
                    pickler.defining = piece.name
                    variable = piece.describe(part.sources.name)
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
        for part in self._slices.values():
            part.refuse_shared(pickler.cells, self._name)
        return _Pickles(buffer.getvalue() or None, met, named)

    def _in_order(self) -> list[Slice]:
        # A script may hold what its function's module defines, but not the other way round.
        return [
            self._slices[name] for name in sorted(self._slices, key=lambda n: (n != self._home, n))
        ]

    # --- the document ---------------------------------------------------------------------

    def _document(self, entry: Reference | None) -> dict[str, Any]:
        return {
            "python": list(HERE),
            "entry": None if entry is None else {"module": entry.module, "name": entry.name},
            "modules": [
                {
                    "name": module.name,
                    "path": module.path,
                    "package": module.is_package,
                    "source": _module_text(module, self._python),
                    "shown": module.source,
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
                    "source": _inner_text(inner),
                    "shown": inner.source,
                    "free": inner.free,
                }
                for _, inner in sorted(self._inner.items())
            ],
        }

    def _refuse_looking(self) -> None:
        """Refuse code that looks at what its annotations are."""
        for module in self._modules.found.values():
            if not _says_annotations(module.tree):
                refuse_looking(module.tree, module.path)
        for piece in self._pieces():
            if self._python < _OLDEST_WITH_TEXT and self._registers_by_annotation(piece.node):
                raise NotPortable(
                    f"{piece.path}, line {piece.line}: `.register` that looks at annotations "
                    f"needs Python 3.7, and the cluster has {dotted(self._python)}.",
                    "Give the type: `@function.register(int)`.",
                )
            if not piece.keeps_text:
                refuse_looking(piece.node, piece.path)
        for inner in self._inner.values():
            refuse_looking(inner.node, inner.path)

    def _registers_by_annotation(self, node: ast.AST) -> bool:
        """Whether a definition is registered with `functools.singledispatch`, without a type."""
        for decorator in getattr(node, "decorator_list", ()):
            match decorator:
                case ast.Attribute(ast.Name(id=name), "register"):
                    found = [part.sources.namespace.get(name) for part in self._in_order()]
                    if any(hasattr(each, "dispatch") for each in found):
                        return True
        return False

    def _sources(self) -> tuple[tuple[str, int, str], ...]:
        modules = [module for _, module in sorted(self._modules.found.items())]
        return (
            *((module.path, 1, _module_text(module, self._python)) for module in modules),
            *(
                (each.path, each.line, with_text(each.source, each.keeps_text))
                for each in self._pieces()
            ),
            *((each.path, each.line, _inner_text(each)) for _, each in sorted(self._inner.items())),
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
        """Return what the code says, wherever it is written."""
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


def _says_annotations(tree: ast.Module) -> bool:
    return any(
        isinstance(node, ast.ImportFrom)
        and node.module == "__future__"
        and any(alias.name == "annotations" for alias in node.names)
        for node in tree.body
    )


def _inner_text(inner: InnerFunction) -> str:
    """Return an inner function without the values of its defaults: those travel by themselves."""
    return with_text(without_defaults(inner.source, inner.name), keeps_text=False)


def _module_text(module: LocalModule, python: tuple[int, int]) -> str:
    keeps_text = _says_annotations(module.tree)
    if keeps_text and python >= _OLDEST_WITH_TEXT:
        return module.source
    return with_text(module.source, keeps_text)


def _described(piece: Piece | Variable) -> dict[str, Any]:
    if isinstance(piece, Variable):
        return {"variable": piece.name, "layers": dict(piece.layers), "again": piece.again}
    return {
        "path": piece.path,
        "line": piece.line,
        "source": with_text(piece.source, piece.keeps_text),
        "shown": piece.source,
        "wrapped": dict(piece.wrapped),
    }
