"""What stands for a part of Prefect that does not work far away.

A module may have such things at its top level, for the flow's sake: it can be imported all the
same. Used while modules are imported they are called, combined, subclassed and decorated with;
used by the task itself they are refused by their name.
"""

import sys
from typing import Any, Tuple

from .tasks import NotAvailableFarAway


def refusal(name: str) -> NotAvailableFarAway:
    """Return what is raised where something of this name is used."""
    return NotAvailableFarAway(
        "{} is not available inside a task that runs on a cluster; "
        "use it in the flow, or in a task that runs with the flow.".format(name)
    )


def is_importing() -> bool:
    """Return whether what runs is the top level of a module, or a bundle that is being loaded."""
    frame: Any = sys._getframe(1)
    while frame is not None:
        code = frame.f_code
        if code.co_name == "<module>":
            return True
        name = frame.f_globals.get("__name__", "")
        if name.endswith("far_side.worker.bundle") and code.co_name == "function":
            return True
        if name.endswith("far_side.worker.call") and code.co_name == "_unpack_and_call":
            return False
        frame = frame.f_back
    return False


def inert_or_refused(name: str) -> Any:
    """Something inert while a module is imported.

    Raises:
        NotAvailableFarAway: A task uses it.
    """
    if not is_importing():
        raise refusal(name)
    return Inert(name)


class _InertClass:
    """The base of a class whose own base is inert."""

    _inert_name = ""

    def __new__(cls, *args: Any, **kwargs: Any) -> Any:
        made = object.__new__(cls)
        if not is_importing():
            raise refusal(made._inert_name)
        return made

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    def __init_subclass__(cls, **kwargs: Any) -> None:
        pass

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return inert_or_refused("{}.{}".format(self._inert_name, name))


class Inert:
    """A name of Prefect's.

    Args:
        name: The name, for people.
    """

    def __new__(cls, name: Any, bases: Any = None, space: Any = None) -> Any:
        if bases is not None:  # the statement `class ...(inert):` in Python 3.6
            real = [each for base in bases for each in _bases_for(base)]
            return type(name, tuple(real), dict(space))
        return object.__new__(cls)

    def __init__(self, name: str) -> None:
        self.__dict__["_name"] = name

    def __mro_entries__(self, bases: Tuple[Any, ...]) -> Tuple[Any, ...]:
        return _bases_for(self)

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return inert_or_refused(self._name)

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return inert_or_refused("{}.{}".format(self._name, name))

    def __repr__(self) -> str:
        return "<{}, which is not available here>".format(self._name)

    def __reduce__(self) -> Any:
        raise refusal(self._name)

    def __enter__(self) -> Any:
        return inert_or_refused(self._name)

    def __exit__(self, *error: Any) -> None:
        pass

    def __instancecheck__(self, instance: Any) -> bool:
        return False

    def __hash__(self) -> int:
        return id(self)


def _bases_for(value: Any) -> Tuple[Any, ...]:
    if not isinstance(value, Inert):
        return (value,)
    name = value._name
    return (type(name.rpartition(".")[2], (_InertClass,), {"_inert_name": name}),)


def _combined(self: Any, *others: Any) -> Any:
    return inert_or_refused(self._name)


def _not_here(self: Any, *others: Any) -> Any:
    raise refusal(self._name)


for _operator in ("add", "sub", "mul", "truediv", "or", "and", "xor", "rshift", "lshift"):
    for _side in ("", "r"):
        setattr(Inert, "__{}{}__".format(_side, _operator), _combined)
for _operator in ("getitem", "neg", "invert", "pos"):
    setattr(Inert, "__{}__".format(_operator), _combined)
# Where a value is asked for there is none, not even at the top level of a module.
for _operator in ("bool", "int", "float", "index", "len", "iter", "contains", "eq", "ne"):
    setattr(Inert, "__{}__".format(_operator), _not_here)
for _operator in ("lt", "le", "gt", "ge", "str", "bytes", "setitem", "await"):
    setattr(Inert, "__{}__".format(_operator), _not_here)
