"""Pickles that the far side can open without Prefect and without the user's modules.

The user's own code (anything outside the standard library and site-packages) travels by
value, a Prefect task as the plain function it wraps.
"""

from __future__ import annotations

import io
import pickle
import re
import site
import sys
import sysconfig
import types
from collections.abc import Callable
from functools import cache
from typing import Any

from cloudpickle import CloudPickler
from cloudpickle.cloudpickle import _dynamic_class_reduce, dynamic_subimport
from prefect.context import ContextModel
from prefect.futures import PrefectFuture
from prefect.tasks import Task, task

from clustrix_prefect.errors import NotPortable

# Python 3.6 and 3.7 read protocol 4 only.
_OLDEST_WITH_PROTOCOL_5 = (3, 8)
# cloudpickle would turn an open file into its content, without a word.
_STAY_HERE = (ContextModel, PrefectFuture, io.IOBase)
_DUNDER = re.compile(r"^__\w+__$")


def dumps(
    value: Any,
    python: tuple[int, int],
    name: str,
    refer: Callable[[Any], Any] | None = None,
) -> bytes:
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
    protocol = 5 if python >= _OLDEST_WITH_PROTOCOL_5 else 4
    try:
        pickler = _CallPickler(buffer, protocol=protocol)
        if refer is not None:
            pickler.persistent_id = refer
        pickler.dump(value)
    except NotPortable:
        raise
    except Exception as error:  # pickling runs the user's own __reduce__ and __getstate__
        raise NotPortable(
            f"{name[0].upper()}{name[1:]} cannot be sent to the cluster: {error}.",
            "Pass plain data, and open files, connections and locks inside the task.",
        ) from error
    return buffer.getvalue()


def is_user_module(name: str | None) -> bool:
    """Whether a module is the user's own code, which the far side cannot be expected to have."""
    if not name or name == "__main__":
        return True
    # A module that is no longer loaded, or was made by exec, cannot be imported far away.
    return _is_user_file(getattr(sys.modules.get(name), "__file__", None), name)


@cache
def _is_user_file(path: str | None, name: str) -> bool:
    top = name.partition(".")[0]
    if top in sys.stdlib_module_names or top in ("prefect", "clustrix_prefect"):
        return False
    return path is None or not path.startswith(_installed_prefixes())


@cache
def _installed_prefixes() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    installed = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple({*installed, *site.getsitepackages(), site.getusersitepackages()})


class _CallPickler(CloudPickler):  # type: ignore[misc]
    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType:
            if is_user_module(obj.__module__):
                return self._dynamic_function_reduce(obj)
        elif isinstance(obj, type):
            if is_user_module(obj.__module__):
                return _dynamic_class_reduce(obj)
        elif kind is types.ModuleType:
            if is_user_module(obj.__name__):
                return dynamic_subimport, (obj.__name__, _module_contents(obj))
        elif isinstance(obj, Task):
            # Far away `prefect.task` is a stand-in that calls the function it wraps.
            return task, (obj.fn,)
        elif isinstance(obj, _STAY_HERE) and not isinstance(obj, (io.BytesIO, io.StringIO)):
            raise NotPortable(
                f"A {kind.__name__} cannot be sent to the cluster.",
                "Send what it holds: a future as a parameter of its own, a file by its path.",
            )
        return super().reducer_override(obj)


def _module_contents(module: types.ModuleType) -> dict[str, Any]:
    """What a module defines, without what ties it to this machine's import system."""
    return {name: value for name, value in vars(module).items() if not _DUNDER.match(name)}


def restore(data: bytes) -> Any:
    """The value of a pickle whose signature was verified."""
    return pickle.loads(data)
