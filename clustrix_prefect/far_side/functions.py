"""Unpickles functions without the import of all of cloudpickle.

Every function that cloudpickle pickled names a few small functions of its own. They are here
once more, for jobs that start an interpreter for each call; whatever else a pickle names
comes from cloudpickle itself.
"""

import io
import sys
import types

from .light import Unpickler
from .light import loads as _loads

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional

_CLOUDPICKLE = "cloudpickle.cloudpickle"


def loads(data: bytes, refer: "Optional[Callable[[Any], Any]]" = None) -> "Any":
    """The value of a pickle that this minor version of Python made.

    Args:
        data: The pickle.
        refer: Gives what the pickle refers to instead of holding it.
    """
    light = _CLOUDPICKLE in sys.modules or _CLOUDPICKLE.encode() not in data
    if light and refer is None:
        return _loads(data)
    kind = Unpickler if light else _FunctionUnpickler
    unpickler = kind(io.BytesIO(data))  # type: Any
    if refer is not None:
        unpickler.persistent_load = refer
    return unpickler.load()


class _FunctionUnpickler(Unpickler):
    def find_class(self, module: str, name: str) -> "Any":
        if module == _CLOUDPICKLE and name in _OURS:
            return _OURS[name]
        return super().find_class(module, name)


def _builtin_type(name: str) -> "Any":
    return getattr(types, name)


def _make_empty_cell() -> "Any":
    if False:
        # Never set, so that the cell stays empty.
        cell = None  # type: Any
    closure = (lambda: cell).__closure__  # type: Any
    return closure[0]


def _make_cell(value: "Any") -> "Any":
    cell = _make_empty_cell()
    cell.cell_contents = value
    return cell


def _make_function(
    code: "Any", namespace: "Dict[str, Any]", name: str, defaults: "Any", closure: "Any"
) -> "Any":
    namespace["__builtins__"] = __builtins__
    return types.FunctionType(code, namespace, name, defaults, closure)


def _set_function_state(function: "Any", states: "Any") -> None:
    attributes, slots = states
    function.__dict__.update(attributes)
    # Modules that were imported by being in the pickle.
    slots.pop("_cloudpickle_submodules", None)
    function.__globals__.update(slots.pop("__globals__"))
    function.__globals__["__builtins__"] = __builtins__
    cells = zip(function.__closure__ or (), slots.pop("__closure__") or ())  # noqa: B905 (3.10)
    for cell, filled in cells:
        try:
            cell.cell_contents = filled.cell_contents
        except ValueError:  # an empty cell
            pass
    for name, value in slots.items():
        setattr(function, name, value)


def _import(name: str) -> "Any":
    __import__(name)
    return sys.modules[name]


_OURS = {
    "_builtin_type": _builtin_type,
    "_function_setstate": _set_function_state,
    "_make_cell": _make_cell,
    "_make_empty_cell": _make_empty_cell,
    "_make_function": _make_function,
    "subimport": _import,
}
