"""Finds the part of a value that keeps it from being pickled; used on both sides."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, Iterator, Optional, Tuple

    Parts = Iterable[Tuple[str, Any]]

# Deeper or wider values are not searched: the message then names the value as a whole.
_MAX_DEPTH = 20
_MAX_PARTS = 10000


def describe_unpicklable(
    value: "Any", can_be_pickled: "Callable[[Any], bool]", parts: "Optional[Parts]" = None
) -> "Optional[str]":
    """Return the path to the innermost part that cannot be pickled, and its type.

    Args:
        value: What cannot be pickled.
        can_be_pickled: Tries one part.
        parts: What the value is made of, each with its name, if its own structure is not to
            be shown.

    Returns:
        As in `[1]["model"].lock: _thread.lock`, or None if no part is to blame.
    """
    path = ""
    for _ in range(_MAX_DEPTH):
        found = _parts(value) if parts is None else parts
        culprit = next((part for part in found if not can_be_pickled(part[1])), None)
        if culprit is None:
            break
        path, value, parts = path + culprit[0], culprit[1], None
    if not path:
        return None
    kind = type(value)
    prefix = "" if kind.__module__ == "builtins" else kind.__module__ + "."
    return "{}: {}{}".format(path[1:] if path[0] == "." else path, prefix, kind.__qualname__)


def _parts(value: "Any") -> "Iterator[Tuple[str, Any]]":
    """What a value is made of, each with how to get at it."""
    if isinstance(value, dict):
        for key, item in list(value.items())[:_MAX_PARTS]:
            yield "[{!r}]".format(key), item
            yield " (the key {!r})".format(key), key
    elif isinstance(value, (list, tuple)):
        for number, item in enumerate(value[:_MAX_PARTS]):
            yield "[{}]".format(number), item
    elif isinstance(value, (set, frozenset)):
        for item in list(value)[:_MAX_PARTS]:
            yield " (the element {!r})".format(item), item
    elif not isinstance(value, type):
        for name, item in list(_attributes(value).items())[:_MAX_PARTS]:
            yield "." + name, item
        for slot in getattr(type(value), "__slots__", ()):
            if isinstance(slot, str) and hasattr(value, slot):
                yield "." + slot, getattr(value, slot)
        for number, cell in enumerate(getattr(value, "__closure__", None) or ()):
            try:
                content = cell.cell_contents
            except ValueError:  # not filled yet
                continue
            yield " (its variable {})".format(value.__code__.co_freevars[number]), content


def _attributes(value: "Any") -> "Dict[str, Any]":
    """Return the attributes of a value's own: `list[int]` answers with those of `list`."""
    try:
        found = object.__getattribute__(value, "__dict__")  # type: Dict[str, Any]
    except AttributeError:
        return {}
    return found
