"""Hashes that say the same of the same code and data, in any process.

A call is found again by its id after the flow's process died and was started anew, so ids
must not depend on hash seeds, memory addresses or the order of sets, as the bytes of a
pickle do.
"""

from __future__ import annotations

import hashlib
import io
import pickle
import types
from collections.abc import Callable, Iterator
from typing import Any, ClassVar

from prefect.tasks import Task

from clustrix_prefect.packaging.pickling import is_user_module

# Opcodes of pickle protocol 4 that announce a set or a frozenset (PEP 3154).
_SET_OPCODES = (b"\x8f", b"\x91")


def sha256(data: bytes | memoryview) -> str:
    """The digest by which the far side's store names these bytes."""
    return hashlib.sha256(data).hexdigest()


def digest(*parts: str) -> str:
    """One digest of several texts, unambiguous about where each ends."""
    return sha256("\n".join(f"{len(part)}:{part}" for part in parts).encode())


def function_identity(function: Callable[..., Any]) -> str:
    """A hash of a function's code and of the user's functions that it names."""
    return digest(*_describe_function(function, set()))


def arguments_identity(
    pickled: bytes,
    arguments: Any,
    refer: Callable[[Any], Any] | None = None,
    in_order: bool = False,
) -> str:
    """A hash of a call's arguments.

    Args:
        pickled: Their pickle.
        arguments: What it was made of, for the case that it holds sets, whose order in a
            pickle differs between processes.
        refer: Gives a reference to what is not in the pickle, the same in any process.
        in_order: Whether what it refers to holds sets.
    """
    if not in_order and not any(opcode in pickled for opcode in _SET_OPCODES):
        return sha256(pickled)
    buffer = io.BytesIO()
    try:
        pickler: Any = _OrderedPickler(buffer, protocol=4)
        if refer is not None:
            pickler.persistent_id = refer
        pickler.dump(arguments)
    except Exception:  # only plain pickle can be ordered; what needs more keeps its own bytes
        return sha256(pickled)
    return sha256(buffer.getvalue())


def _describe_function(function: Callable[..., Any], seen: set[int]) -> Iterator[str]:
    function = getattr(function, "__wrapped__", function)
    if isinstance(function, Task):
        function = function.fn
    code = getattr(function, "__code__", None)
    if code is None or id(function) in seen:
        yield getattr(function, "__qualname__", type(function).__qualname__)
        return
    seen.add(id(function))
    yield f"{function.__module__}.{function.__qualname__}"
    yield from _describe_code(code)
    for default in (*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).values()):
        yield _describe_value(default)
    for name in _names(code):
        value = function.__globals__.get(name)
        if isinstance(value, Task) or (
            isinstance(value, types.FunctionType) and is_user_module(value.__module__)
        ):
            yield from _describe_function(value, seen)
        elif isinstance(value, (int, float, complex, str, bytes, bool, tuple)):
            yield _describe_value(value)
    for cell in function.__closure__ or ():
        try:
            value = cell.cell_contents
        except ValueError:  # a cell that is still empty: a recursive inner function
            continue
        if isinstance(value, types.FunctionType):
            yield from _describe_function(value, seen)
        else:
            yield _describe_value(value)


def _describe_code(code: types.CodeType) -> Iterator[str]:
    # Line numbers and the file's path stay out: moving a function does not change what it does.
    yield f"{code.co_name} {code.co_names} {code.co_varnames} {code.co_code.hex()}"
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _describe_code(constant)
        else:
            yield _describe_value(constant)


def _names(code: types.CodeType) -> set[str] | list[str]:
    names = set(code.co_names)
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            names.update(_names(constant))
    return sorted(names)


def _describe_value(value: Any) -> str:
    if isinstance(value, (set, frozenset)):
        return f"{type(value).__name__}{sorted(map(_describe_value, value))}"
    if isinstance(value, (tuple, list)):
        return f"{type(value).__name__}{[_describe_value(item) for item in value]}"
    if isinstance(value, (int, float, complex, str, bytes, bool, type(None))):
        return f"{type(value).__name__}:{value!r}"
    try:
        return sha256(pickle.dumps(value, protocol=4))
    except Exception:  # what cannot be pickled by plain pickle counts by its type alone
        return type(value).__qualname__


class _OrderedPickler(pickle._Pickler):
    """Pickles sets in the order of their elements' pickles. For hashing, never for loading."""

    dispatch: ClassVar[dict[type, Any]] = dict(pickle._Pickler.dispatch)

    def _save_ordered(self, obj: set[Any] | frozenset[Any]) -> None:
        self.save(  # type: ignore[attr-defined]
            (type(obj).__name__, sorted(pickle.dumps(item, protocol=4) for item in obj)),
        )

    dispatch[set] = _save_ordered
    dispatch[frozenset] = _save_ordered
