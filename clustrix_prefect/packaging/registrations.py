"""What a module did to others when it was imported: it would be missed far away.

A slice has only what a function names. But a function may ask a registry for what was noted in
it, and whatever was noted there names the registry, and not the other way round.
"""

from __future__ import annotations

import ast
import types
from collections.abc import Callable, Collection, Iterator
from typing import Any

from clustrix_prefect.packaging.ownership import is_user_module, plain_function
from clustrix_prefect.packaging.slicing import Slice, only
from clustrix_prefect.packaging.source_files import Definition, SourceFile


def take_effects(part: Slice, modules: Collection[str], reach: Callable[[str], set[str]]) -> bool:
    """Take in what a module did to others that travel.

    A decorator that gives back the very function has noted it somewhere; a module of which
    nothing is used was imported for what it does; and some classes know their subclasses.

    Args:
        part: The slice of the module; takes in more.
        modules: The modules that travel whole.
        reach: Which of the user's modules one imports, itself included.

    Returns:
        Whether there was anything.
    """
    before = len(part.pieces)
    for file in part.sources.files:
        for node in file.tree.body:
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                if _is_noted(part, file, node, modules):
                    part.need([node.name])
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                for alias in node.names:
                    if (alias.asname or alias.name).partition(".")[0] in file.loaded:
                        continue
                    imported = part.imported_by(only(node, alias))
                    if any(reach(each).intersection(modules) for each in imported):
                        part.take_import(file, node, alias)
    for name in part.taken:
        part.need(_subclasses(part, part.sources.namespace.get(name)))
    return len(part.pieces) > before


def _is_noted(part: Slice, file: SourceFile, node: Definition, modules: Collection[str]) -> bool:
    value = plain_function(part.sources.namespace.get(node.name))
    unchanged = isinstance(value, type) or (
        isinstance(value, types.FunctionType) and node in file.functions_at(value.__code__)
    )
    return unchanged and any(
        part.imported_by(binding).intersection(modules)
        for decorator in node.decorator_list
        for _, binding in part.sources.bindings_of(_root(decorator))
    )


def _subclasses(part: Slice, value: Any) -> Iterator[str]:
    """Yield the classes of this module that a class knows of, if anything asks it for them."""
    if isinstance(value, type) and is_user_module(value.__module__):
        asked = any("__subclasses__" in piece.essence for piece in part.pieces.values())
        if asked or _notes_subclasses(value):
            each: type
            for each in type.__subclasses__(value):
                if each.__module__ == part.sources.name and "." not in each.__qualname__:
                    yield each.__name__


def _notes_subclasses(value: type) -> bool:
    """Return whether a class, or its metaclass, is told of its subclasses by code of the user's."""
    told_by = getattr(value.__init_subclass__, "__func__", None)
    return is_user_module(type(value).__module__) or is_user_module(
        getattr(told_by, "__module__", "builtins")
    )


def _root(expression: ast.expr) -> str:
    """Return the name that a decorator begins with; empty if it begins with none."""
    while isinstance(expression, (ast.Call, ast.Attribute)):
        expression = expression.func if isinstance(expression, ast.Call) else expression.value
    return expression.id if isinstance(expression, ast.Name) else ""
