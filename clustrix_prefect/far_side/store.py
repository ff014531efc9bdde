"""Blobs on the cluster, each in a file named by the SHA-256 of its content."""

import hashlib
import os
import re
from typing import Any, Iterable, List

from .failures import Failure
from .files import make_dir, remove

_SHA256 = re.compile(r"[0-9a-f]{64}\Z")


class Store:
    """A directory of blobs.

    A blob gets its name only when its digest was verified, so one that is there is whole.
    """

    def __init__(self, path: str) -> None:
        self.path = make_dir(path)

    def missing(self, names: Iterable[str]) -> List[str]:
        """Which of these blobs are not here; what is here counts as used now."""
        return [name for name in names if not self._touch(self._file(name))]

    def incoming(self, name: str) -> "Incoming":
        """A place for a blob that is about to arrive."""
        return Incoming(self._file(name), name)

    def _file(self, name: str) -> str:
        if not _SHA256.match(name):
            raise Failure("ValueError", "{!r} does not name a blob".format(name))
        return os.path.join(self.path, name)

    @staticmethod
    def _touch(path: str) -> bool:
        try:
            os.utime(path, None)
        except OSError:
            return False
        return True


class Incoming:
    """A blob while it arrives: hashed as it is written, named when it is complete.

    A failure on the way is kept until `finish`, so that the rest of the stream can pass.
    """

    _count = 0

    def __init__(self, path: str, name: str) -> None:
        Incoming._count += 1
        self._path = path
        self._name = name
        self._draft = "{}.{}.{}.tmp".format(path, os.getpid(), Incoming._count)
        self._digest = hashlib.sha256()
        self._error: Any = None
        try:
            descriptor = os.open(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            self._file: Any = os.fdopen(descriptor, "wb")
        except OSError as error:
            self._file, self._error = None, error

    def write(self, data: Any) -> None:
        """Take the next bytes."""
        if self._error is not None:
            return
        try:
            self._file.write(data)
            self._digest.update(data)
        except OSError as error:
            self._error = error

    def finish(self) -> Any:
        """Verify the blob and put it in place; the failure that prevented it, or None."""
        try:
            if self._file is not None:
                self._file.close()
            if self._error is None and self._digest.hexdigest() != self._name:
                self._error = Failure(
                    "DigestMismatch", "blob {} arrived with another content".format(self._name)
                )
            if self._error is None:
                os.rename(self._draft, self._path)
        except OSError as error:
            self._error = error
        if isinstance(self._error, OSError):
            self._error.filename = self._path
        if self._error is not None:
            remove(self._draft)
        return self._error
