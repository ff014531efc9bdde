"""Annotations as text, so that an older Python can read what a newer one says in them."""

from __future__ import annotations

import ast
import io
from collections.abc import Callable, Collection, Iterator

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.packaging.source_files import parse

_FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
_DEFAULTS = ("__defaults__", "__kwdefaults__")
# What gives the value of an annotation, rather than what `typing.get_type_hints` makes of it.
_LOOKS_AT_VALUES = {"annotation", "__annotations__"}


def with_text(source: str, keeps_text: bool) -> str:
    """Source in which each annotation is a string constant, on the lines where it was.

    Args:
        source: Some definitions, or a module.
        keeps_text: Whether it is from a file with `from __future__ import annotations`, in which
            an annotation that is a string is that string's text.

    Returns:
        The same code, which every version of Python can read as far as annotations go.
    """

    def changes(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
        for node in _annotations(tree):
            is_text = isinstance(node, ast.Constant) and isinstance(node.value, str)
            if keeps_text or not is_text:
                yield node, repr(ast.unparse(node))

    return _changed(source, changes)


def without_defaults(source: str, name: str, which: Collection[str] = _DEFAULTS) -> str:
    """Source of a function in which the defaults of parameters are None.

    Args:
        source: The function's source.
        name: The function's name.
        which: Of which parameters: `__defaults__`, `__kwdefaults__`.
    """

    def changes(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
        for node in ast.walk(tree):
            is_lambda = isinstance(node, ast.Lambda) and name == "<lambda>"
            if is_lambda or (isinstance(node, _FUNCTIONS) and node.name == name):
                arguments: ast.arguments = getattr(node, "args")  # noqa: B009
                if "__defaults__" in which:
                    yield from ((each, "None") for each in arguments.defaults)
                if "__kwdefaults__" in which:
                    yield from ((each, "None") for each in arguments.kw_defaults if each)
                return  # those inside are made anew each time

    return _changed(source, changes)


def without_values(source: str, name: str, which: Collection[str]) -> str:
    """Source of a class in which some attributes are None.

    Args:
        source: The class's source.
        name: The class's name.
        which: The attributes.
    """

    def changes(tree: ast.Module) -> Iterator[tuple[ast.expr, str]]:
        made = next(
            each for each in ast.walk(tree) if isinstance(each, ast.ClassDef) and each.name == name
        )
        for statement in made.body:
            if isinstance(statement, (ast.Assign, ast.AnnAssign)) and statement.value is not None:
                target = statement.targets[0] if hasattr(statement, "targets") else statement.target
                if isinstance(target, ast.Name) and target.id in which:
                    yield statement.value, "None"

    return _changed(source, changes)


def _changed(source: str, changes: Callable[[ast.Module], Iterator[tuple[ast.expr, str]]]) -> str:
    """Source with some expressions replaced, each on the lines where it was."""
    try:
        tree = parse(source)
    except SyntaxError:
        return source
    lines = [line.encode() for line in io.StringIO(source, newline="\n")]
    found = sorted(changes(tree), key=lambda each: (each[0].lineno, each[0].col_offset))
    for node, text in reversed(found):
        assert node.end_lineno is not None
        first, last = node.lineno - 1, node.end_lineno - 1
        if last > first:
            text = "(" + text + "\n" * (last - first) + ")"
        changed = lines[first][: node.col_offset] + text.encode()
        changed += lines[last][node.end_col_offset :]
        lines[first : last + 1] = changed.splitlines(keepends=True)
    return b"".join(_without_future(lines, tree)).decode()


def refuse_looking(tree: ast.AST, path: str) -> None:
    """Refuse code that looks at what its annotations are, where they travel as text.

    Raises:
        NotPortable: It does, with the line.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and node.attr in _LOOKS_AT_VALUES:
            raise NotPortable(
                f"{path}, line {node.lineno}: `.{node.attr}` looks at annotations, which travel "
                "to another version of Python as text.",
                "Use `typing.get_type_hints`, or the same version of Python on both sides.",
            )


def _annotations(tree: ast.AST) -> Iterator[ast.expr]:
    for node in ast.walk(tree):
        if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)) and node.returns is not None:
            yield node.returns
        elif isinstance(node, (ast.arg, ast.AnnAssign)) and node.annotation is not None:
            yield node.annotation


def _without_future(lines: list[bytes], tree: ast.Module) -> list[bytes]:
    """Without the import that Python 3.6 does not know; the text is there already."""
    for node in tree.body:
        if isinstance(node, ast.ImportFrom) and node.module == "__future__":
            others = [alias.name for alias in node.names if alias.name != "annotations"]
            text = f"from __future__ import {', '.join(others)}" if others else ""
            assert node.end_lineno is not None
            count = node.end_lineno - node.lineno + 1
            lines[node.lineno - 1 : node.end_lineno] = [text.encode() + b"\n"] + [b"\n"] * (
                count - 1
            )
    return lines
