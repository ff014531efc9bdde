"""Functions and classes as they are now, for the same minor version of Python.

What is defined in `__main__`, in the flow's own module, or where no file can be imported far
away travels by value, as cloudpickle does it. The user's other modules travel as files, and are
named (`module_files.py`).

The functions of a module that travels by value share one namespace far away, which is that
module's there. Arguments bring no code of their own: they name what the bundle has to bring,
so that it is loaded once.
"""

from __future__ import annotations

import copyreg
import enum
import functools
import io
import marshal
import operator
import sys
import types
import typing
from collections.abc import Callable
from typing import Any

from cloudpickle import CloudPickler
from cloudpickle.cloudpickle import (
    _builtin_type,
    _decompose_typevar,
    _dynamic_class_reduce,
    _function_getstate,
    _function_setstate,
    _get_or_create_tracker_id,
    _make_function,
    _make_typevar,
)
from prefect.flows import Flow
from prefect.tasks import Task

from clustrix_prefect.packaging import references
from clustrix_prefect.packaging.local_modules import has_file
from clustrix_prefect.packaging.ownership import is_user_module, look_up
from clustrix_prefect.packaging.pickling import (
    HERE,
    CallPickler,
    LocalClass,
    reduce_cached,
    sets_itself_up,
)
from clustrix_prefect.packaging.runtime_values import Cached
from clustrix_prefect.packaging.source_files import shown_file

_dispatcher: Any = functools.singledispatch(lambda value: value)
_DISPATCHER = _dispatcher.__code__
_TYPE_VARIABLES = tuple(
    getattr(typing, name) for name in ("TypeVar", "ParamSpec") if hasattr(typing, name)
)
# What making an enumeration and its members brings about.
_OF_ENUMS = (
    *("_generate_next_value_", "_member_names_", "_member_map_", "_member_type_"),
    *("_value2member_map_", "_unhashable_values_", "_unhashable_values_map_", "_hashable_values_"),
    *("_use_args_", "_flag_mask_", "_singles_mask_", "_all_bits_", "_inverted_", "_boundary_"),
    *("_new_member_", "_value_repr_", "__new__", "_use_args_"),
)
_OF_MEMBERS = {"_name_", "_value_", "__objclass__", "_sort_order_"}
_VALIDATE_CALL = "pydantic._internal._validate_call"
# What a pickle names to be opened with; it is always there.
_MACHINERY = frozenset({references.__name__, CloudPickler.__module__})
_NAMED_ONLY = (Cached, typing.NewType, *_TYPE_VARIABLES)


class Namespaces:
    """Which modules travel by value.

    Args:
        home: The module in which the task's function was written, if it is the user's.
    """

    def __init__(self, home: str | None) -> None:
        self.home = home
        self._known: dict[str, bool] = {"__main__": True}
        if home is not None:
            self._known[home] = True

    def __contains__(self, module: object) -> bool:
        if not isinstance(module, str):
            return False
        known = self._known.get(module)
        if known is None:
            known = self._known[module] = is_user_module(module) and not has_file(module)
        return known


@functools.lru_cache(maxsize=256)
def namespaces_of(home: str | None) -> Namespaces:
    """Return the modules that travel by value with a task of this module."""
    return Namespaces(home)


class _Namespace:
    """The globals of a module, in a pickle.

    Args:
        module: The module.
    """

    def __init__(self, module: str) -> None:
        self._module = module

    def __reduce__(self) -> Any:
        return references.namespace, (self._module,)


