"""The files that the user's modules are written in, as they were when they were imported.

A module is one file; an interactive one (a notebook, Python's own prompt) is as many cells
as were run, which `linecache` keeps.
"""

from __future__ import annotations

import ast
import functools
import hashlib
import io
import linecache
import os
import re
import sys
import threading
import time
import types
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, TypeAlias

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.packaging.ownership import innermost_code, is_user_module

Function: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef
Definition: TypeAlias = ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef

CELL = re.compile(r"<ipython-input-|<python-input-|.*/ipykernel_\d+/")


_parsing = threading.Lock()
_PARSING_ATTEMPTS = 5


def parse(text: str) -> ast.Module:
    """Return the source as a tree.

    Python 3.11 and 3.12 count the depth of trees for all threads together, and report a
    mismatch if another thread gets in between.
    """
    with _parsing:
        for _ in range(_PARSING_ATTEMPTS - 1):
            try:
                return ast.parse(text)
            except SystemError:  # another thread, beyond our lock
                continue
        return ast.parse(text)


class SourceFile:
    """One file, or one cell, of a module.

    Args:
        filename: The name that code objects know it by.
        shown_as: The name in tracebacks far away: the same on every machine.
        text: Its content.
    """

    def __init__(self, filename: str, shown_as: str, text: str) -> None:
        self.filename = filename
        self.shown_as = shown_as
        self.text = text
        # As Python counts lines: `splitlines` also breaks them at form feeds and the like.
        self.lines = list(io.StringIO(text))
        self.tree = parse(text)

    def lines_of(self, first: int, last: int) -> str:
        """These lines, counted from 1."""
        text = "".join(self.lines[first - 1 : last])
        return text if text.endswith("\n") else text + "\n"

    @cached_property
    def _parents(self) -> dict[ast.AST, ast.AST]:
        return {
            child: parent
            for parent in ast.walk(self.tree)
            for child in ast.iter_child_nodes(parent)
        }

    @cached_property
    def _by_line(self) -> dict[tuple[str, int], list[Function | ast.Lambda]]:
        found: dict[tuple[str, int], list[Function | ast.Lambda]] = {}
        for node in ast.walk(self.tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
                found.setdefault((node.name, first_line(node)), []).append(node)
            elif isinstance(node, ast.Lambda):
                found.setdefault(("<lambda>", node.lineno), []).append(node)
        return found

    @cached_property
    def loaded(self) -> frozenset[str]:
        """The names that anything in it looks up."""
        return frozenset(
            node.id
            for node in ast.walk(self.tree)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        )

    @cached_property
    def keeps_annotations_as_text(self) -> bool:
        """Whether it says `from __future__ import annotations`."""
        return any(
            isinstance(node, ast.ImportFrom)
            and node.module == "__future__"
            and any(alias.name == "annotations" for alias in node.names)
            for node in self.tree.body
        )

    def is_what_runs(self, namespace: dict[str, Any]) -> bool:
        """Return whether the module's functions, as they were imported, are those of this text."""
        written: dict[tuple[str, int], Any] = {}
        waiting = [compile(self.text, self.filename, "exec", dont_inherit=True)]
        while waiting:
            code = waiting.pop()
            written[code.co_name, code.co_firstlineno] = essence_of(code)
            waiting += [each for each in code.co_consts if isinstance(each, types.CodeType)]
        return all(
            written.get((code.co_name, code.co_firstlineno)) == essence_of(code)
            for code in _codes_in(namespace)
            if code.co_filename == self.filename
        )

    def functions_at(self, code: types.CodeType) -> list[Function | ast.Lambda]:
        """The functions that begin where this code does; several lambdas may share a line."""
        return self._by_line.get((code.co_name, code.co_firstlineno), [])

    def scope_of(self, node: ast.AST) -> ast.AST:
        """Return the function, class or module in which a node is."""
        scopes = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda, ast.ClassDef, ast.Module)
        parent = self._parents[node]
        while not isinstance(parent, scopes):
            parent = self._parents[parent]
        return parent

    def class_around(self, node: ast.AST) -> str:
        """The name of the innermost class that a node is in, however deep; empty if in none."""
        while node is not self.tree:
            node = self._parents[node]
            if isinstance(node, ast.ClassDef):
                return node.name
        return ""

    def top_statement_of(self, node: ast.AST) -> ast.stmt:
        """Return the statement of the module in which a node is."""
        while self._parents[node] is not self.tree:
            node = self._parents[node]
        assert isinstance(node, ast.stmt)
        return node

    @cached_property
    def bindings(self) -> dict[str, list[ast.AST]]:
        """What gives the module's names their values, in the order of the file."""
        found: dict[str, list[ast.AST]] = {}
        for name, node in _bindings(self.tree.body):
            found.setdefault(name, []).append(node)
        return found


def _codes_in(namespace: dict[str, Any]) -> Iterator[types.CodeType]:
    """Yield the code of a module's functions and methods."""
    for value in list(namespace.values()):
        for each in vars(value).values() if isinstance(value, type) else [value]:
            if (code := innermost_code(each)) is not None:
                yield code


