"""Classes that were made inside functions, as source.

Such a class is made again by its own statement, with what the function around it had: the cells
of the methods' closures, and its bases. What it holds besides travels as values.
"""

from __future__ import annotations

import abc
import ast
import hashlib
import inspect
import itertools
import symtable
import sys
import textwrap
import types
import weakref
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.far_side.wire.kept import follow, inside
from clustrix_prefect.far_side.wire.sources import MAKER
from clustrix_prefect.packaging.annotation_text import without_values
from clustrix_prefect.packaging.kept import Kept
from clustrix_prefect.packaging.names import names_when_defined, without_annotations
from clustrix_prefect.packaging.ownership import is_user_module, plain_function
from clustrix_prefect.packaging.runtime_values import removed_from
from clustrix_prefect.packaging.source_files import Definition, SourceFile, first_line
from clustrix_prefect.packaging.sources import InnerFunction, ModuleSources


@dataclass(frozen=True)
class LocalClassSource:
    """How a class is made again.

    Attributes:
        tracker_id: Names the class, the same in every process that meets its classes in the same
            order.
        maker: A function that returns it.
        early: The free variables that have to be there before it is called.
        held: What the class holds that the maker does not give it, and what its methods keep.
        layers: What there has to be far away on the way to that.
    """

    tracker_id: str
    maker: InnerFunction
    early: frozenset[str]
    held: tuple[str, ...]
    layers: dict[str, str]


_known: weakref.WeakKeyDictionary[type, LocalClassSource] = weakref.WeakKeyDictionary()
_numbers: defaultdict[str, Iterator[int]] = defaultdict(itertools.count)
_by_id: weakref.WeakValueDictionary[str, type] = weakref.WeakValueDictionary()


def class_of(tracker_id: str) -> type | None:
    """Return the class that went far away by this name."""
    return _by_id.get(tracker_id)


def local_class(value: type) -> LocalClassSource:
    """Return the source of a class that no module knows by its name.

    Raises:
        NotPortable: It cannot be made again elsewhere.
    """
    known = _known.get(value)
    if known is None:
        known = _known[value] = _describe(value)
        _by_id[known.tracker_id] = value
    return known


def cells_of(value: type, source: LocalClassSource) -> tuple[types.CellType, ...]:
    """Return the cells of the free variables of a class's maker."""
    cells, bases = dict(_cells(value)), dict(_bases(value, source.maker.node))
    return tuple(
        cells[name] if name in cells else types.CellType(bases[name]) for name in source.maker.free
    )


def held_values(value: type, source: LocalClassSource) -> dict[str, Any]:
    """Return what a class holds now that its maker does not give it."""
    found = {}
    for path in source.held:
        *way, last = path.split(".")
        found[path] = inside(follow(value, way, plain_function), last)
    return found


def _describe(value: type) -> LocalClassSource:
    if value.__module__ not in sys.modules:
        raise _refused(value, "its module is not loaded any more")
    sources = ModuleSources(value.__module__, vars(sys.modules[value.__module__]))
    file, node = _statement(value, sources)
    for name in removed_from(value, node):
        raise _refused(value, f"its method {name!r}, which its statement has, was removed")
    _refuse_effects(value, node)
    free, early = _free_names(file, node)
    there = {name for name, _ in (*_cells(value), *_bases(value, node))}
    lost = free - there
    # What was computed of a variable that is not to be had any more is there as a value.
    held = {
        target
        for statement in node.body
        if (target := _target(statement)) in vars(value)
        and lost & set(names_when_defined(statement))
    }
    read = {name for each in node.body if _target(each) not in held for name in _named(each)}
    gone = lost & (read | _in_header(node))
    if gone or (held and type(value) not in (type, abc.ABCMeta)):
        name = min(gone or lost)
        raise _refused(
            value, f"the local variable {name!r} that it was made with is not to be had any more"
        )
    names = tuple(sorted(free - lost))
    line, text = _maker(file, node, names, held)
    key = hashlib.sha256(f"{value.__module__}\n{names}\n{text}".encode()).hexdigest()[:16]
    maker = InnerFunction(
        key,
        value.__module__,
        MAKER,
        file.shown_as,
        line,
        text,
        names,
        node,
        sources.namespace,
    )
    kept = Kept(file, node)
    kept.look_at(value, "")
    held |= {path[1:] for path in kept.values}
    layers = {path[1:]: described for path, described in kept.layers.items()}
    tracker_id = f"{key}-{next(_numbers[key])}"
    return LocalClassSource(tracker_id, maker, frozenset(early - lost), tuple(sorted(held)), layers)


