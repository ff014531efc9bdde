"""The values that classes and functions have now, other than their source says.

A setting that was changed in a class, or a default argument that was computed, is data of the
user's process like any variable, and must not be computed again far away.
"""

from __future__ import annotations

import ast
import asyncio
import collections
import datetime
import decimal
import fractions
import functools
import inspect
import pathlib
import re
import threading
import types
import uuid
import weakref
from abc import ABCMeta
from collections.abc import Iterator
from typing import Any

from clustrix_prefect.packaging.ownership import is_user_module

_PLAIN = (
    *(bool, int, float, complex, str, bytes, type(None)),
    *(datetime.date, datetime.datetime, datetime.time, datetime.timedelta, datetime.timezone),
    *(decimal.Decimal, fractions.Fraction, uuid.UUID),
    *(pathlib.PurePosixPath, pathlib.PosixPath),
)
# What a class fills as it is used.
_FILLED = (dict, list, set, collections.deque, weakref.WeakSet)
# What `functools.lru_cache` makes of a function.
Cached: Any = type(functools.lru_cache(lambda: None))
# Made again as they were: they hold nothing, or what stays in the process.
_FRESH = (
    *(types.ModuleType, types.GenericAlias, types.UnionType, inspect.Signature, re.Pattern),
    *(type(threading.Lock()), type(threading.RLock()), threading.Condition, threading.local),
    *(threading.Semaphore, asyncio.Lock, asyncio.Condition, asyncio.Semaphore),
)
_WEAK = (weakref.WeakKeyDictionary, weakref.WeakValueDictionary)
_COLLECTIONS = (tuple, list, set, frozenset)
_MISSING = object()
_DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef)


def is_plain(value: Any) -> bool:
    """Return whether a value is data and nothing else, so that a copy of it serves as well."""
    kind = type(value)
    if kind is dict:
        return all(is_plain(key) and is_plain(item) for key, item in value.items())
    return kind in _PLAIN or (kind in _COLLECTIONS and all(map(is_plain, value)))


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
        for name, literal in _assigned(each):
            if name.startswith("__") and not name.endswith("__"):
                name = f"_{node.name.lstrip('_')}{name}"
            said[name] = literal
    fields = getattr(value, "__dataclass_fields__", {})
    defined = {each.name: each for each in node.body if isinstance(each, _DEFINITIONS)}
    for name, now in vars(value).items():
        if name.startswith("__") or (name in fields and fields[name].default is now):
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
            if name in said and _may_hold(now):
                yield name
            continue
        literal = said.get(name, _MISSING)
        if type(literal) is not type(now) or literal != now:
            yield name


def removed_from(value: type, node: ast.ClassDef) -> Iterator[str]:
    """Yield the methods of a class's source that it has no more."""
    for each in node.body:
        if isinstance(each, _DEFINITIONS) and each.name not in vars(value):
            name = each.name
            if not name.startswith("__"):
                yield name


def is_fresh(value: Any) -> bool:
    """Return whether a value is as good if it is made again: a lock, say."""
    is_empty = isinstance(value, _WEAK) and not value
    return is_empty or isinstance(value, _FRESH) or type(value).__module__ == "typing"


def may_be_changed(value: Any) -> bool:
    """Return whether a variable of a module may be what decorators count in, or note things in."""
    return isinstance(value, _FILLED) or is_plain(value) or is_user_module(type(value).__module__)


def _may_hold(value: Any) -> bool:
    """Return whether an attribute of a class is an object that may hold what was put into it."""
    is_code = isinstance(value, (type, types.FunctionType, types.BuiltinFunctionType))
    return not (is_code or is_fresh(value) or _is_descriptor(value))


def is_users_descriptor(value: Any) -> bool:
    """Return whether attributes go through a value, which is of a class of the user's."""
    return is_user_module(type(value).__module__) and _is_descriptor(value)


def _is_descriptor(value: Any) -> bool:
    return any(hasattr(type(value), name) for name in ("__get__", "__set__", "__set_name__"))


def _code_of(value: Any) -> types.CodeType | None:
    """Return the code of a function, or of a property's, that a class holds."""
    if isinstance(value, property):
        value = value.fget
    return value.__code__ if isinstance(value, types.FunctionType) else None


def changed_defaults(value: types.FunctionType, node: ast.AST) -> Iterator[str]:
    """Which attributes hold default values that are not those, or not literally, in its source.

    Args:
        value: The function.
        node: Its source.
    """
    arguments: ast.arguments = getattr(node, "args")  # noqa: B009
    said = [_literal(each) for each in arguments.defaults]
    if list(value.__defaults__ or ()) != said:
        yield "__defaults__"
    said_by_name = {
        name.arg: _literal(each)
        for name, each in zip(arguments.kwonlyargs, arguments.kw_defaults, strict=True)
        if each is not None
    }
    if (value.__kwdefaults__ or {}) != said_by_name:
        yield "__kwdefaults__"


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
