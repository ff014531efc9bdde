"""Which modules a piece of source imports.

What an import statement names is needed wherever the code runs, unless the code itself is
prepared to do without: inside `try` with an `except ImportError`, or behind a look at the
version or the platform. What only type checkers read counts for nothing.
"""

from __future__ import annotations

import ast
import sys
from dataclasses import dataclass
from typing import Any

from clustrix_prefect.far_side.standins import standin
from clustrix_prefect.packaging.ownership import is_user_module

# Always there far away, whatever is installed: see the far side's stand-ins.
_BROUGHT_ALONG = {"prefect", "clustrix_prefect", "cloudpickle", "__future__", "__main__"}
_FORGIVING = {"ImportError", "ModuleNotFoundError", "Exception", "BaseException"}
_CONDITIONS = {"version_info", "platform", "name", "system", "hexversion", "implementation"}


@dataclass(frozen=True)
class Imports:
    """Modules by their dotted names, as far as the statements tell them.

    Attributes:
        required: Those that the code cannot do without.
        optional: Those that it uses if they are there.
    """

    required: frozenset[str] = frozenset()
    optional: frozenset[str] = frozenset()

    def __or__(self, other: Imports) -> Imports:
        required = self.required | other.required
        return Imports(required, (self.optional | other.optional) - required)


def top_level(module: str) -> str:
    """Return the package that a module belongs to."""
    return module.partition(".")[0]


def needs_prefect(tree: ast.AST) -> bool:
    """Return whether some code names more of Prefect than its stand-in far away has."""
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and not node.level and node.module:
            if top_level(node.module) == "prefect" and not all(
                standin.offers(node.module, alias.name) for alias in node.names
            ):
                return True
        elif isinstance(node, ast.Attribute):
            module, _, name = _dotted(node).rpartition(".")
            is_module = top_level(module) == "prefect" and standin.is_module(module)
            if is_module and not standin.offers(module, name):
                return True
    return False


def _dotted(node: ast.expr) -> str:
    if isinstance(node, ast.Attribute):
        return f"{_dotted(node.value)}.{node.attr}"
    return node.id if isinstance(node, ast.Name) else "?"


def of_tree(tree: ast.AST) -> Imports:
    """Return what some code imports from outside of the user's own code."""
    visitor = _ImportVisitor()
    visitor.visit(tree)
    return _foreign(visitor.required, visitor.optional)


def _foreign(required: set[str], optional: set[str]) -> Imports:
    def keep(modules: set[str]) -> frozenset[str]:
        return frozenset(
            module
            for module in modules
            if top_level(module) not in _BROUGHT_ALONG and _is_foreign(top_level(module))
        )

    return Imports(keep(required), keep(optional - required))


def _is_foreign(package: str) -> bool:
    if package in sys.builtin_module_names or package in sys.stdlib_module_names:
        return True
    # A module that is not loaded cannot be told from one that is not there: it counts.
    return package not in sys.modules or not is_user_module(package)


class _ImportVisitor(ast.NodeVisitor):
    def __init__(self) -> None:
        self.required: set[str] = set()
        self.optional: set[str] = set()
        self._found = self.required

    def visit_Import(self, node: ast.Import) -> None:
        self._found.update(alias.name for alias in node.names)

    def visit_ImportFrom(self, node: ast.ImportFrom) -> None:
        if node.module and not node.level:
            # The name may be a module, too: `from google.cloud import storage`.
            self._found.update(f"{node.module}.{alias.name}" for alias in node.names)

    def visit_If(self, node: ast.If) -> None:
        names = _names(node.test)
        if "TYPE_CHECKING" in names:
            self._visit_all(node.orelse)
        elif names & _CONDITIONS and names & {"sys", "os", "platform"}:
            self._visit_optional([*node.body, *node.orelse])
        else:
            self.generic_visit(node)

    def visit_Try(self, node: ast.Try) -> None:
        caught = set().union(
            *(_names(handler.type) if handler.type else {"Exception"} for handler in node.handlers)
        )
        if not caught & _FORGIVING:
            self.generic_visit(node)
            return
        self._visit_optional([*node.body, *node.handlers])
        self._visit_all([*node.orelse, *node.finalbody])

    def _visit_optional(self, nodes: list[ast.AST]) -> None:
        before, self._found = self._found, self.optional
        self._visit_all(nodes)
        self._found = before

    def _visit_all(self, nodes: Any) -> None:
        for node in nodes:
            self.visit(node)


def _names(expression: ast.expr) -> set[str]:
    nodes = list(ast.walk(expression))
    attributes = {node.attr for node in nodes if isinstance(node, ast.Attribute)}
    return attributes | {node.id for node in nodes if isinstance(node, ast.Name)}
