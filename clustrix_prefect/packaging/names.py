"""Which names some code looks up in its module, and when."""

from __future__ import annotations

import ast
import copy
import symtable
from collections.abc import Iterable, Iterator
from typing import Any


def global_names(node: ast.AST, free: Iterable[str] = ()) -> list[str]:
    """Return the names that a statement or function looks up in its module, or may.

    Args:
        node: The code.
        free: Those of its names that a function around it has.
    """
    found: set[str] = set()
    tables = [symtable.symtable(_within_function(node, free), "<piece>", "exec")]
    while tables:
        table = tables.pop()
        tables.extend(table.get_children())
        reads_through = table.get_type() in ("module", "class")
        for symbol in table.get_symbols():
            if symbol.is_global() or (reads_through and symbol.is_referenced()):
                found.add(symbol.get_name())
    return sorted(found)


def _within_function(node: ast.AST, free: Iterable[str]) -> str:
    """Return the code as text; what it assigns as `nonlocal` has to be there."""
    names = ", ".join(free)
    if not names:
        return ast.unparse(node)
    around = ast.parse(f"def __make__({names}): pass")
    inner: Any = node if isinstance(node, ast.stmt) else ast.Expr(node)  # type: ignore[arg-type]
    around.body[0].body = [inner]  # type: ignore[attr-defined]
    return ast.unparse(ast.fix_missing_locations(around))


def names_when_defined(node: ast.AST) -> Iterator[str]:
    """Yield the names that are looked up when code is executed, rather than when it is called."""
    if isinstance(node, ast.Name):
        yield node.id
    inner = ast.iter_child_nodes(node)
    if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
        arguments = node.args
        inner = iter([*arguments.defaults, *(each for each in arguments.kw_defaults if each)])
        for decorator in getattr(node, "decorator_list", ()):
            yield from names_when_defined(decorator)
    for child in inner:
        yield from names_when_defined(child)


class _WithoutAnnotations(ast.NodeTransformer):
    """Leaves out annotations that are not evaluated far away."""

    def __init__(self) -> None:
        self._in_function = False

    def visit_FunctionDef(self, node: Any) -> Any:
        before, self._in_function = self._in_function, True
        if node.decorator_list and not before:  # which may look at them
            node.body = [self.visit(each) for each in node.body]
            self._in_function = before
            return node
        node.returns = None
        self.generic_visit(node)
        self._in_function = before
        return node

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_ClassDef(self, node: Any) -> Any:
        before, self._in_function = self._in_function, False
        self.generic_visit(node)
        self._in_function = before
        return node

    def visit_arg(self, node: Any) -> Any:
        node.annotation = None
        return node

    def visit_AnnAssign(self, node: Any) -> Any:
        if self._in_function:
            node.annotation = ast.copy_location(ast.Constant(None), node.annotation)
        return self.generic_visit(node)


def without_annotations(node: Any) -> Any:
    """Return a copy of some code, without the annotations of functions and in them."""
    return _WithoutAnnotations().visit(copy.deepcopy(node))