def first_line(node: Definition) -> int:
    """Return the line on which a definition begins, with its decorators."""
    return min([node.lineno, *(decorator.lineno for decorator in node.decorator_list)])


def _bindings(statements: list[Any]) -> Iterator[tuple[str, ast.AST]]:
    for node in statements:
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
            yield node.name, node
            continue
        if isinstance(node, (ast.Import, ast.ImportFrom)):
            for alias in node.names:
                yield alias.asname or alias.name.partition(".")[0], node
            continue
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.expr):
                for part in ast.walk(child):
                    if isinstance(part, ast.Name) and isinstance(part.ctx, ast.Store):
                        yield part.id, node
        for block in ("body", "handlers", "orelse", "finalbody"):
            inner = getattr(node, block, [])
            if isinstance(inner, list):
                yield from _bindings(inner)


def files_of(name: str, namespace: dict[str, Any]) -> list[SourceFile]:
    """Return all the source there is of a module.

    Raises:
        NotPortable: It is not what was imported.
    """
    filename = namespace.get("__file__")
    if not isinstance(filename, str):
        cells = [cell for cell in list(linecache.cache) if CELL.match(cell)]
        return [file for cell in cells if (file := _read_cell(cell, namespace)) is not None]
    code_name = _name_in_code(filename, namespace)
    file = _read(code_name, shown_path(name, filename), namespace)
    return [] if file is None else [file]


def _name_in_code(filename: str, namespace: dict[str, Any]) -> str:
    """The file's name as code objects have it, which may be relative where `__file__` is not."""
    for value in list(namespace.values()):
        if isinstance(value, types.FunctionType) and value.__globals__ is namespace:
            known_as = value.__code__.co_filename
            if Path(known_as).name == Path(filename).name:
                return known_as
    return filename


def shown_path(module: str, filename: str) -> str:
    """Return a module's file as tracebacks far away name it: the same wherever the checkout is."""
    path = Path(filename)
    *parents, last = module.split(".")
    if path.stem == "__init__":
        return "/".join([*parents, last, path.name])
    return "/".join([*parents, path.name]) if last == path.stem else path.name


@functools.lru_cache(maxsize=1024)
def shown_file(filename: str) -> str:
    """Return a file that code was compiled from, as tracebacks far away name it."""
    if CELL.match(filename):
        return shown_cell("".join(linecache.getlines(filename)))
    for name, module in list(sys.modules.items()):
        path = getattr(module, "__file__", None)
        if path == filename and is_user_module(name):
            return shown_path(name, filename)
    return filename if filename.startswith("<") else Path(filename).name


def shown_cell(text: str) -> str:
    """Return a notebook's cell, by what is in it."""
    return f"<cell {hashlib.sha256(text.encode()).hexdigest()[:8]}>"


# Files that were changed since then may not be what was imported.
_began = time.time()


@dataclass(frozen=True)
class _Parsed:
    """A file as it was read, and when it had last been changed."""

    file: SourceFile
    changed: float


_parsed: dict[tuple[str, str], _Parsed] = {}


def _read(filename: str, shown_as: str, namespace: dict[str, Any]) -> SourceFile | None:
    """Return the text of a module, as it was when the module was imported.

    Raises:
        NotPortable: It is not to be had any more.
    """
    changed = _last_change(filename)
    known = _parsed.get((filename, shown_as))
    if known is None or known.changed != changed:
        file = _parse(filename, shown_as, namespace)
        if file is None:
            return None
        suspect = changed > (known.changed if known is not None else _began)
        if suspect and not file.is_what_runs(namespace):
            # What `linecache` has was read before the module was imported again.
            linecache.checkcache(filename)
            file = _parse(filename, shown_as, namespace)
            if file is None or not file.is_what_runs(namespace):
                raise NotPortable(
                    f"{filename} was changed since it was imported, so that what runs here is not "
                    "what would run on the cluster.",
                    "Start the flow again.",
                )
        known = _parsed[filename, shown_as] = _Parsed(file, changed)
    return known.file


def _parse(filename: str, shown_as: str, namespace: dict[str, Any]) -> SourceFile | None:
    text = "".join(linecache.getlines(filename, namespace))
    if not text:
        return None
    try:
        return SourceFile(filename, shown_as, text)
    except (SyntaxError, ValueError):
        return None


def _last_change(filename: str) -> float:
    try:
        return os.stat(filename).st_mtime
    except OSError:  # a cell, or a module from a zip archive
        return 0.0


def _read_cell(filename: str, namespace: dict[str, Any]) -> SourceFile | None:
    text = "".join(linecache.getlines(filename))
    return _read(filename, shown_cell(text), namespace)


def essence_of(code: types.CodeType) -> Any:
    """Return what code does, wherever it is written."""
    constants = [_essence_of_constant(constant) for constant in code.co_consts]
    return code.co_code, code.co_names, code.co_varnames, code.co_freevars, constants


def _essence_of_constant(constant: Any) -> Any:
    if isinstance(constant, types.CodeType):
        return essence_of(constant)
    if isinstance(constant, str):
        # Before Python 3.11 the qualified names of inner functions are constants.
        constant = constant.rpartition("<locals>.")[2]
    return type(constant), constant
