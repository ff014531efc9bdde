"""Pickles that the far side can open without Prefect and without the user's modules.

The user's own functions and classes (anything outside the standard library and
site-packages) travel as source, in a bundle; a pickle only names them, and the pickler notes
which it met. Only what has no source travels as cloudpickle's bytecode, and only to the same
minor version of Python. A Prefect task travels as the plain function it wraps.
"""

from __future__ import annotations

import builtins
import hashlib
import io
import sys
import types
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Any, TypeAlias, cast
from zoneinfo import ZoneInfo

from cloudpickle import CloudPickler
from cloudpickle.cloudpickle import _dynamic_class_reduce
from prefect.blocks.core import Block
from prefect.context import ContextModel
from prefect.futures import PrefectFuture
from prefect.logging.loggers import PrefectLogAdapter, get_logger
from prefect.tasks import Task, task
from pydantic import Secret, SecretBytes, SecretStr

from clustrix_prefect.data import File, Folder, RemoteFile, RemoteFolder
from clustrix_prefect.errors import NotPortable
from clustrix_prefect.far_side.pickles import PortableUnpickler
from clustrix_prefect.far_side.unpicklable import describe_unpicklable
from clustrix_prefect.packaging import references
from clustrix_prefect.packaging.ownership import is_user_module, look_up
from clustrix_prefect.packaging.sources import InnerFunction, has_source, inner_function

HERE = (sys.version_info.major, sys.version_info.minor)
# Python 3.6 and 3.7 read protocol 4 only.
_OLDEST_WITH_PROTOCOL_5 = (3, 8)
_STAY_HERE = (
    *(ContextModel, PrefectFuture, Block),
    *(Secret, SecretStr, SecretBytes),
    # cloudpickle would turn them into their content, without a word.
    *(io.IOBase, memoryview),
)
_ALWAYS_THERE = ("prefect", "clustrix_prefect", "cloudpickle")
_INSTEAD = (
    "Send what it holds: a future as a parameter of its own, a file by its path, a memoryview as "
    "bytes, a secret by the name of the block or variable that has it."
)
_SETS = (set, frozenset)
_REDUCE_SET = (set.__reduce__, frozenset.__reduce__)
# Asked for each object of a pickle: these are what there are most of.
_NEVER_REFERRED_TO = frozenset({int, float, complex, bool, type(None)})
# Types of which all values have one order.
_ORDERED = {str, bytes, int}
# Types of values that older versions of Python do not have, and the first that has them.
_NEWER: dict[type, tuple[int, int]] = {
    ZoneInfo: (3, 9),
    types.GenericAlias: (3, 9),
    types.UnionType: (3, 10),
}
if sys.version_info >= (3, 11):
    _NEWER |= {builtins.ExceptionGroup: (3, 11), builtins.BaseExceptionGroup: (3, 11)}
# What numpy 2 makes of a generator of random numbers, numpy 1 cannot read.
_OLDEST_WITH_NUMPY_2 = (3, 9)


@dataclass(frozen=True)
class Reference:
    """A function, class or module that a pickle names.

    Attributes:
        module: The module; of those that are installed, the package.
        name: The top-level name in it; "" for the module itself.
    """

    module: str
    name: str


Met: TypeAlias = Reference | InnerFunction


@dataclass(frozen=True)
class Pickled:
    """A pickle, and the user's code that it names."""

    data: bytes
    met: frozenset[Met]


def dumps(
    value: Any,
    python: tuple[int, int],
    name: str,
    refer: Callable[[Any], Any] | None = None,
) -> Pickled:
    """A pickle of the value for a far side with this Python.

    Args:
        value: What travels.
        python: The far side's Python version, as (major, minor).
        name: What the value is, for errors: "args[1]", "the function fit".
        refer: Gives a reference to what is not to be in the pickle, and None for all else.

    Raises:
        NotPortable: Something in the value cannot be pickled.
    """
    buffer = io.BytesIO()
    pickler = CallPickler(buffer, python, refer)
    pickler.dump_named(value, name)
    return Pickled(buffer.getvalue(), frozenset(pickler.met))


def _needed_by_numpy(kind: type, python: tuple[int, int]) -> tuple[int, int] | None:
    if python >= _OLDEST_WITH_NUMPY_2 or not kind.__module__.startswith("numpy.random."):
        return None
    is_1 = sys.modules["numpy"].__version__.startswith("1.")
    return None if is_1 else _OLDEST_WITH_NUMPY_2


