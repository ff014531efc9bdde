"""Opens pickles that another version of Python made; used on both sides.

Some classes live in different modules in different versions, and are found by either name.
Bytecode of another minor version does not fail when it is loaded, it crashes the interpreter,
so it is refused by name.
"""

import io
import types

from .fast_stdlib import Unpickler

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Iterator, Optional, Tuple

    Names = Dict[Tuple[str, str], Callable[..., Any]]

# Modules that other versions know by another name.
_ALIASES = (
    ("pathlib._local", "pathlib"),
    ("numpy._core", "numpy.core"),
    ("numpy.core", "numpy._core"),
    ("asyncio.exceptions", "asyncio"),
    ("asyncio.streams", "asyncio"),
)


class ForeignBytecode(Exception):
    """A pickle holds bytecode of another Python version."""

    def __init__(self) -> None:
        super().__init__("it contains bytecode of another Python version")


class _Reader:
    """Bytes as a file that gives views of them: what is large is copied once, to its place.

    Args:
        data: The bytes.
    """

    def __init__(self, data: "Any") -> None:
        self._rest = memoryview(data)

    def read(self, size: int) -> "Any":
        piece, self._rest = self._rest[:size], self._rest[size:]
        return piece

    def readinto(self, buffer: "Any") -> int:
        piece = self.read(len(buffer))
        buffer[: len(piece)] = piece
        return len(piece)

    def readline(self) -> bytes:
        line = io.BytesIO(self._rest).readline()
        self._rest = self._rest[len(line) :]
        return line


# The library's own unpickler, where there is none in C, has to be given bytes.
_open = _Reader if Unpickler.__module__ == "_pickle" else io.BytesIO  # type: Any


class PortableUnpickler(Unpickler):
    """Reads a pickle of another process, perhaps of another Python.

    Args:
        data: The pickle, or several that share their objects.
        foreign: Whether another minor version made it.
        names: What some names stand for here, by module and name.
    """

    def __init__(
        self,
        data: "Any",
        foreign: bool,
        names: "Optional[Names]" = None,
    ) -> None:
        super().__init__(_open(data))
        self._foreign = foreign
        self._names = names or {}

    def find_class(self, module: str, name: str) -> "Any":
        known = self._names.get((module, name))
        if known is not None:
            return known
        if self._foreign and name == "_builtin_type":
            return _builtin_type
        try:
            found = super().find_class(module, name)
        except (ImportError, AttributeError):
            found = self._find_elsewhere(module, name)
            if found is None:
                raise
        if self._foreign and found is types.CodeType:
            raise ForeignBytecode()
        return found

    def _find_elsewhere(self, module: str, name: str) -> "Any":
        for alias in _aliases(module):
            try:
                return super().find_class(alias, name)
            except (ImportError, AttributeError):
                pass
        return None


def _builtin_type(name: str) -> "Any":
    """Return what cloudpickle calls by this name: a type that `types` has."""
    if name == "CodeType":
        raise ForeignBytecode()
    return getattr(types, name)


def _aliases(module: str) -> "Iterator[str]":
    for one, other in _ALIASES:
        if module == one or module.startswith(one + "."):
            yield other + module[len(one) :]
