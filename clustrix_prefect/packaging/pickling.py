"""Pickles that the far side can open without Prefect and without the user's modules.

To the same minor version of Python functions and classes travel by value, as cloudpickle
does it (`by_value.py`); to another one as source (`by_source.py`). What both have in common is
here. A Prefect task travels as the plain function it wraps, with its options.
"""

from __future__ import annotations

import copyreg
import functools
import io
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

from cloudpickle import CloudPickler
from prefect.context import ContextModel
from prefect.flows import Flow
from prefect.futures import PrefectFuture
from prefect.logging.loggers import PrefectLogAdapter, get_logger
from prefect.tasks import Task
from pydantic import Secret, SecretBytes, SecretStr

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.far_side.standins import standin
from clustrix_prefect.far_side.wire.pickles import PortableUnpickler
from clustrix_prefect.far_side.wire.unpicklable import describe_unpicklable
from clustrix_prefect.files import File, Folder, StoredFile
from clustrix_prefect.packaging import references
from clustrix_prefect.packaging.imports import top_level
from clustrix_prefect.packaging.ownership import is_user_module
from clustrix_prefect.packaging.sources import InnerFunction

HERE = (sys.version_info.major, sys.version_info.minor)
# Python 3.6 and 3.7 read protocol 4 only.
_OLDEST_WITH_PROTOCOL_5 = (3, 8)
_STAY_HERE = (
    *(ContextModel, PrefectFuture),
    *(Secret, SecretStr, SecretBytes),
    # cloudpickle would turn them into their content, without a word.
    *(io.IOBase, memoryview),
)
_ALWAYS_THERE = ("prefect", "clustrix_prefect", "cloudpickle")


def reduce_cached(function: Any) -> Any:
    """Reduce a function with a cache to one whose cache is empty."""
    given = function.cache_parameters()
    by_itself = {"cache_parameters", *vars(functools.lru_cache(function.__wrapped__))}
    attributes = {k: v for k, v in vars(function).items() if k not in by_itself}
    return references.cached, (function.__wrapped__, given["maxsize"], given["typed"]), attributes


_INSTEAD = (
    "Send what it holds: a future as a parameter of its own, a file by its path, a memoryview as "
    "bytes, a secret by the name of the block or variable that has it."
)


@dataclass(frozen=True)
class Reference:
    """A function, class or module that a pickle names.

    Attributes:
        module: The module; of those that are installed, the package.
        name: The top-level name in it; "" for the module itself.
    """

    module: str
    name: str


@dataclass(frozen=True)
class LocalClass:
    """A class that no module knows by its name.

    Attributes:
        tracker_id: Names it, in this process and far away.
        value: The class.
    """

    tracker_id: str
    value: type


Met: TypeAlias = Reference | LocalClass | InnerFunction