class UserCode:
    """What a pickler does with the user's code.

    Args:
        python: The far side's Python version.
    """

    python: tuple[int, int]
    met: set[Met]

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        needed = _NEWER.get(kind) or _needed_by_numpy(kind, self.python)
        if needed is not None:  # before `list[int]` is taken for a class, as it is in 3.10
            if self.python >= needed:
                return self._otherwise(obj)
            raise NotPortable(
                f"A {kind.__module__}.{kind.__qualname__} needs Python "
                f"{needed[0]}.{needed[1]}, and the cluster has {_dotted(self.python)}.",
                "Send plain data instead, or set the block's `python` to a newer one.",
            )
        if kind is types.FunctionType:
            return self._reduce_function(obj)
        if isinstance(obj, type):
            return self._reduce_class(obj)
        if kind is types.ModuleType:
            self._note_module(obj.__name__)
            return references.module, (obj.__name__,)
        if kind is types.BuiltinFunctionType and obj.__module__:
            self._note_module(obj.__module__)
            return self._otherwise(obj)
        if kind is types.CellType:
            return references.cell, ()
        if isinstance(obj, Task):
            return self._reduce_task(obj)
        if isinstance(obj, (File, Folder, RemoteFile, RemoteFolder)):
            raise NotPortable(
                f"{kind.__name__} is brought to the cluster as an argument of a task only.",
                "Pass it to the task as a parameter, instead of keeping it in a variable.",
            )
        if isinstance(obj, PrefectLogAdapter):
            return get_logger, (obj.logger.name,)
        if isinstance(obj, _STAY_HERE) and not isinstance(obj, (io.BytesIO, io.StringIO)):
            raise NotPortable(f"A {kind.__name__} cannot be sent to the cluster.", _INSTEAD)
        if kind is types.CodeType and self.python != HERE:
            raise _without_source("bytecode", self.python)
        return self._otherwise(obj)

    def _otherwise(self, obj: Any) -> Any:
        raise NotImplementedError

    def _reduce_task(self, obj: Task[Any, Any]) -> Any:
        name = getattr(obj.fn, "__qualname__", "")
        if look_up(obj.fn.__module__, name) is obj and is_user_module(obj.fn.__module__):
            self._note(obj.fn.__module__, name)
            return references.named, (obj.fn.__module__, name)
        # Far away `prefect.task` is a stand-in that calls the function it wraps.
        return task, (obj.fn,)

    def _reduce_function(self, obj: types.FunctionType) -> Any:
        if not is_user_module(obj.__module__):
            self._note_module(obj.__module__)
            return self._otherwise(obj)
        known = look_up(obj.__module__, obj.__qualname__)
        if has_source(obj.__module__):
            if known is obj:
                self._note(obj.__module__, obj.__qualname__)
                return NotImplemented
            if isinstance(known, Task) and known.fn is obj:
                self._note(obj.__module__, obj.__qualname__)
                return references.named_function, (obj.__module__, obj.__qualname__)
        source = inner_function(obj)
        if source is None:
            return self._by_value(obj)
        self.met.add(source)
        closure = obj.__closure__ or ()
        state = {
            "defaults": obj.__defaults__,
            "kwdefaults": obj.__kwdefaults__,
            "attributes": {k: v for k, v in vars(obj).items() if k != "__wrapped__"},
            "cells": [(cell, cell.cell_contents) for cell in closure if _is_filled(cell)],
        }
        made = (source.key, closure, obj.__name__, obj.__qualname__)
        return references.inner_function, made, state, None, None, references.fill_function

    def _reduce_class(self, obj: type) -> Any:
        if not is_user_module(obj.__module__):
            self._note_module(obj.__module__)
            return self._otherwise(obj)
        if has_source(obj.__module__) and look_up(obj.__module__, obj.__qualname__) is obj:
            self._note(obj.__module__, obj.__qualname__)
            return NotImplemented
        return self._by_value(obj)

    def _note(self, module: str, qualified_name: str) -> None:
        self.met.add(Reference(module, qualified_name.partition(".")[0]))

    def _note_module(self, name: str) -> None:
        top = name.partition(".")[0]
        if is_user_module(name):
            self.met.add(Reference(name, ""))
        elif top not in sys.stdlib_module_names and top not in _ALWAYS_THERE:
            self.met.add(Reference(top, ""))

    def _by_value(self, obj: Any) -> Any:
        if self.python != HERE:
            raise _without_source(f"{obj.__module__}.{obj.__qualname__}", self.python)
        if isinstance(obj, type):
            return _dynamic_class_reduce(obj)
        return self._reduce_function_by_value(obj)

    def _reduce_function_by_value(self, obj: types.FunctionType) -> Any:
        raise NotImplementedError


