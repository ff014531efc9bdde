"""What decorators keep for themselves: counters, caches, registries.

Far away a decorator runs again, and makes what it made here, but with nothing in it yet. What it
has in it by now is data of the user's process like any variable: it is looked for in what the
decorator made of a function, and put into what it makes there (`far_side/wire/kept.py`).
"""

from __future__ import annotations

import ast
import enum
import functools
import types
from abc import ABCMeta
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

from clustrix_prefect.far_side.wire.kept import CONTENT, REGISTERED, cells, describe, inside
from clustrix_prefect.packaging.ownership import (
    is_user_file,
    is_user_module,
    look_up,
    plain_function,
)
from clustrix_prefect.packaging.runtime_values import (
    Cached,
    changed_defaults,
    held_by,
    is_fresh,
    is_plain,
    is_users_descriptor,
)
from clustrix_prefect.packaging.source_files import CELL, Definition, SourceFile

_LAYERS = (classmethod, staticmethod, property, functools.cached_property)
_DISPATCHER = functools.singledispatch(lambda _: None).__code__  # type: ignore[attr-defined]


@dataclass
class Kept:
    """What was found in what a definition became.

    Attributes:
        file: Where the definition is written.
        node: The definition.
        values: What is kept, by its path.
        defaults: Which defaults of the definition itself are among them.
        layers: What there has to be at the paths on the way, as `describe` describes it.
        cells: The ids of the cells that were looked into.
        is_of: Whether what was looked at was made of this definition.
        is_itself: Whether it is what was defined, without anything around it.
    """

    file: SourceFile
    node: Definition
    values: dict[str, Any] = field(default_factory=dict)
    defaults: set[str] = field(default_factory=set)
    layers: dict[str, str] = field(default_factory=dict)
    cells: set[int] = field(default_factory=set)
    is_of: bool = False
    is_itself: bool = False
    _seen: set[int] = field(default_factory=set)

    def look_at(self, value: Any, path: str) -> None:
        """Note what a function, or an object in its place, keeps, and what is below it."""
        value = plain_function(value)
        if id(value) in self._seen:
            return
        self._seen.add(id(value))
        if isinstance(value, (classmethod, staticmethod)):
            self.look_at(value.__func__, path)
        elif isinstance(value, types.FunctionType):
            self._look_at_function(value, path)
        elif isinstance(value, property):
            for name in ("fget", "fset", "fdel"):
                self.look_at(getattr(value, name), f"{path}.{name}")
        elif isinstance(value, functools.cached_property):
            self.look_at(value.func, f"{path}.func")
        elif type(value) is Cached:
            self._look_at_attributes(vars(value), path)
        elif isinstance(value, types.MethodType):
            self.look_at(value.__func__, f"{path}.__func__")
            if is_user_module(type(value.__self__).__module__):
                self._look_at_attributes(_attributes(value.__self__), f"{path}.__self__")
        elif isinstance(value, type):
            self._look_at_class(value, path)
        elif _is_made_by_users_class(value):
            self.layers[path] = describe(value)
            self._look_at_attributes(_attributes(value), path)
            if isinstance(value, (dict, list, set)):
                self.values[f"{path}.{CONTENT}"] = inside(value, CONTENT)
        elif isinstance(value, functools.partial):
            self.look_at(value.func, f"{path}.func")
            for name in ("args", "keywords"):
                if given := getattr(value, name):
                    self._note(given, f"{path}.{name}", is_users=True)

    def _look_at_class(self, value: type, path: str) -> None:
        held: set[str] = set()
        if isinstance(self.node, ast.ClassDef) and self._is_the_class(value):
            self.is_of = True
            held |= set(held_by(value, self.node))
            self.values |= {f"{path}.{name}": inside(value, name) for name in held}
            if isinstance(value, ABCMeta) and (registered := inside(value, REGISTERED)):
                self.values[f"{path}.{REGISTERED}"] = registered
        elif f".{self.node.name}." not in f".{value.__qualname__}":
            return  # another class, which is not made here
        for name, member in getattr(value, "__members__", {}).items():
            if isinstance(member, enum.Enum):
                self._look_at_attributes(_noted_on(member), f"{path}.{name}")
        for name, each in list(vars(value).items()):
            if name in held:
                continue
            self.look_at(each, f"{path}.{name}")
            if is_users_descriptor(each):
                self._look_at_attributes(_attributes(each), f"{path}.{name}")

    def _look_at_function(self, function: types.FunctionType, path: str) -> None:
        code = function.__code__
        is_users = _is_users(function)
        original = next((each for each in self._functions if each in self._at(code)), None)
        if original is None and is_users:
            self.layers[path] = describe(function)
        if original is not None:
            self.is_of = self.is_of or original is self.node
            self.is_itself = self.is_itself or path == self.node.name
            for name in changed_defaults(function, original):
                if original is self.node:
                    self.defaults.add(name)
                self.values[f"{path}.{name}"] = getattr(function, name)
        elif is_users:
            for name in ("__defaults__", "__kwdefaults__"):
                if getattr(function, name):
                    self.values[f"{path}.{name}"] = getattr(function, name)
        if function.__code__ is _DISPATCHER:
            self.values[f"{path}.{REGISTERED}"] = inside(function, REGISTERED)
            self.look_at(function.__wrapped__, f"{path}.__wrapped__")  # type: ignore[attr-defined]
            return
        for name, cell in cells(function).items():
            self.cells.add(id(cell))
            try:
                content = cell.cell_contents
            except ValueError:  # not assigned to yet
                continue
            if name == "__class__":  # for `super()`
                continue
            self._note(content, f"{path}.({name})", is_users)
        self._look_at_attributes(vars(function), path, is_users)

    def _look_at_attributes(
        self, attributes: dict[str, Any], path: str, is_users: bool = True
    ) -> None:
        for name, value in list(attributes.items()):
            is_own = not (name.startswith("__") and name.endswith("__"))
            self._note(value, f"{path}.{name}", is_own and (is_users or is_plain(value)))

    def _note(self, value: Any, path: str, is_users: bool) -> None:
        plain = plain_function(value)
        if is_fresh(plain):
            return
        if self._is_made_again(plain):
            self.look_at(plain, path)
        elif is_users and not _is_of_a_library(plain):
            self.values[path] = value

    def _is_made_again(self, value: Any) -> bool:
        """Return whether a value is code around code, which a decorator makes again."""
        if isinstance(value, types.FunctionType):
            # What a module knows by a name is the same far away.
            return look_up(value.__module__, value.__qualname__) is not value
        if isinstance(value, _LAYERS) or type(value) is Cached:
            return True
        wraps = isinstance(value, (types.MethodType, functools.partial))
        if wraps or _is_made_by_users_class(value):
            below = Kept(self.file, self.node)
            below.look_at(value, "")
            return below.is_of
        return isinstance(value, type) and self._is_the_class(value)

    def _is_the_class(self, value: type) -> bool:
        return isinstance(self.node, ast.ClassDef) and self.node.name == value.__name__

    @functools.cached_property
    def _functions(self) -> list[Any]:
        """The definition itself, and a class's methods."""
        return [self.node, *(self.node.body if isinstance(self.node, ast.ClassDef) else ())]

    def _at(self, code: types.CodeType) -> list[Any]:
        return self.file.functions_at(code) if code.co_filename == self.file.filename else []


