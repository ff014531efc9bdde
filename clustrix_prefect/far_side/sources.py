"""Compiles source that may have been written for a newer Python.

Annotations are what most often fails in an older one (`list[int]`, `int | None`), and nothing
that runs needs them: they are kept as text, or left out where Python cannot do that.
"""

import __future__

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

_AS_TEXT = getattr(getattr(__future__, "annotations", None), "compiler_flag", None)


def compile_source(source: str, path: str, line: int = 1, annotations: str = "all") -> "Any":
    """A code object.

    Args:
        source: The source.
        path: The file that it is from, for tracebacks.
        line: Where in that file it begins.
        annotations: Which annotations are evaluated, as usual: "all", those "of classes", or "".

    Raises:
        SyntaxError: This version of Python cannot read it.
    """
    padded = "\n" * (line - 1) + source
    if annotations == "of classes" or _AS_TEXT is None:
        from .annotations import without_annotations

        tree = without_annotations(padded, path, of_functions=annotations != "all")
        return compile(tree, path, "exec", dont_inherit=True)
    return compile(padded, path, "exec", 0 if annotations else _AS_TEXT, dont_inherit=True)


def function_code(source: str, path: str, line: int, name: str) -> "Any":
    """The code object of a function.

    Args:
        source: Its definition, perhaps inside a function whose parameters are its free
            variables.
        path: The file that it is from.
        line: Where in that file `source` begins.
        name: The function's name.
    """
    return _find(compile_source(source, path, line, annotations=""), name)


def _find(code: "Any", name: str) -> "Any":
    inner = [constant for constant in code.co_consts if isinstance(constant, type(code))]
    # A lambda's default values, which may be lambdas, come before it.
    for constant in reversed(inner):
        if constant.co_name == name:
            return constant
    return next((found for each in inner for found in [_find(each, name)] if found), None)


def describe_syntax_error(error: SyntaxError) -> str:
    """Which line this Python cannot read."""
    return "{}, line {} is not Python {}.{}: {}: {}".format(
        error.filename,
        error.lineno,
        *(sys.version_info[:2] + (error.msg, (error.text or "").strip())),
    )