def _refused(value: type, reason: str) -> NotPortable:
    name = f"{value.__module__}.{value.__qualname__}"
    return NotPortable(
        f"The class {name} cannot travel to another version of Python, to which its source would: "
        f"{reason}.",
        "Define it at the top level of a module, or use the same version of Python on both sides.",
    )


def _refuse_effects(value: type, node: ast.ClassDef) -> None:
    """Refuse a class that the user's code does something for when it is made.

    Raises:
        NotPortable: It would be done a second time: what registers classes, say.
    """
    effects = [type(value).__qualname__] if is_user_module(type(value).__module__) else []
    for base in value.__mro__[1:]:
        hook = vars(base).get("__init_subclass__")
        if hook is not None and is_user_module(base.__module__):
            effects.append(f"{base.__qualname__}.__init_subclass__")
    namespace = vars(sys.modules[value.__module__])
    for decorator in node.decorator_list:
        called = decorator.func if isinstance(decorator, ast.Call) else decorator
        first = ast.unparse(called).partition(".")[0]
        given = namespace.get(first)
        module = getattr(given, "__module__", None) or getattr(given, "__name__", None)
        if given is None or is_user_module(module):
            effects.append(f"@{ast.unparse(called)}")
    if effects:
        raise _refused(value, f"making it again would run {effects[0]} once more")


# --- its statement ----------------------------------------------------------------------------


def _statement(value: type, sources: ModuleSources) -> tuple[SourceFile, ast.ClassDef]:
    """Return where a class was made.

    Raises:
        NotPortable: Nowhere, or there is no telling.
    """
    *around, within, name = ["", *value.__qualname__.split(".")]
    if within != "<locals>":
        if "<locals>" in around:
            raise _refused(value, "it is inside another class, which was made in a function")
        raise _refused(
            value,
            "no `class` statement of its module made it (but `type`, `namedtuple` or the like), or "
            "its name has another value now",
        )
    path = [each for each in (*around, name) if each not in ("", "<locals>")]
    found: list[tuple[SourceFile, ast.ClassDef]] = []
    for file in sources.files:
        nodes: list[Any] = [file.tree]
        for step in path:
            nodes = [each for node in nodes for each in _definitions(node) if each.name == step]
        found += [(file, node) for node in nodes if isinstance(node, ast.ClassDef)]
    lines = {code.co_firstlineno for code in _codes(value)}
    if len(found) > 1:
        found = [each for each in found if lines & set(_lines(each[1]))]
    if not found:
        raise _refused(value, "there is no text of it in a file")
    if len(found) > 1:
        raise _refused(value, "several `class` statements may have made it")
    return found[0]


def _lines(node: ast.ClassDef) -> range:
    return range(node.lineno, (node.end_lineno or node.lineno) + 1)


