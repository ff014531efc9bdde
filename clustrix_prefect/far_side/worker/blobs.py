"""What a pickle of ours refers to instead of holding it: large values, files, folders.

Each reference is a tuple: a kind, and what the kind needs. `packaging/blobs.py` writes them.
"""

import importlib
import mmap
import os
from typing import Any, Callable, Dict, Tuple

from ..store.store import Store, missing_content
from ..store.views import Views
from ..wire.chunks import of_file
from ..wire.failures import Failure
from ..wire.files import open_late

# Bytes that the calls of a map share stay in memory, up to so many.
_KEPT_BYTES = 128 * 1024 * 1024

# How a content's file looked when its bytes were last verified by this process.
_Fingerprint = Tuple[int, int, int]


class BlobStore:
    """The store as a worker reads it: what was verified once is not read for that again."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._views = Views(store)
        self._verified: Dict[str, _Fingerprint] = {}
        self._kept: Dict[str, bytes] = {}

    def path(self, content: str, size: int) -> str:
        """Return where a content is, its bytes verified.

        Raises:
            Failure: It is not here, or is not what its name says.
        """
        path = self._store.file(content)
        try:
            open_late(path).close()
            fingerprint = _fingerprint(path)
            if self._verified.get(content) != fingerprint:
                found = of_file(path)
                if found.name != content or found.size != size:
                    raise Failure(
                        "Tampered", "the content {} is not what its name says".format(content)
                    )
                self._verified[content] = fingerprint
        except FileNotFoundError:
            raise missing_content(content) from None
        return path

    def read(self, content: str, size: int) -> bytes:
        """The bytes of a content, verified; nobody can change them, so calls may share them."""
        if content not in self._kept:
            path = self.path(content, size)
            while self._kept and sum(map(len, self._kept.values())) + size > _KEPT_BYTES:
                del self._kept[next(iter(self._kept))]
            with open(path, "rb") as file:
                data = file.read()
            if size > _KEPT_BYTES:
                return data
            self._kept[content] = data
        return self._kept[content]

    def file(self, content: str, size: int, name: str, executable: bool) -> str:
        """Return the path at which a task sees a file."""
        return self._views.file(content, size, name, executable)

    def folder(self, content: str, size: int, name: str) -> str:
        """Return the path at which a task sees a folder."""
        return self._views.folder(content, size, name)


def _fingerprint(path: str) -> _Fingerprint:
    status = os.stat(path)
    return status.st_ino, status.st_size, status.st_mtime_ns


class BlobLoader:
    """The blobs of one pickle.

    Args:
        store: Where they are.
        unpickle: Opens a blob that is a pickle itself.
    """

    def __init__(self, store: BlobStore, unpickle: Callable[[bytes, "BlobLoader"], Any]) -> None:
        self._store = store
        self._unpickle = unpickle
        self._kinds: Dict[str, Callable[..., Any]] = {
            "array": self._array,
            "bytearray": self._bytearray,
            "bytes": self._bytes,
            "file": self._file,
            "folder": self._folder,
            "pickle": self._pickle,
            "remote": self._remote,
        }

    def load(self, kind: str, *rest: Any) -> Any:
        """Return the object that a reference stands for."""
        return self._kinds[kind](*rest)

    def _bytes(self, content: str, size: int) -> bytes:
        return self._store.read(content, size)

    def _bytearray(self, content: str, size: int) -> bytearray:
        return bytearray(self._bytes(content, size))

    def _array(
        self, content: str, size: int, dtype: str, shape: Tuple[int, ...], order: str
    ) -> Any:
        numpy: Any = importlib.import_module("numpy")
        with open(self._store.path(content, size), "rb") as file:
            # Pages are read when used, shared with other workers, and copied when written to.
            memory = mmap.mmap(file.fileno(), size, access=mmap.ACCESS_COPY)
        return numpy.ndarray(shape, numpy.dtype(dtype), memory, order=order)

    def _pickle(self, content: str, size: int) -> Any:
        inner = BlobLoader(self._store, self._unpickle)
        return self._unpickle(self._bytes(content, size), inner)

    def _file(self, content: str, size: int, name: str, executable: bool) -> Any:
        return _as_path(self._store.file(content, size, name, executable))

    def _folder(self, content: str, size: int, name: str) -> Any:
        return _as_path(self._store.folder(content, size, name))

    def _remote(self, path: str, is_folder: bool) -> Any:
        found = os.path.expandvars(os.path.expanduser(path))
        there = os.path.isdir if is_folder else os.path.isfile
        if not there(found):
            kind = "folder" if is_folder else "file"
            raise Failure("FileNotFoundError", "there is no {} {} here".format(kind, found))
        return _as_path(found)


def _as_path(path: str) -> Any:
    from pathlib import Path

    return Path(path)
