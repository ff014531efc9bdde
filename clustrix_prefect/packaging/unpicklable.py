"""Finds the part of a value that keeps it from being pickled."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

# Deeper or wider values are not searched: the message then names the value as a whole.
_MAX_DEPTH = 20
_MAX_PARTS = 10_000


def describe_unpicklable(value: Any, can_be_pickled: Callable[[Any], bool]) -> str | None:
    """The path to the innermost part that cannot be pickled, and its type.

    Args:
        value: What cannot be pickled; the arguments of a call are `(args, kwargs)`.
        can_be_pickled: Tries one part.

    Returns:
        As in `args[1]["model"].lock: _thread.lock`, or None if no part is to blame.
    """
    path = ""
    parts = _arguments(value) or _parts(value)
    for _ in range(_MAX_DEPTH):
        culprit = next((part for part in parts if not can_be_pickled(part[1])), None)
        if culprit is None:
            break
        path, value = path + culprit[0], culprit[1]
        parts = _parts(value)
    if not path:
        return None
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else f"{kind.__module__}."
    return f"{path.removeprefix('.')}: {prefix}{kind.__qualname__}"


def _arguments(value: Any) -> Iterator[tuple[str, Any]] | None:
    match value:
        case (tuple() as args, dict() as kwargs) if all(isinstance(key, str) for key in kwargs):
            parts = [(f"args[{index}]", arg) for index, arg in enumerate(args)]
            return iter(parts + list(kwargs.items()))
    return None


def _parts(value: Any) -> Iterator[tuple[str, Any]]:
    """What a value is made of, each with how to get at it."""
    if isinstance(value, dict):
        for number, (key, item) in enumerate(value.items()):
            if number > _MAX_PARTS:
                return
            yield f"[{key!r}]", item
            yield f" (the key {key!r})", key
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value[:_MAX_PARTS]):
            yield f"[{number}]", item
    elif isinstance(value, (set, frozenset)):
        for item in value:
            yield f" (the element {item!r})", item
    else:
        for name, item in list(getattr(value, "__dict__", {}).items())[:_MAX_PARTS]:
            yield f".{name}", item
        for slot in getattr(type(value), "__slots__", ()):
            if isinstance(slot, str) and hasattr(value, slot):
                yield f".{slot}", getattr(value, slot)
        for number, cell in enumerate(getattr(value, "__closure__", None) or ()):
            name = value.__code__.co_freevars[number]
            yield f" (its variable {name})", cell.cell_contents
