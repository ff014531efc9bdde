"""The values that classes and functions have now, other than their source says.

A setting that was changed in a class, or a default argument that was computed, is data of the
user's process like any variable, and must not be computed again far away.
"""

from __future__ import annotations

import ast
import collections
import datetime
import decimal
import fractions
import pathlib
import types
import uuid
import weakref
from abc import ABCMeta
from collections.abc import Iterator
from typing import Any

_PLAIN = (
    *(bool, int, float, complex, str, bytes, type(None)),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID),
    *(pathlib.PurePosixPath, pathlib.PosixPath),
)
# What a class fills as it is used.
_FILLED = (dict, list, set, collections.deque, weakref.WeakSet)
_COLLECTIONS = (tuple, list, set, frozenset)
_MISSING = object()
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def is_plain(value: Any) -> bool:
    """Whether a value is data and nothing else, so that a copy of it serves as well."""
    kind = type(value)
    if kind is dict:
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    return kind in _PLAIN or (kind in _COLLECTIONS and all(map(is_plain, value)))


def is_held(value: Any) -> bool:
    """Whether a value that a definition holds can be given to it once more far away."""
    return is_plain(value) or isinstance(value, (types.FunctionType, property, *_FILLED))


def held_by(value: type, node: ast.ClassDef) -> Iterator[str]:
    """The attributes of a class, and of its methods, whose values are not those of its source.

    Args:
        value: The class.
        node: Its source.
    """
    if type(value) not in (type, ABCMeta) or issubclass(value, tuple):
        return  # an enumeration, a model, a named tuple: they look after their attributes
    said: dict[str, Any] = {}
    for each in node.body:
        if isinstance(each, (ast.FunctionDef, ast.AsyncFunctionDef)) and each.name in vars(value):
            yield from (f"{each.name}.{attribute}" for attribute in computed_defaults(each))
        for name, literal in _assigned(each):
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{node.name.lstrip('_')}{name}"
            said[name] = literal
    fields = getattr(value, "__dataclass_fields__", {})
    defined = {each.name: each for each in node.body if isinstance(each, _DEFINITIONS)}
    for name, now in vars(value).items():
        if name.startswith("__") or name in fields:
            continue
        code = _code_of(now)
        decorators = [
            ast.unparse(each) for each in getattr(defined.get(name), "decorator_list", ())
        ]
        is_decorated = any(each not in ("property", f"{name}.setter") for each in decorators)
        lines = range(node.lineno, (node.end_lineno or node.lineno) + 1)
        if code is not None and not is_decorated and code.co_firstlineno not in lines:
            yield name
        if not is_plain(now):
            if isinstance(now, _FILLED) and name in said:
                yield name
            continue
        literal = said.get(name, _MISSING)
        if type(literal) is not type(now) or literal != now:
            yield name


def removed_from(value: type, node: ast.ClassDef) -> Iterator[str]:
    """The methods of a class's source that it has no more."""
    for each in node.body:
        if isinstance(each, _DEFINITIONS) and each.name not in vars(value):
            name = each.name
            if not name.startswith("__"):
                yield name


def held_by_function(
    value: types.FunctionType, node: ast.FunctionDef | ast.AsyncFunctionDef, is_itself: bool
) -> Iterator[str]:
    """The attributes of a function whose values are not those of its source.

    Args:
        value: The function.
        node: The source of what has its name.
        is_itself: Whether that is the function, rather than what a decorator made of it.
    """
    yield from (name for name, now in vars(value).items() if is_plain(now))
    if not is_itself:
        return
    if value.__name__ != node.name:
        yield "__name__"
    found = set(computed_defaults(node))
    said = [_literal(each) for each in node.args.defaults]
    if list(value.__defaults__ or ()) != said:
        found.add("__defaults__")
    yield from sorted(found)


def _code_of(value: Any) -> types.CodeType | None:
    """The code of a function, or of a property's, that a class holds."""
    if isinstance(value, property):
        value = value.fget
    return value.__code__ if isinstance(value, types.FunctionType) else None


def computed_defaults(node: ast.FunctionDef | ast.AsyncFunctionDef) -> Iterator[str]:
    """Which of a function's attributes hold default values that its source computes."""
    for attribute, defaults in (
        ("__defaults__", node.args.defaults),
        ("__kwdefaults__", node.args.kw_defaults),
    ):
        if any(each is not None and _literal(each) is _MISSING for each in defaults):
            yield attribute


def _assigned(node: ast.stmt) -> Iterator[tuple[str, Any]]:
    targets: list[ast.expr] = []
    if isinstance(node, ast.Assign):
        targets = node.targets
    elif isinstance(node, ast.AnnAssign):
        targets = [node.target]
    for target in targets:
        if isinstance(target, ast.Name):
            yield target.id, _literal(getattr(node, "value", None))


def _literal(node: ast.expr | None) -> Any:
    try:
        return _MISSING if node is None else ast.literal_eval(node)
    except (ValueError, TypeError, SyntaxError):
        return _MISSING