class ValuePickler(CallPickler):
    """Pickles for the same minor version of Python.

    Attributes:
        functions: The functions that are in the pickle.
        classes: The classes that are in the pickle.
        is_canonical: Whether the bytes would be the same in any process, as far as code is
            concerned.

    Args:
        file: Takes the bytes.
        namespaces: The modules that travel by value.
        refer: Gives a reference to what is not to be in the pickle, and None for all else.
        in_bundle: Whether what has a name is in the pickle by value; else it is named.
    """

    def __init__(
        self,
        file: io.BytesIO,
        namespaces: Namespaces,
        refer: Callable[[Any], Any] | None = None,
        *,
        in_bundle: bool = False,
    ) -> None:
        super().__init__(file, HERE, refer)
        self.functions: list[types.FunctionType] = []
        self.classes: list[type] = []
        self.is_canonical = True
        self._namespaces = namespaces
        self._in_bundle = in_bundle
        self._shared: dict[str, _Namespace] = {}
        self._files: dict[str, str] = {}

    def _another(self) -> CallPickler:
        return ValuePickler(io.BytesIO(), self._namespaces, self._refer, in_bundle=self._in_bundle)

    def reducer_override(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is _Namespace:
            return NotImplemented
        if kind is types.CodeType or kind is types.CellType:
            return self._reduce_value(obj)  # what functions are made of, and nothing else
        return super().reducer_override(obj)

    # --- functions ------------------------------------------------------------------------

    def _reduce_function(self, obj: types.FunctionType) -> Any:
        module, name = obj.__module__, obj.__qualname__
        if module in _MACHINERY:
            return NotImplemented
        known = look_up(module, name)
        if known is obj or (isinstance(known, (Task, Flow)) and known.fn is obj):
            if module not in self._namespaces and known is obj:
                return self._named(module, name)
            if not self._in_bundle:
                self._note(module, name)
                return references.named_function, (module, name)
        if obj.__code__ is _DISPATCHER and hasattr(obj, "registry"):
            return references.dispatcher, (list(obj.registry.items()),)
        return self._by_value(obj)

    def _named(self, module: str, name: str) -> Any:
        if not is_user_module(module):
            self._note_module(module, name)
            return NotImplemented
        self._note(module, name)
        # Not pickle's own way, which waits for whoever is importing the module.
        return references.named, (module, name)

    def _by_value(self, obj: types.FunctionType) -> Any:
        module: Any = obj.__globals__.get("__name__")
        state, slots = _function_getstate(obj)
        code, namespace, *_ = self._function_getnewargs(obj)
        # The very cells: functions that share a variable share it far away, too.
        slots["__closure__"] = None
        new_arguments = (code, namespace, None, None, obj.__closure__)
        if isinstance(namespace, _Namespace):
            if module not in self._namespaces:
                self._note_module(module)
                slots["__globals__"] = {}
                slots["_cloudpickle_submodules"] = []
            elif not self._in_bundle:
                for name in slots["__globals__"]:
                    self._note(module, name)
                slots["__globals__"] = {}
        self.is_canonical = False
        self.functions.append(obj)
        return _make_function, new_arguments, (state, slots), None, None, _function_setstate

    def _function_getnewargs(self, obj: types.FunctionType) -> Any:
        namespace = obj.__globals__
        module = namespace.get("__name__")
        if isinstance(module, str) and self._is_namespace_of(module, namespace):
            shared = self._shared.setdefault(module, _Namespace(module))
            self.globals_ref.setdefault(id(namespace), shared)
        return CloudPickler._function_getnewargs(self, obj)

    def _is_namespace_of(self, module: str, namespace: dict[str, Any]) -> bool:
        loaded = sys.modules.get(module)
        return loaded is not None and vars(loaded) is namespace

    # --- classes and modules --------------------------------------------------------------

    def _reduce_class(self, obj: type) -> Any:
        generic = vars(obj).get("__pydantic_generic_metadata__") or {}
        if generic.get("origin") is not None:
            arguments = generic["args"]
            return operator.getitem, (
                generic["origin"],
                arguments if len(arguments) > 1 else arguments[0],
            )
        module, name = obj.__module__, obj.__qualname__
        is_known = look_up(module, name) is obj
        if is_known and module not in self._namespaces:
            return self._named(module, name)
        if not is_known and not is_user_module(module):
            reduced = CloudPickler.reducer_override(self, obj)
            if reduced is NotImplemented or reduced[0] in (type, _builtin_type):
                return reduced
        if self._in_bundle:
            return self._class_by_value(obj)
        if is_known:
            self._note(module, name)
            return references.named, (module, name)
        tracker_id = _get_or_create_tracker_id(obj)
        self.met.add(LocalClass(tracker_id, obj))
        self.is_canonical = False
        return references.local_class, (tracker_id,)

    def _class_by_value(self, obj: type) -> Any:
        self.classes.append(obj)
        self.is_canonical = False
        if issubclass(obj, enum.Enum):
            return self._enum_by_value(obj)
        make, new_arguments, (attributes, slots), *rest = _dynamic_class_reduce(obj)
        attributes.pop("__annotate_func__", None)
        new_arguments[3]["__qualname__"] = obj.__qualname__
        if issubclass(obj, tuple):
            # Since Python 3.12 the original base of a named tuple is its maker, which is no class.
            new_arguments = (*new_arguments[:2], obj.__bases__, *new_arguments[3:])
        if "__slots__" in vars(obj):
            new_arguments[3]["__slots__"] = vars(obj)["__slots__"]
        return make, new_arguments, (attributes, slots), *rest

    def _enum_by_value(self, obj: type[enum.Enum]) -> Any:
        members = obj.__members__
        _, _, (attributes, _), *_ = _dynamic_class_reduce(obj)
        for name in members:
            attributes.pop(name, None)
        for name in _OF_ENUMS:
            attributes.pop(name, None)
        options = {"boundary": vars(obj)["_boundary_"]} if "_boundary_" in vars(obj) else {}
        held = {
            name: {key: each for key, each in vars(member).items() if key not in _OF_MEMBERS}
            for name, member in members.items()
        }
        new_arguments = (
            *(obj.__bases__, obj.__name__, obj.__qualname__),
            {name: member.value for name, member in members.items()},
            *(obj.__module__, _get_or_create_tracker_id(obj), options),
        )
        state = (attributes, {name: values for name, values in held.items() if values})
        return references.enum, new_arguments, state, None, None, references.fill_enum

    def _reduce_module(self, obj: types.ModuleType) -> Any:
        if obj.__name__ in self._namespaces and sys.modules.get(obj.__name__) is not obj:
            return CloudPickler.reducer_override(self, obj)  # one that nothing imports
        return super()._reduce_module(obj)

    # --- other things ---------------------------------------------------------------------

    def _reduce_task(self, obj: Task[Any, Any] | Flow[Any, Any]) -> Any:
        module, name = obj.fn.__module__, getattr(obj.fn, "__qualname__", "")
        known = self._by_name(obj, module, name)
        if known is not None:
            return known
        return super()._reduce_task(obj)

    def _reduce_value(self, obj: Any) -> Any:
        kind = type(obj)
        if kind is types.CodeType:
            try:
                return references.code, (_marshalled(obj, self._shown_file(obj.co_filename)),)
            except ValueError:  # constants that no compiler puts there
                return NotImplemented
        if kind is types.CellType:
            try:
                state = (obj.cell_contents,)
            except ValueError:  # an inner function that was not defined yet
                return references.cell, ()
            return references.cell, (), state, None, None, references.fill_cell
        if sets_itself_up(obj):
            return references.exception, (kind, obj.args, vars(obj))
        if kind is functools.cached_property:
            # Before 3.12 it has a lock.
            held = {key: value for key, value in vars(obj).items() if key != "lock"}
            return functools.cached_property, (obj.func,), held
        if kind.__module__ == _VALIDATE_CALL and kind.__name__ == "ValidateCallWrapper":
            return _reduce_validated(obj)
        if kind in _NAMED_ONLY or isinstance(kind.__reduce__, types.FunctionType):
            return self._reduce_named(obj)
        return super()._reduce_value(obj)

    def _by_name(self, obj: Any, module: str, name: str) -> Any:
        """Name what its module knows by this name; None if it has to travel by value here."""
        if look_up(module, name) is not obj:
            return None
        if module not in self._namespaces:
            return self._named(module, name)
        if self._in_bundle:
            return None
        self._note(module, name)
        return references.named, (module, name)

    def _reduce_named(self, obj: Any) -> Any:
        """Reduce what pickle would only name, if it has to travel by value."""
        kind = type(obj)
        name = getattr(obj, "__qualname__", getattr(obj, "__name__", None))
        if kind not in _NAMED_ONLY:
            reduced = obj.__reduce__()
            if not isinstance(reduced, str):
                return super()._reduce_value(obj)
            name = reduced
        module = getattr(obj, "__module__", None)
        if module is None or name is None:
            return super()._reduce_value(obj)
        known = self._by_name(obj, module, name)
        if known is not None:
            return known
        self.is_canonical = False
        if kind is Cached:
            return reduce_cached(obj)
        if kind is typing.NewType:
            named = {"__module__": module, "__qualname__": obj.__qualname__}
            return typing.NewType, (obj.__name__, obj.__supertype__), named
        if kind is typing.TypeVar:
            return _make_typevar, _decompose_typevar(obj)
        if kind in _TYPE_VARIABLES:
            return kind, (obj.__name__,)
        return copyreg.__newobj__, (kind,), getattr(obj, "__dict__", None)  # type: ignore[attr-defined]

    def _shown_file(self, filename: str) -> str:
        """Return a file as tracebacks far away name it: the same wherever the checkout is."""
        shown = self._files.get(filename)
        if shown is None:
            shown = self._files[filename] = shown_file(filename)
        return shown


def _reduce_validated(obj: Any) -> Any:
    """Reduce what `pydantic.validate_call` makes: its validators, without the namespaces.

    Those it only needs to make the validators, and they hold all that is in the module.
    """
    if not obj.__pydantic_complete__:
        obj._create_validators()
    slots = {
        name: getattr(obj, name)
        for name in type(obj).__slots__
        if name not in ("config_wrapper", "ns_resolver", "schema_type") and hasattr(obj, name)
    }
    return copyreg.__newobj__, (type(obj),), (None, slots)  # type: ignore[attr-defined]


@functools.lru_cache(maxsize=4096)
def _marshalled(code: types.CodeType, filename: str) -> bytes:
    return marshal.dumps(_renamed(code, filename))


def _renamed(code: types.CodeType, filename: str) -> types.CodeType:
    constants = tuple(
        _renamed(constant, filename) if isinstance(constant, types.CodeType) else constant
        for constant in code.co_consts
    )
    return code.replace(co_filename=filename, co_consts=constants)
