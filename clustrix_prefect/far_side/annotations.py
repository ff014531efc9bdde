"""Leaves out annotations, for Python 3.6, which cannot keep them as text."""

import ast
from typing import Any


def without_annotations(source: str, path: str, of_functions: bool) -> Any:
    """The parsed source, without what other versions would not evaluate.

    Args:
        source: The source.
        path: The file that it is from.
        of_functions: Whether to leave out the annotations of parameters and results.
    """
    tree = ast.parse(source, path)
    _WithoutAnnotations(of_functions).visit(tree)
    return tree


class _WithoutAnnotations(ast.NodeTransformer):
    """Leaves out what Python 3.6 would evaluate.

    Args:
        of_functions: Whether to leave out the annotations of parameters and results.
    """

    def __init__(self, of_functions: bool) -> None:
        self._of_functions = of_functions
        self._of_classes = False

    def visit_Module(self, node: Any) -> Any:
        # Only 3.7 knows the future import, but what it says of the file holds here too.
        for statement in list(node.body):
            if isinstance(statement, ast.ImportFrom) and statement.module == "__future__":
                names = [alias for alias in statement.names if alias.name != "annotations"]
                if len(names) < len(statement.names):
                    self._of_functions = self._of_classes = True
                statement.names = names
                if not names:
                    node.body.remove(statement)
        return self.generic_visit(node)

    def visit_FunctionDef(self, node: Any) -> Any:
        if self._of_functions:
            node.returns = None
        return self.generic_visit(node)

    visit_AsyncFunctionDef = visit_FunctionDef

    def visit_arg(self, node: Any) -> Any:
        if self._of_functions:
            node.annotation = None
        return node

    def visit_AnnAssign(self, node: Any) -> Any:
        if self._of_classes:
            node.annotation = ast.copy_location(ast.Str(s="object"), node.annotation)
        return self.generic_visit(node)
