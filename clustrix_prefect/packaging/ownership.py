"""Which code is the user's own, and so has to travel."""

from __future__ import annotations

import site
import sys
import sysconfig
import types
from functools import cache
from pathlib import PurePath
from typing import Any

from prefect.flows import Flow
from prefect.tasks import Task

_OURS = ("prefect", "clustrix_prefect")


def is_user_module(name: str | None) -> bool:
    """Whether a module is the user's own code, which the far side cannot be expected to have."""
    if not name or name == "__main__":
        return True
    # A module that is no longer loaded, or was made by exec, cannot be imported far away.
    module = sys.modules.get(name)
    # A namespace package, such as `google`, has no file, but directories.
    path = getattr(module, "__file__", None) or next(iter(getattr(module, "__path__", ())), None)
    return is_user_file(path, name)


@cache
def is_user_file(path: str | None, name: str) -> bool:
    """Return whether the file of a module with this name is the user's own."""
    top = name.partition(".")[0]
    if top in _OURS:
        return False
    if path is None:
        return top not in sys.stdlib_module_names
    # Those of other environments count, too, when they are on the path.
    is_package = not {"site-packages", "dist-packages"}.isdisjoint(PurePath(path).parts)
    return not is_package and not path.startswith(_installed_prefixes())


@cache
def _installed_prefixes() -> tuple[str, ...]:
    paths = sysconfig.get_paths()
    installed = {paths[key] for key in ("stdlib", "platstdlib", "purelib", "platlib")}
    return tuple({*installed, *site.getsitepackages(), site.getusersitepackages()})


def look_up(module: str | None, qualified_name: str) -> Any:
    """Return what a loaded module calls by this name; None if nothing."""
    found: Any = sys.modules.get(module or "")
    for part in qualified_name.split("."):
        found = getattr(found, part, None)
    return found


def plain_function(value: Any) -> Any:
    """Return the function that a task or flow wraps; anything else as it is."""
    return value.fn if isinstance(value, (Task, Flow)) else value


def innermost_code(value: Any) -> types.CodeType | None:
    """Return the code of a function, below what decorators put around it."""
    value = plain_function(value)
    seen: set[int] = set()
    while hasattr(value, "__wrapped__") and id(value) not in seen:
        seen.add(id(value))
        value = plain_function(value.__wrapped__)
    code = getattr(value, "__code__", None)
    return code if isinstance(code, types.CodeType) else None
