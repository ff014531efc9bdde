"""What functions and classes keep in themselves, by paths that both sides read.

A path is one step after the other, with dots between them: an attribute (of a module, to begin
with), `(name)` for a variable in the closure of a function, or `register()` for what was
registered with a function of `functools.singledispatch` or an abstract class, or `content()` for
what a dictionary, a list or the like holds.
"""

import collections
import functools
import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterable, List, Optional, Set, Tuple

REGISTERED = "register()"
CONTENT = "content()"
_CONTAINERS: "Any" = (collections.OrderedDict, dict, set, list, collections.deque)
# What decorators put nothing into.
_WHOLE = (type, types.ModuleType, types.FunctionType, str, bytes, int, float)


def cells(function: "Any") -> "Dict[str, Any]":
    """Return the cells of a function's closure, by the names of its variables."""
    return dict(zip(function.__code__.co_freevars, function.__closure__ or ()))  # noqa: B905


def inside(owner: "Any", step: str) -> "Any":
    """What there is one step further: an attribute as it is kept, whatever would be made of it."""
    if step.startswith("("):
        return cells(owner)[step[1:-1]].cell_contents
    if step == REGISTERED:
        return _registered(owner)
    if step == CONTENT:
        return list(dict.items(owner) if isinstance(owner, dict) else owner)
    if step in getattr(owner, "__members__", ()):
        return owner.__members__[step]
    if not isinstance(owner, type):
        return getattr(owner, step)
    for each in owner.__mro__:
        if step in vars(each):
            found = vars(each)[step]
            is_bound = isinstance(found, (classmethod, staticmethod))
            return found.__func__ if is_bound else found
    return getattr(owner, step)


def _registered(owner: "Any") -> "Any":
    """Return the arguments of the calls of `register`, of a dispatcher or of an abstract class."""
    if not isinstance(owner, type):
        return [(kind, each) for kind, each in owner.registry.items() if kind is not object]
    import abc

    found = [reference() for reference in abc._get_dump(owner)[0]]  # type: ignore[attr-defined]
    known = [each for each in found if each is not None and "<locals>" not in each.__qualname__]
    return [
        (each,) for each in sorted(known, key=lambda kind: (kind.__module__, kind.__qualname__))
    ]


def follow(owner: "Any", way: "Iterable[str]", unwrap: "Callable[[Any], Any]") -> "Any":
    """Return what there is at the end of a path.

    Args:
        owner: The module, or what else the path begins in.
        way: The steps.
        unwrap: Gives what a task or a flow is of; gives all else back.
    """
    for step in way:
        owner = unwrap(inside(unwrap(owner), step))
    return owner


def describe(value: "Any") -> str:
    """Return the same for what the same lines made, here and far away."""
    code = getattr(value, "__code__", None)
    if code is None:
        return type(value).__qualname__
    return "{}:{}".format(code.co_name, code.co_firstlineno)


def put(owner: "Any", step: str, value: "Any") -> None:
    """Give what is one step further another value."""
    if step.startswith("("):
        fill_cell(cells(owner)[step[1:-1]], value)
    elif step == REGISTERED:
        for each in value:
            owner.register(*each)
    elif step == CONTENT:
        fill(owner, value)
    elif isinstance(owner, functools.partial):
        given = {"args": owner.args, "keywords": owner.keywords, step: value}
        state = owner.func, given["args"], given["keywords"], vars(owner)
        owner.__setstate__(state)  # type: ignore[attr-defined]
    elif isinstance(owner, (type, types.FunctionType, types.ModuleType)):
        setattr(owner, step, value)
    else:  # whatever the user's class does when an attribute is set
        object.__setattr__(owner, step, value)


class Contents:
    """What a value holds, to be put back once others have put something into it.

    Into the same objects: whoever has got hold of one by then holds the right one.
    """

    def __init__(self, value: "Any") -> None:
        self._held: "List[Tuple[Any, Any]]" = []
        self._seen: "Set[int]" = set()
        self._note(value)

    def _note(self, value: "Any") -> None:
        if id(value) in self._seen or isinstance(value, _WHOLE):
            return
        self._seen.add(id(value))
        inner: "List[Any]" = []
        if isinstance(value, dict):
            self._held.append((value, list(value.items())))
            inner += value.values()
        elif isinstance(value, (list, set, collections.deque)):
            self._held.append((value, list(value)))
            inner += value
        elif isinstance(value, (tuple, frozenset)):
            inner += value
        inner += [vars(value)] if hasattr(value, "__dict__") else []
        for each in inner:
            self._note(each)

    def put_back(self) -> None:
        """Give everything the content that it had."""
        for value, content in self._held:
            fill(value, content)


def fill(value: "Any", content: "Any") -> None:
    """Give a dictionary, a list or the like this content, whatever methods the user gave it."""
    kind = next(each for each in _CONTAINERS if isinstance(value, each))
    kind.clear(value)
    add = kind.update if hasattr(kind, "update") else kind.extend
    add(value, content)


def _cell_setter() -> "Any":
    value: "Optional[Any]" = None

    def fill(new: "Any") -> None:
        nonlocal value
        value = new

    return fill


def empty_cell() -> "Any":
    """Return a new cell, as closures are made of."""
    return _cell_setter().__closure__[0]


def fill_cell(cell: "Any", value: "Any") -> None:
    """Give a cell its content."""
    # Cells can be assigned to since Python 3.7 only; a function that closes over it always can.
    types.FunctionType(_cell_setter().__code__, {}, "fill", None, (cell,))(value)