class CallPickler(UserCode, CloudPickler):  # type: ignore[misc]
    """Pickles what a call needs, to the same bytes in every process.

    Sets are what differs between processes. They are pickled as references to what they are
    made of (pickle's persistent ids), in an order that does not depend on hashes.

    Args:
        file: Takes the bytes.
        python: The far side's Python version.
        refer: Gives a reference to what is not to be in the pickle, and None for all else.
    """

    def __init__(
        self,
        file: io.BytesIO,
        python: tuple[int, int],
        refer: Callable[[Any], Any] | None = None,
    ) -> None:
        super().__init__(file, protocol=5 if python >= _OLDEST_WITH_PROTOCOL_5 else 4)
        self.python = python
        self.met = set()
        self._refer = refer
        # By identity: each set, and the reference to it; None if it is pickled as it is.
        self._sets: dict[int, tuple[Any, Any]] = {}
        self._being_ordered: dict[int, bool] = {}

    def dump_named(self, value: Any, name: str) -> None:
        """Pickle one more value.

        Args:
            value: What travels.
            name: What it is, for errors.

        Raises:
            NotPortable: Something in it cannot be pickled.
        """
        try:
            self.dump(value)
        except NotPortable as error:
            where = self._describe_unpicklable(value)
            if where is None:
                raise
            text = f"{error.what.rstrip('.')} ({where})."
            raise NotPortable(text, error.remedy) from error
        except Exception as error:  # pickling runs the user's own __reduce__ and __getstate__
            where = self._describe_unpicklable(value)
            raise NotPortable(
                f"{name[0].upper()}{name[1:]} cannot be sent to the cluster: {where or error}.",
                "Pass plain data, and open files, connections and locks inside the task.",
            ) from error

    def _describe_unpicklable(self, value: Any) -> str | None:
        return describe_unpicklable(value, self._can_be_pickled, _arguments(value))

    def _can_be_pickled(self, value: Any) -> bool:
        try:
            CallPickler(io.BytesIO(), self.python, self._refer).dump(value)
        except Exception:
            return False
        return True

    def _otherwise(self, obj: Any) -> Any:
        if isinstance(obj, _SETS) and type(obj).__reduce__ in _REDUCE_SET:
            made, (elements, *_), state = cast(tuple[Any, ...], obj.__reduce__())
            return made, (self._in_order(elements),), state
        return CloudPickler.reducer_override(self, obj)

    def _reduce_function_by_value(self, obj: types.FunctionType) -> Any:
        return self._dynamic_function_reduce(obj)

    # --- sets -------------------------------------------------------------------------------

    def persistent_id(self, obj: Any) -> Any:
        """A reference to what is not in the pickle as it is; None for nearly everything."""
        kind = type(obj)
        if kind in _NEVER_REFERRED_TO:
            return None
        reference = None if self._refer is None else self._refer(obj)
        if reference is None and kind in _SETS and len(obj) > 1:
            return self._set(obj)
        return reference

    def _set(self, obj: set[Any] | frozenset[Any]) -> Any:
        key = id(obj)
        if key in self._being_ordered:
            self._being_ordered[key] = True
            return None
        if key not in self._sets:
            self._being_ordered[key] = False
            elements = self._in_order(obj)
            # What holds itself cannot be made of its elements.
            holds_itself = self._being_ordered.pop(key)
            reference = None if holds_itself else (type(obj).__name__, elements)
            self._sets[key] = (obj, reference)
        return self._sets[key][1]

    def _in_order(self, elements: Collection[Any]) -> list[Any]:
        kinds = set(map(type, elements))
        if len(kinds) == 1 and kinds <= _ORDERED:
            return sorted(elements)
        return sorted(elements, key=self._digest)

    def _digest(self, element: Any) -> bytes:
        buffer = io.BytesIO()
        pickler = CallPickler(buffer, self.python, self._refer)
        pickler._being_ordered = self._being_ordered
        pickler.dump(element)
        return hashlib.sha256(buffer.getbuffer()).digest()


def _arguments(value: Any) -> list[tuple[str, Any]] | None:
    """The arguments of a call by their names, if that is what `(args, kwargs)` is."""
    match value:
        case (tuple() as args, dict() as kwargs) if all(isinstance(key, str) for key in kwargs):
            named = [(f"args[{index}]", arg) for index, arg in enumerate(args)]
            return named + list(kwargs.items())
    return None


def _is_filled(cell: types.CellType) -> bool:
    try:
        cell.cell_contents  # noqa: B018
        return True
    except ValueError:  # an inner function that was not defined yet
        return False


def _dotted(python: tuple[int, int]) -> str:
    return ".".join(map(str, python))


def _without_source(what: str, python: tuple[int, int]) -> NotPortable:
    return NotPortable(
        f"There is no source of {what}, and without it nothing travels to another version of "
        f"Python: this flow runs on {_dotted(HERE)}, the cluster on {_dotted(python)}.",
        "Define it in a file, at the top level, or use the same version of Python on both sides.",
    )


def restore(data: bytes, python: tuple[int, ...] = HERE) -> Any:
    """The value of a pickle whose signature was verified.

    Args:
        data: The pickle.
        python: The version of Python that made it.
    """
    return PortableUnpickler(data, tuple(python[:2]) != HERE).load()
