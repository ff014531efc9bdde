"""The names by which pickles ask the far side for parts of the user's code.

They exist here so that pickle finds them; `far_side/worker/bundle.py` has what they do there. Some
are written by the far side, in results, and do here what their docstrings say.
"""

from __future__ import annotations

import marshal
import sys
import types
from typing import Any, NoReturn

from cloudpickle.cloudpickle import _DYNAMIC_CLASS_TRACKER_BY_ID

from clustrix_prefect.packaging.local_classes import class_of


def _only_far_away() -> NoReturn:
    raise RuntimeError("pickles of a call can only be opened by the far side")


def named(module: str, name: str) -> Any:
    """Return what a module calls by this name."""
    found: Any = loaded(module)
    for part in name.split("."):
        found = getattr(found, part)
    return found


def loaded(module: str) -> types.ModuleType:
    """Return a module, without waiting for another thread that is importing it."""
    if module not in sys.modules:
        __import__(module)
    return sys.modules[module]


def namespace(module: str) -> dict[str, Any]:
    """Return what the functions of a module have as their globals."""
    return vars(loaded(module))


def named_function(module: str, name: str) -> Any:
    """Return the function of this name; of a task, what it wraps."""
    _only_far_away()


def module(name: str) -> Any:
    """Return the module of this name."""
    return loaded(name)


def blob(*reference: Any) -> Any:
    """Return a large value, a file or a folder, which travels apart."""
    _only_far_away()


def local_class(tracker_id: str) -> Any:
    """Return a class that no module knows by its name, as the bundle brings it."""
    _only_far_away()


def class_at_home(tracker_id: str, module: str, name: str) -> Any:
    """Return a class of the flow's, that went far away by value."""
    found = _DYNAMIC_CLASS_TRACKER_BY_ID.get(tracker_id)
    if found is None:
        found = class_of(tracker_id)
    return named(module, name) if found is None else found


def task(fn: Any, options: dict[str, Any]) -> Any:
    """Return a task."""
    _only_far_away()


def flow(fn: Any, options: dict[str, Any]) -> Any:
    """Return a flow."""
    _only_far_away()


def code(marshalled: bytes) -> types.CodeType:
    """Return a code object of this minor version of Python."""
    found: types.CodeType = marshal.loads(marshalled)  # noqa: S302
    return found


def exception(kind: Any, args: tuple[Any, ...], state: dict[str, Any]) -> BaseException:
    """Return an exception, without its `__init__`."""
    _only_far_away()


def cached(function: Any, maxsize: int | None, typed: bool) -> Any:
    """Return a function with `functools.lru_cache`, its cache empty."""
    _only_far_away()


def dispatcher(implementations: list[tuple[type, Any]]) -> Any:
    """Return a `functools.singledispatch` function with what was registered for each type."""
    _only_far_away()


def cell() -> Any:
    """Return a new, empty cell of a closure."""
    _only_far_away()


def fill_cell(cell: Any, state: tuple[Any]) -> None:
    """Give a cell its content."""
    _only_far_away()


def enum(*described: Any) -> Any:
    """Return an enumeration with its members."""
    _only_far_away()


def fill_enum(made: Any, state: Any) -> None:
    """Give an enumeration its methods, and its members what they hold."""
    _only_far_away()


def inner_function(key: str, closure: tuple[Any, ...], name: str, qualname: str) -> Any:
    """Return a function that was defined inside another one."""
    _only_far_away()


def inner_class(key: str, tracker_id: str, cells: Any, qualname: str, early: Any) -> Any:
    """Return a class that was made inside a function."""
    _only_far_away()


def fill_inner_class(made: Any, state: Any) -> None:
    """Give such a class what it holds, and the variables around it."""
    _only_far_away()


def fill_function(function: Any, state: dict[str, Any]) -> None:
    """Give an inner function its defaults, attributes and what it closes over."""
    _only_far_away()


def essence(*said: Any) -> Any:
    """Return what the identity of a function, class or module is derived from; never opened."""
    _only_far_away()