def _is_made_by_users_class(value: Any) -> bool:
    kind = type(value)
    return (
        kind is not type
        and callable(value)
        and not isinstance(value, type)
        and (is_user_module(kind.__module__) and not isinstance(value, functools.partial))
    )


def _is_of_a_library(value: Any) -> bool:
    """Return whether it is a function in C, of no object but its module."""
    owner = getattr(value, "__self__", None)
    return isinstance(value, types.BuiltinFunctionType) and (
        owner is None or isinstance(owner, types.ModuleType)
    )


def _attributes(value: Any) -> dict[str, Any]:
    """Return what an object holds, in slots as well."""
    found = dict(getattr(value, "__dict__", {}))
    for name, each in _slots(type(value)):
        if hasattr(value, name):
            found[name] = each.__get__(value)
    return found


def _noted_on(member: enum.Enum) -> dict[str, Any]:
    return {k: v for k, v in vars(member).items() if not (k.startswith("_") and k.endswith("_"))}


def _slots(kind: type) -> Iterator[tuple[str, Any]]:
    for base in kind.__mro__:
        for name, each in vars(base).items():
            if isinstance(each, types.MemberDescriptorType):
                yield name, each


def _is_users(function: types.FunctionType) -> bool:
    """Return whether a function is written in a file of the user's, rather than made as text."""
    filename = function.__code__.co_filename
    if CELL.match(filename):
        return True
    if filename.startswith("<"):
        return False
    return is_user_file(filename, str(function.__globals__.get("__name__")))
