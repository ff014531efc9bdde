"""Where in the source of the user's modules things are defined."""

from __future__ import annotations

import ast
import hashlib
import linecache
import re
import sys
import types
from dataclasses import dataclass, field
from typing import Any

from clustrix_prefect.far_side.wire.sources import function_code
from clustrix_prefect.packaging.ownership import innermost_code
from clustrix_prefect.packaging.source_files import (
    CELL,
    Definition,
    Function,
    SourceFile,
    essence_of,
    files_of,
)

_PRIVATE = re.compile(r"\b__\w*[^\W_]_?\b")


@dataclass(frozen=True)
class InnerFunction:
    """A function that no module knows by name: a lambda, or one made inside another.

    Attributes:
        key: Names it, by its source.
        module: The module it was written in.
        name: The name of its code.
        path: The file, as shown far away.
        line: Where `source` begins.
        source: A function around it whose parameters are its free variables.
        free: Those variables.
    """

    key: str
    module: str
    name: str
    path: str
    line: int
    source: str
    free: tuple[str, ...]
    node: ast.AST = field(compare=False, repr=False)
    namespace: dict[str, Any] = field(compare=False, repr=False)


class ModuleSources:
    """All the source there is of a module.

    Args:
        name: The module.
        namespace: What it contains.
    """

    def __init__(self, name: str, namespace: dict[str, Any]) -> None:
        self.name = name
        self.namespace = namespace
        self.files = files_of(name, namespace)

    def file_of(self, code: types.CodeType | None) -> SourceFile | None:
        """Return the file in which this code was written."""
        if code is None:
            return None
        return next((file for file in self.files if file.filename == code.co_filename), None)

    def definition_of(self, value: Any) -> tuple[SourceFile, Definition] | None:
        """Return the statement of the module that defined a function or class."""
        if isinstance(value, type):
            return self._class_definition(value)
        code = innermost_code(value)
        file = self.file_of(code)
        if code is None or file is None:
            return None
        for node in file.functions_at(code):
            if not isinstance(node, ast.Lambda) and file.scope_of(node) is file.tree:
                return file, node
        return None

    def _class_definition(self, value: type) -> tuple[SourceFile, Definition] | None:
        codes = {
            code.co_filename
            for attribute in vars(value).values()
            if (code := innermost_code(attribute)) is not None
        }
        found: list[tuple[SourceFile, Definition]] = [
            (file, node)
            for file in self.files
            for node in file.bindings.get(value.__name__, ())
            if isinstance(node, ast.ClassDef)
        ]
        # A cell that was changed and run again defines the class once more.
        in_its_file = [each for each in found if each[0].filename in codes]
        return next(reversed(in_its_file or found), None)

    def bindings_of(self, name: str) -> list[tuple[SourceFile, ast.AST]]:
        """Whatever in the module gives this name a value, the latest last."""
        return [(file, node) for file in self.files for node in file.bindings.get(name, ())]


def has_source(module: str) -> bool:
    """Return whether there is source of a user's module."""
    loaded = sys.modules.get(module)
    filename = getattr(loaded, "__file__", None)
    if filename is None:
        return module == "__main__" and any(map(CELL.match, list(linecache.cache)))
    return str(filename).endswith(".py")


def inner_function(function: types.FunctionType) -> InnerFunction | None:
    """A function that has no name of its own in its module, as source; None if there is none."""
    code, namespace = function.__code__, function.__globals__
    module = str(namespace.get("__name__"))
    sources = ModuleSources(module, namespace)
    file = sources.file_of(code)
    if file is None:
        return None
    candidates = file.functions_at(code)
    for node in candidates:
        if isinstance(file.scope_of(node), ast.ClassDef):
            return None  # a method of a class that was made inside a function
        line, source = _factory(file, node, code.co_freevars)
        if len(candidates) > 1 and not _is_same(code, source, file.filename, line):
            continue
        key = hashlib.sha256(f"{module}\n{code.co_freevars}\n{source}".encode()).hexdigest()[:16]
        return InnerFunction(
            key,
            module,
            code.co_name,
            file.shown_as,
            line,
            source,
            code.co_freevars,
            node,
            namespace,
        )
    return None


def _factory(
    file: SourceFile, node: Function | ast.Lambda, free: tuple[str, ...]
) -> tuple[int, str]:
    """A function whose parameters are the free variables, around a function's own lines."""
    headers = [f"def __make__({', '.join(free)}):"]
    if _PRIVATE.search(ast.unparse(node)) and (owner := file.class_around(node)):
        # Only within the class does `self.__x` mean what it says.
        headers = [f"class {owner}:", f" {headers[0]}"]
    if isinstance(node, ast.Lambda):
        source = ast.get_source_segment(file.text, node)
        # In its own column, for tracebacks that mark the place.
        if node.lineno > 1:
            headers[-1] += " return ("
            headers.append(f"{' ' * node.col_offset}{source})")
        else:
            headers[-1] += f" return ({source})"
        return max(node.lineno + 1 - len(headers), 1), "\n".join(headers) + "\n"
    assert node.end_lineno is not None
    indent = file.lines[node.lineno - 1][: node.col_offset] or " "
    text = file.lines_of(node.lineno, node.end_lineno)
    if node.col_offset == 0:
        return node.lineno, text
    first = max(node.lineno - len(headers), 1)
    return first, "\n".join([*headers, f"{text}{indent}return {node.name}"]) + "\n"


def _is_same(code: types.CodeType, source: str, filename: str, line: int) -> bool:
    compiled: types.CodeType = function_code(source, filename, line, code.co_name)
    return bool(essence_of(compiled) == essence_of(code))
