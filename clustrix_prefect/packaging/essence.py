"""What makes code and values the same in any process, apart from the bytes that travel.

A call is found again by its id after the flow's process died and was started anew. The bytes of
a pickle differ between processes (the order of sets, the ids of classes, paths), so what is
hashed here is another pickle, which is never opened: functions are in it as their normalised
code and the values that they use, classes as what they define, sets in an order of their own.
"""

from __future__ import annotations

import io
import logging
import re
import types
from typing import Any

from cloudpickle import CloudPickler
from cloudpickle.cloudpickle import _extract_code_globals
from prefect.flows import Flow
from prefect.tasks import Task

from clustrix_prefect.files import File, Folder, StoredFile
from clustrix_prefect.packaging import references
from clustrix_prefect.packaging.by_value import Namespaces
from clustrix_prefect.packaging.identity import sha256
from clustrix_prefect.packaging.ownership import look_up
from clustrix_prefect.packaging.pickling import options_of

logger = logging.getLogger("prefect.clustrix")

_SETS = (set, frozenset)
_ATOMS = (str, bytes, int, float, complex, bool, type(None))
_ATOM_KINDS = frozenset(_ATOMS)
# Bytes that ordering sets of objects may cost.
_BUDGET = 256 * 1024
_ADDRESS = re.compile(r"0x[0-9a-fA-F]+")
# Opcodes of pickles.
_EMPTY_SET, _FROZENSET = b"\x8f", b"\x91"
_PLAIN = (*_ATOMS, tuple, list, dict, set, frozenset)
_OF_EVERY_CLASS = frozenset(
    {"__dict__", "__weakref__", "__module__", "__doc__", "__firstlineno__", "_abc_impl"}
)


def may_hold_sets(data: bytes) -> bool:
    """Return whether there may be sets in a pickle, whose order differs between processes."""
    return _EMPTY_SET in data or _FROZENSET in data


def holds_more_than_atoms(value: Any, depth: int = 8) -> bool:
    """Return whether there is anything in lists, tuples and dicts but text, bytes and numbers.

    What looks like a set in the pickle of those is part of one of them.
    """
    kind = type(value)
    if kind in _ATOM_KINDS:
        return False
    if kind is dict:
        value = [*value, *value.values()]
    elif kind is not list and kind is not tuple:
        return True
    if set(map(type, value)) <= _ATOM_KINDS:
        return False
    return not depth or any(holds_more_than_atoms(each, depth - 1) for each in value)


def identity_of(value: Any, namespaces: Namespaces) -> str:
    """Return a digest of a value that is the same in any process.

    Where something in it has no order that is cheap to find, or cannot be taken apart, equal
    digests do not mean that the values are equal: calls are then told apart by their order.

    Args:
        value: Functions, classes and any other values.
        namespaces: The modules whose code counts by what it says.
    """
    essence = _Essence(namespaces, [_BUDGET])
    digest = essence.digest(value)
    if essence.is_partial:
        logger.debug("A call has no identity that is cheap to find; its ordinal tells it apart")
    return digest


