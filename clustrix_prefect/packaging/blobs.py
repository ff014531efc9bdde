"""Large values, files and folders: referred to by a call's arguments, and sent apart from them.

What is equal is sent once, however many calls it is an argument of. In the pickle there is a
reference instead, which `far_side/worker/blobs.py` resolves. It names the
content by its digest, so whoever signs the pickle signs the content too.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Hashable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.far_side.wire import trees
from clustrix_prefect.far_side.wire.chunks import ChunkList
from clustrix_prefect.files import File, Folder, StoredFile, on_another_cluster
from clustrix_prefect.packaging import pickling
from clustrix_prefect.packaging.pickling import Met
from clustrix_prefect.transfer.digests import FileDigests, chunks_of, missing_file
from clustrix_prefect.transfer.sources import FileSource, MemorySource, Source

T = TypeVar("T")
Reference = tuple[Any, ...]

# Smaller values stay in the pickle.
LARGE = 64 * 1024
# The names of the types that are referred to wherever they are.
_REFERRED_TO = frozenset({"File", "Folder", "RemoteFile", "RemoteFolder", "ndarray"})
_SMALL = frozenset({bool, int, float, complex, type(None)})
_SHORT = 1024
_COLLECTIONS = (tuple, list, set, frozenset)
# Collections of so many elements are looked at one by one.
_FEW = 64
_ARRAY_KINDS = "biufcmMSU"


@dataclass(frozen=True)
class Blob:
    """A content that calls need.

    Attributes:
        name: What the store knows it by.
        size: Its size in bytes.
        what: What it is, for people.
        chunks: Its chunk list; None if it is sent in one piece.
        source: Where its bytes are; None if it must be on the cluster already.
        is_folder: Whether it describes a folder, whose files must be there too.
        is_file: Whether it is a file's, for which time counts more than bytes.
    """

    name: str
    size: int
    what: str
    chunks: ChunkList | None = None
    source: Callable[[], AbstractContextManager[Source]] | None = None
    is_folder: bool = False
    is_file: bool = False

    @classmethod
    def of_bytes(cls, data: bytes | bytearray | memoryview, what: str) -> Blob:
        """Return a blob in memory."""
        chunks = chunks_of(data)
        return cls(chunks.name, chunks.size, what, chunks, lambda: MemorySource(data))

    @classmethod
    def whole(cls, data: bytes, sha256: str, what: str) -> Blob:
        """Return a blob that is known by the digest of all its bytes, and sent in one piece."""
        return cls(sha256, len(data), what, None, lambda: MemorySource(data))

    @classmethod
    def of_file(cls, path: Path, chunks: ChunkList) -> Blob:
        """Return a blob in a file."""
        return cls(
            chunks.name,
            chunks.size,
            path.name,
            chunks,
            lambda: FileSource(path, chunks.size),
            is_file=True,
        )


class Apart:
    """Stands in a pickle for an argument that travels apart.

    Args:
        reference: What to open it by.
    """

    def __init__(self, reference: Reference) -> None:
        self.reference = reference


Carry = Callable[[StoredFile], list[Blob]]


class SharedValues:
    """What was found out about values that the calls of one `map` have in common.

    By identity: the values are kept, so that no other one gets the same.
    """

    def __init__(self) -> None:
        self._found: dict[Hashable, tuple[Any, Any]] = {}
        self._locks: dict[Hashable, threading.Lock] = {}
        self._lock = threading.Lock()

    def knows(self, purpose: str, value: Any) -> bool:
        """Return whether something was found out about this very value."""
        return (purpose, id(value)) in self._found

    def once(self, purpose: str, value: Any, find: Callable[[], T]) -> T:
        """Return what `find` gave for this very value the first time."""
        key = (purpose, id(value))
        if (known := self._found.get(key)) is None:
            with self._lock:
                lock = self._locks.setdefault(key, threading.Lock())
            with lock:
                if (known := self._found.get(key)) is None:
                    known = self._found[key] = (value, find())
        found: T = known[1]
        return found


_shared: ContextVar[SharedValues | None] = ContextVar("shared_values", default=None)


@contextmanager
def sharing_values() -> Iterator[None]:
    """Let the calls that are submitted in here share what is found out about their arguments."""
    token = _shared.set(SharedValues())
    try:
        yield
    finally:
        _shared.reset(token)


def shared_values() -> SharedValues | None:
    """Return what the calls of one map share; None for a call that was submitted by itself."""
    return _shared.get()


class BlobReferences:
    """The blobs of one pickle.

    `found` has them by name; `met` is the user's code that the pickle and its blobs name.

    Args:
        pickle_value: Pickles a value whose blobs these blobs note.
        digests: Knows files.
        store: The id of the store that the pickle goes to.
        carry: Gives the blobs of what is in another one; None: that is refused.
    """

    def __init__(
        self,
        pickle_value: Callable[[Any, BlobReferences], bytes],
        digests: FileDigests,
        store: str,
        carry: Carry | None = None,
    ) -> None:
        self.found: dict[str, Blob] = {}
        self.met: set[Met] = set()
        self._pickle_value = pickle_value
        self._digests = digests
        self._store = store
        self._carry = carry
        self._shared = _shared.get() or SharedValues()
        self._references: dict[int, tuple[Any, Reference]] = {}

    @property
    def refers(self) -> bool:
        """Whether the pickle has any reference in it."""
        return bool(self._references)

    def apart(
        self,
        args: tuple[Any, ...],
        kwargs: Mapping[str, Any],
        seems_large: Callable[[Any], bool],
    ) -> Any:
        """Return the arguments of a call, those that are large replaced by what refers to them.

        What two of them have in common they then have twice on the other side.

        Args:
            args: The positional ones.
            kwargs: Those by name.
            seems_large: Whether a value is worth pickling by itself to see how large it is.
        """
        made: dict[int, Any] = {}

        def replace(value: Any) -> Any:
            if id(value) not in made:
                reference = self._large(value, seems_large)
                made[id(value)] = value if reference is None else Apart(reference)
            return made[id(value)]

        return tuple(map(replace, args)), {name: replace(each) for name, each in kwargs.items()}

    def refer(self, value: Any) -> Reference | None:
        """Return the reference to a value that travels apart, or None."""
        kind = type(value)
        if kind is Apart:
            return value.reference  # type: ignore[no-any-return]
        if kind.__name__ not in _REFERRED_TO:
            return None
        known = self._references.get(id(value))
        if known is None:
            reference = self._describe(value)
            if reference is None:
                return None
            known = self._references[id(value)] = (value, reference)
        return known[1]

    def _describe(self, value: Any) -> Reference | None:
        kind = type(value)
        if kind is File:
            return self._remote(value) if value.remote_path else self._file(value)
        if kind is Folder:
            return self._remote(value) if value.remote_path else self._folder(value)
        if isinstance(value, StoredFile):
            return self._returned(value)
        return self._array(value) if _is_plain_array(value) else None

    def _large(self, value: Any, seems_large: Callable[[Any], bool]) -> Reference | None:
        """Return the reference to a large argument, or None."""
        kind = type(value)
        if isinstance(value, (File, Folder, StoredFile)) or _is_plain_array(value):
            return None  # they refer to themselves wherever they are
        if kind is bytes or kind is bytearray:
            reference = self._bytes(value) if len(value) >= LARGE else None
        else:
            try:
                is_worth_it = self._shared.knows("pickle", value) or seems_large(value)
                reference = self._pickled(value) if is_worth_it else None
            except NotPortable:
                return None  # pickling the arguments together says where in them it is
        if reference is not None:
            self._references[id(value)] = (value, reference)
        return reference

    def _note(self, blob: Blob) -> Blob:
        return self.found.setdefault(blob.name, blob)

    # --- values -----------------------------------------------------------------------------

    def _bytes(self, value: bytes | bytearray) -> Reference:
        kind = type(value).__name__
        blob = self._shared.once("bytes", value, lambda: Blob.of_bytes(value, f"{kind} argument"))
        self._note(blob)
        return kind, blob.name, blob.size

    def _array(self, array: Any) -> Reference:
        order = "C" if array.flags.c_contiguous or not array.flags.f_contiguous else "F"

        def find() -> Blob:
            # A view of its memory, in one piece; only an array with gaps is copied for that.
            straight = array.T if order == "F" else sys.modules["numpy"].ascontiguousarray(array)
            return Blob.of_bytes(straight.reshape(-1).view("u1").data, "array argument")

        self.met.add(pickling.Reference("numpy", ""))
        blob = self._note(self._shared.once("array", array, find))
        return "array", blob.name, blob.size, array.dtype.str, array.shape, order

    def _pickled(self, value: Any) -> Reference | None:
        def find() -> tuple[Blob, BlobReferences] | None:
            inner = BlobReferences(self._pickle_value, self._digests, self._store, self._carry)
            data = self._pickle_value(value, inner)
            if len(data) < LARGE:
                return None
            return Blob.of_bytes(data, f"{type(value).__name__} argument"), inner

        found = self._shared.once("pickle", value, find)
        if found is None:
            return None
        blob, inner = found
        self._note(blob)
        self.found.update(inner.found)
        self.met.update(inner.met)
        return "pickle", blob.name, blob.size

    # --- files and folders --------------------------------------------------------------------

    def _remote(self, value: File | Folder) -> Reference:
        return "remote", value.remote_path, value.kind == "folder"

    def _file(self, file: File) -> Reference:
        if not file.path.is_file():
            raise missing_file(file.path, "file")
        blob = self._shared.once("file", file, lambda: self._blob_of_file(file.path))
        self._note(blob)
        return "file", blob.name, blob.size, file.path.name, _is_executable(file.path)

    def _blob_of_file(self, path: Path) -> Blob:
        try:
            return Blob.of_file(path, self._digests.of(path))
        except OSError as error:
            raise _unreadable(path, error) from error

    def _folder(self, folder: Folder) -> Reference:
        # With links resolved: what is at `data/..` has a name, too.
        path = folder.path.resolve()
        if not path.is_dir():
            raise missing_file(folder.path, "folder")
        description, blobs = self._shared.once("folder", folder, lambda: self._read_folder(path))
        self._note(description)
        self.found.update(blobs)
        return "folder", description.name, description.size, folder.path.name or path.name or "root"

    def _read_folder(self, path: Path) -> tuple[Blob, dict[str, Blob]]:
        entries: list[trees.Entry] = []
        blobs: dict[str, Blob] = {}
        try:
            for kind, inside, source in trees.scan(str(path)):
                if kind == trees.FILE:
                    blob = self._blob_of_file(Path(source))
                    blobs.setdefault(blob.name, blob)
                    executable = _is_executable(Path(source))
                    entries.append([kind, inside, blob.size, blob.name, executable])
                else:
                    entries.append([kind, inside] + ([source] if kind == trees.LINK else []))
        except trees.TreeError as error:
            raise NotPortable(
                f"The folder {path} cannot be sent: {error}.", "Take that out of the folder."
            ) from error
        except OSError as error:
            raise _unreadable(path, error) from error
        return Blob.of_bytes(trees.describe(entries), f"list of {path.name}"), blobs

    def _returned(self, value: StoredFile) -> Reference:
        is_elsewhere = value.store != self._store
        if is_elsewhere and self._carry is None:
            raise on_another_cluster(value)
        is_folder = value.kind == "folder"
        if value.content is None:
            return "remote", str(value.path), is_folder
        facts = value.facts
        if is_elsewhere and self._carry is not None:
            for blob in self._shared.once("carried", value, partial(self._carry, value)):
                self._note(blob)
        else:
            self._note(Blob(value.content, facts["size"], repr(value), is_folder=is_folder))
        rest = () if is_folder else (bool(facts["executable"]),)
        return value.kind, value.content, facts["size"], value.name, *rest


def is_long(value: Any, depth: int = 3) -> bool:
    """Return whether a text or a collection has many elements, also within another collection."""
    kind = type(value)
    if kind is str or kind is bytes:
        return len(value) * 4 >= LARGE
    if kind is not dict and kind not in _COLLECTIONS:
        return False
    if len(value) > _FEW or not depth:
        return True
    elements = (*value.keys(), *value.values()) if kind is dict else value
    return any(is_long(each, depth - 1) for each in elements)


def may_be_large(value: Any) -> bool:
    """Return whether a value is more than a number or a short text."""
    kind = type(value)
    return kind not in _SMALL and not (kind is str and len(value) <= _SHORT)


def _is_plain_array(value: Any) -> bool:
    """Return whether a value is a large array of numbers, text or times, and nothing more."""
    numpy = sys.modules.get("numpy")
    return (
        numpy is not None
        and type(value) is numpy.ndarray
        and value.nbytes >= LARGE
        and value.dtype.kind in _ARRAY_KINDS
        and value.dtype.metadata is None
    )


def _is_executable(path: Path) -> bool:
    return bool(path.stat().st_mode & 0o100)


def _unreadable(path: Path, error: OSError) -> NotPortable:
    return NotPortable(
        f"{path} cannot be read: {error.strerror or error}.", "Check its permissions."
    )
