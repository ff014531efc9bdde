"""Compiles the source of a bundle."""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


# The name of the function that makes a class which was made inside a function.
MAKER = "__make__"


def compile_source(source: str, path: str, line: int = 1) -> "Any":
    """Return a code object.

    Args:
        source: The source.
        path: The file that it is from, for tracebacks.
        line: Where in that file it begins.

    Raises:
        SyntaxError: This version of Python cannot read it.
    """
    return compile("\n" * (line - 1) + source, path, "exec", dont_inherit=True)


def function_code(source: str, path: str, line: int, name: str) -> "Any":
    """Return the code object of a function.

    Args:
        source: Its definition, perhaps inside a function whose parameters are its free
            variables.
        path: The file that it is from.
        line: Where in that file `source` begins.
        name: The function's name.
    """
    return _find(compile_source(source, path, line), name)


def _find(code: "Any", name: str) -> "Any":
    inner = [constant for constant in code.co_consts if isinstance(constant, type(code))]
    # A lambda's default values, which may be lambdas, come before it.
    for constant in reversed(inner):
        if constant.co_name == name:
            return constant
    return next((found for each in inner for found in [_find(each, name)] if found), None)


def describe_syntax_error(error: SyntaxError) -> str:
    """Return which line this Python cannot read."""
    return "{}, line {} is not Python {}.{}: {}: {}".format(
        error.filename,
        error.lineno,
        *(sys.version_info[:2] + (error.msg, (error.text or "").strip())),
    )