class _Essence(CloudPickler):  # type: ignore[misc]
    """Pickles what values are, for hashing.

    Args:
        namespaces: The modules whose code counts by what it says.
        budget: How many more bytes ordering may cost; shared with those who order.
        is_within_set: Whether it is asked for an element of a set.
    """

    def __init__(
        self, namespaces: Namespaces, budget: list[int], is_within_set: bool = False
    ) -> None:
        self._buffer = io.BytesIO()
        super().__init__(self._buffer, protocol=4)
        self.is_partial = False
        self._namespaces = namespaces
        self._budget = budget
        self._is_within_set = is_within_set
        self._kept: list[Any] = []

    def digest(self, value: Any) -> str:
        """Return the digest of one value."""
        try:
            self.dump(value)
        except Exception:  # files and the like, whose pickling is somebody else's
            self.is_partial = True
        return sha256(self._buffer.getbuffer())

    def persistent_id(self, obj: Any) -> Any:
        """Return a set's elements in order; None for all else."""
        if type(obj) in _SETS:
            return type(obj).__name__, self._in_order(obj)
        return None

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.FunctionType:
            return self._function(obj)
        if kind is types.CodeType:
            return references.essence, (*_code(obj), [self._constant(c) for c in obj.co_consts])
        if isinstance(obj, type) and kind is not types.GenericAlias:
            return self._class(obj)
        if kind is types.ModuleType:
            return references.essence, ("module", obj.__name__)
        if isinstance(obj, (Task, Flow)):
            return references.essence, ("task", obj.fn, options_of(obj))
        if isinstance(obj, (File, Folder, StoredFile)):
            # The digests of their contents are in the payload; these are by what they are called.
            return references.essence, (kind.__name__, str(obj.path))
        if isinstance(obj, _SETS):
            return references.essence, (kind.__qualname__, self._in_order(obj), vars(obj))
        try:
            reduced = CloudPickler.reducer_override(self, obj)
            if reduced is NotImplemented:
                reduced = obj.__reduce_ex__(4)
        except Exception:
            return self._by_type(obj)
        if isinstance(reduced, str):
            return references.essence, ("named", kind.__qualname__, reduced)
        self._kept.append(reduced)  # so that nothing else gets its address
        return reduced

    def _by_type(self, obj: Any) -> Any:
        self.is_partial = True
        return references.essence, (type(obj).__module__, type(obj).__qualname__)

    # --- sets -----------------------------------------------------------------------------

    def _in_order(self, elements: Any) -> list[Any]:
        if all(map(_is_atomic, elements)):
            # Their digests, so that a large set is not in memory once more.
            return sorted(_digest(element) for element in elements)
        if not self._is_within_set and self._budget[0] > 0:
            found = []
            for element in elements:
                inner = _Essence(self._namespaces, self._budget, is_within_set=True)
                found.append(inner.digest(element))
                self.is_partial |= inner.is_partial
                self._budget[0] -= inner._buffer.tell()
                if self._budget[0] < 0:
                    break
            else:
                return sorted(found)
        self.is_partial = True
        return sorted(f"{type(each).__module__}.{type(each).__qualname__}" for each in elements)

    def _constant(self, constant: Any) -> Any:
        if isinstance(constant, frozenset):
            return ["frozenset", *self._in_order(constant)]
        return constant if isinstance(constant, types.CodeType) else _text(constant)

    # --- code -----------------------------------------------------------------------------

    def _function(self, obj: types.FunctionType) -> Any:
        if obj is references.essence:
            return NotImplemented
        module, name = obj.__module__, obj.__qualname__
        if module not in self._namespaces and look_up(module, name) is obj:
            return references.essence, ("named", module, name)
        state = {
            "code": obj.__code__,
            "defaults": obj.__defaults__,
            "kwdefaults": obj.__kwdefaults__,
            "attributes": {k: v for k, v in sorted(vars(obj).items()) if k != "__wrapped__"},
            "closure": [_content(cell) for cell in obj.__closure__ or ()],
        }
        if obj.__globals__.get("__name__") in self._namespaces:
            state["globals"] = {
                each: obj.__globals__[each]
                for each in sorted(_extract_code_globals(obj.__code__))
                if each in obj.__globals__
            }
        self._kept.append(state)
        return references.essence, ("function", name), state

    def _class(self, obj: type) -> Any:
        module, name = obj.__module__, obj.__qualname__
        if module not in self._namespaces and look_up(module, name) is obj:
            return references.essence, ("named", module, name)
        state = {
            "bases": [*obj.__bases__, type(obj)],
            "defined": {
                key: _defined(value)
                for key, value in sorted(vars(obj).items())
                if key not in _OF_EVERY_CLASS
            },
        }
        self._kept.append(state)
        return references.essence, ("class", name), state


def _defined(value: Any) -> Any:
    """Return what of a class's attribute counts."""
    if isinstance(value, (staticmethod, classmethod)):
        return type(value).__name__, value.__func__
    if isinstance(value, property):
        return "property", value.fget, value.fset, value.fdel
    if isinstance(value, (types.FunctionType, type, *_PLAIN)):
        return value
    return type(value).__qualname__


def _code(code: types.CodeType) -> tuple[Any, ...]:
    return (
        *("code", code.co_name, code.co_code, code.co_argcount, code.co_kwonlyargcount),
        *(code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars, code.co_flags),
    )


def _content(cell: types.CellType) -> Any:
    try:
        return cell.cell_contents
    except ValueError:
        return "empty"


def _digest(value: Any) -> str:
    return sha256(_text(value).encode("utf-8", "surrogatepass"))


def _is_atomic(value: Any) -> bool:
    return type(value) in _ATOMS or (
        type(value) in (tuple, frozenset) and all(map(_is_atomic, value))
    )


def _text(value: Any) -> str:
    if type(value) is frozenset:
        return f"frozenset({sorted(map(_text, value))})"
    if type(value) is tuple:
        return f"({', '.join(map(_text, value))})"
    return f"{type(value).__name__} {_ADDRESS.sub('', repr(value))}"