class CallPickler(CloudPickler):  # type: ignore[misc]
    """Pickles what a call needs.

    Attributes:
        python: The far side's Python version.
        met: The user's code that the pickle names, and the packages that it needs.
        needs_prefect: Whether something of Prefect is in it that its stand-in does not have.

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
        self.met: set[Met] = set()
        self.needs_prefect = False
        self._refer = refer

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

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if self._refer is not None and (reference := self._refer(obj)) is not None:
            return references.blob, reference
        if kind is types.FunctionType:
            return self._reduce_function(obj)
        if isinstance(obj, type) and kind is not types.GenericAlias:  # one in 3.10
            return self._reduce_class(obj)
        if kind is types.ModuleType:
            return self._reduce_module(obj)
        if kind is types.BuiltinFunctionType and obj.__module__:
            self._note_module(obj.__module__)
        elif isinstance(obj, (Task, Flow)):
            return self._reduce_task(obj)
        elif isinstance(obj, (File, Folder, StoredFile)):
            raise NotPortable(
                f"{kind.__name__} is brought to the cluster as an argument of a task only.",
                "Pass it to the task as a parameter, instead of keeping it in a variable.",
            )
        elif isinstance(obj, PrefectLogAdapter):
            return get_logger, (obj.logger.name,)
        elif isinstance(obj, _STAY_HERE) and not isinstance(obj, (io.BytesIO, io.StringIO)):
            raise NotPortable(f"A {kind.__name__} cannot be sent to the cluster.", _INSTEAD)
        return self._reduce_value(obj)

    def _reduce_function(self, obj: types.FunctionType) -> Any:
        raise NotImplementedError

    def _reduce_class(self, obj: type) -> Any:
        raise NotImplementedError

    def _reduce_module(self, obj: types.ModuleType) -> Any:
        self._note_module(obj.__name__)
        return references.module, (obj.__name__,)

    def _reduce_task(self, obj: Task[Any, Any] | Flow[Any, Any]) -> Any:
        kind = references.task if isinstance(obj, Task) else references.flow
        return kind, (obj.fn, options_of(obj))

    def _reduce_value(self, obj: Any) -> Any:
        if isinstance(obj, BaseException) and _is_reduced_by_others(type(obj)):
            return obj.__reduce_ex__(4)
        return CloudPickler.reducer_override(self, obj)

    def _note(self, module: str, qualified_name: str) -> None:
        self.met.add(Reference(module, qualified_name.partition(".")[0]))

    def _note_module(self, name: str, attribute: str = "") -> None:
        top = top_level(name)
        if top == "prefect" and not standin.offers(name, attribute.partition(".")[0]):
            self.needs_prefect = True
        if is_user_module(name):
            self.met.add(Reference(name, ""))
        elif top not in sys.stdlib_module_names and top not in _ALWAYS_THERE:
            self.met.add(Reference(top, ""))

    def _describe_unpicklable(self, value: Any) -> str | None:
        return describe_unpicklable(value, self._can_be_pickled, _arguments(value))

    def _can_be_pickled(self, value: Any) -> bool:
        try:
            self._another().dump(value)
        except Exception:
            return False
        return True

    def _another(self) -> CallPickler:
        """Return a pickler like this one, for a part."""
        return type(self)(io.BytesIO(), self.python, self._refer)


# What a task or flow far away honours.
_OPTIONS = (
    *("name", "task_run_name", "flow_run_name", "retries", "retry_delay_seconds"),
    *("retry_jitter_factor", "retry_condition_fn", "timeout_seconds", "log_prints"),
)


def options_of(obj: Task[Any, Any] | Flow[Any, Any]) -> dict[str, Any]:
    """How a task or flow is to be run: what it was given, as far as that is not the default."""
    found = {name: getattr(obj, name, None) for name in _OPTIONS}
    return {name: value for name, value in found.items() if value}


def _arguments(value: Any) -> list[tuple[str, Any]] | None:
    """Return the arguments of a call by their names, if that is what `(args, kwargs)` is."""
    match value:
        case (tuple() as args, dict() as kwargs) if all(isinstance(key, str) for key in kwargs):
            named = [(f"args[{index}]", arg) for index, arg in enumerate(args)]
            return named + list(kwargs.items())
    return None


def sets_itself_up(obj: Any) -> bool:
    """Whether it is an exception that pickle would make by calling an `__init__` of the user's.

    With `args`, which need not be what that takes.
    """
    kind: Any = type(obj)
    return (
        isinstance(obj, BaseException)
        and isinstance(kind.__init__, types.FunctionType)
        and kind.__reduce__ is BaseException.__reduce__
        and kind.__reduce_ex__ is object.__reduce_ex__
    )


def _is_reduced_by_others(kind: type) -> bool:
    """Whether a package registered a reducer with `copyreg` for exceptions that are not its own.

    As tblib does for all exceptions, wherever Dask is imported; the far side need not have it.
    """
    reducer = copyreg.dispatch_table.get(kind)
    if reducer is None:
        return False
    module = getattr(reducer, "__module__", None) or ""
    package = top_level(module)
    is_own = package == top_level(kind.__module__) or package in sys.stdlib_module_names
    return not is_own and not is_user_module(module)


def dotted(python: tuple[int, int]) -> str:
    """Return a version as people write it."""
    return ".".join(map(str, python))


# Where results that an earlier version left on a cluster look for what they name.
_MOVED = {"clustrix_prefect.files": "clustrix_prefect.sessions.remote_files"}


class _ResultUnpickler(PortableUnpickler):
    """Reads what came back, without waiting for a module that another thread is importing."""

    def find_class(self, module: str, name: str) -> Any:
        module = _MOVED.get(module, module)
        found: Any = sys.modules.get(module)
        # What cloudpickle makes of another version's bytecode crashes the interpreter.
        if found is None or (self._foreign and module.startswith("cloudpickle")):
            return super().find_class(module, name)
        try:
            for part in name.split("."):
                found = getattr(found, part)
        except AttributeError:
            return super().find_class(module, name)
        return super().find_class(module, name) if found is types.CodeType else found


def restore(data: bytes, python: tuple[int, ...] = HERE) -> Any:
    """Return the value of a pickle whose signature was verified.

    Args:
        data: The pickle.
        python: The version of Python that made it.
    """
    return _ResultUnpickler(data, tuple(python[:2]) != HERE).load()