def _definitions(node: ast.AST) -> Iterator[Definition]:
    """Yield the functions and classes that are defined in the scope of another, or of a module."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield child
        elif isinstance(child, (ast.stmt, ast.excepthandler)):
            yield from _definitions(child)


def _maker(
    file: SourceFile, node: ast.ClassDef, names: tuple[str, ...], held: set[str]
) -> tuple[int, str]:
    """Return a function that makes the class, in one whose parameters are its free variables."""
    first, indent = first_line(node), file.lines[node.lineno - 1][: node.col_offset]
    assert node.end_lineno is not None
    text = file.lines_of(first, node.end_lineno)
    if len(indent) < 2 or "\t" in indent:
        indent = "  "
        text = textwrap.indent(ast.unparse(node), indent) + "\n"
    text = (
        f"def __around__({', '.join(names)}):\n def {MAKER}():\n{text}{indent}return {node.name}\n"
    )
    if held:
        text = without_values(text, node.name, held)
    return max(first - 2, 1), text


# --- what it was made with --------------------------------------------------------------------


def _free_names(file: SourceFile, node: ast.ClassDef) -> tuple[set[str], set[str]]:
    """Return the variables of functions around a class that it needs, and those to make it."""
    tables = list(_tables(symtable.symtable(file.text, file.filename, "exec")))
    scope: Any = file.scope_of(node)
    around = next(t for t in tables if (t.get_name(), t.get_lineno()) == (scope.name, scope.lineno))
    own = next(
        t
        for t in around.get_children()
        if t.get_type() == "class" and (t.get_name(), t.get_lineno()) == (node.name, node.lineno)
    )
    locals_around = {
        each.get_name() for each in around.get_symbols() if each.is_local() or each.is_free()
    }
    free = {each.get_name() for each in own.get_symbols() if each.is_free()}
    header = _in_header(node) & locals_around
    free = (free | header) - {"__class__"}
    return free, free & (header | {name for each in node.body for name in _read(each)})


def _tables(table: symtable.SymbolTable) -> Iterator[symtable.SymbolTable]:
    yield table
    for child in table.get_children():
        yield from _tables(child)


def _in_header(node: ast.ClassDef) -> set[str]:
    parts = [*node.bases, *(each.value for each in node.keywords), *node.decorator_list]
    return {each.id for part in parts for each in ast.walk(part) if isinstance(each, ast.Name)}


def _read(statement: ast.stmt) -> set[str]:
    return set(names_when_defined(without_annotations(statement)))


def _named(statement: ast.stmt) -> set[str]:
    """Return the names in a statement, whenever they are looked up."""
    bare = without_annotations(statement)
    return {each.id for each in ast.walk(bare) if isinstance(each, ast.Name)}


def _target(statement: ast.stmt) -> str:
    """Return the one name that a statement assigns a value to; empty if it does not."""
    targets: list[ast.expr] = []
    if isinstance(statement, ast.Assign):
        targets = statement.targets
    elif isinstance(statement, ast.AnnAssign) and statement.value is not None:
        targets = [statement.target]
    match targets:
        case [ast.Name(id=name)]:
            return name
    return ""


def _functions(value: type) -> Iterator[types.FunctionType]:
    """Yield the functions in a class and the classes in it, below what decorators made of them."""
    for each in list(vars(value).values()):
        if isinstance(each, type) and each.__qualname__.startswith(f"{value.__qualname__}."):
            yield from _functions(each)
        accessors = (each.fget, each.fset, each.fdel) if isinstance(each, property) else (each,)
        for accessor in accessors:
            found = getattr(accessor, "__func__", getattr(accessor, "func", accessor))
            found = inspect.unwrap(found) if callable(found) else found
            if isinstance(found, types.FunctionType) and found.__module__ == value.__module__:
                yield found


def _codes(value: type) -> Iterator[types.CodeType]:
    return (function.__code__ for function in _functions(value))


def _cells(value: type) -> Iterator[tuple[str, types.CellType]]:
    """Yield the variables that the methods of a class have from the function around it."""
    inside = f"{value.__qualname__}."
    for function in _functions(value):
        if function.__qualname__.startswith(inside):
            yield from zip(function.__code__.co_freevars, function.__closure__ or (), strict=True)


def _bases(value: type, node: ast.AST) -> Iterator[tuple[str, Any]]:
    """Yield the bases and the metaclass of a class, by the names that its statement gives them."""
    assert isinstance(node, ast.ClassDef)
    bases = vars(value).get("__orig_bases__") or value.__bases__
    if len(bases) == len(node.bases):
        for said, base in zip(node.bases, bases, strict=True):
            if isinstance(said, ast.Name):
                yield said.id, base
    for keyword in node.keywords:
        if keyword.arg == "metaclass" and isinstance(keyword.value, ast.Name):
            yield keyword.value.id, type(value)
