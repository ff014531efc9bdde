"""Contents on the cluster, each in a file named by what it is (see `contents`).

    NAME            a content; only one that was verified gets its name
    NAME.chunks     the chunk list of a long one
    TOKEN.partial   a long one that is still arriving, or whose connection broke
    views/          contents under the names that tasks see them by (see `views`)

A verified content is sealed: it can no longer be written to, and its time of modification is
a fixed one, so that any change shows without reading it again. Its access time says when it
was used last.
"""

import hashlib
import os
import time
from typing import Any, Callable, Iterable, List

from ..wire.chunks import ChunkList, is_digest, of_file
from ..wire.failures import Failure
from ..wire.files import (
    append,
    draft_beside,
    make_dir,
    open_regular,
    remove,
    write_all,
    write_whole,
)

CHUNKS, PARTIAL = ".chunks", ".partial"
VIEWS = "views"
# In a run's directory: the contents that it needs, by name.
NEEDED = ".contents"
# When every verified content was last modified, by its file.
_SEAL = 1000000000 * 10**9
_READ_ONLY, _READ_AND_RUN = 0o400, 0o500


def checked_name(name: Any) -> str:
    """Return a content's name that came from somewhere else and will be part of a path."""
    if not is_digest(name):
        raise Failure("ValueError", "{!r} does not name a blob".format(name))
    return str(name)


class Store:
    """A directory of contents."""

    def __init__(self, path: str) -> None:
        self.path = make_dir(path)

    def file(self, name: str) -> str:
        """Return where a content is, if it is here."""
        return os.path.join(self.path, checked_name(name))

    def missing(self, names: Iterable[str]) -> List[str]:
        """Return which of these contents are not here; what is here counts as used now."""
        return [name for name in names if not touch(self.file(name))]

    def incoming(self, name: str) -> "Incoming":
        """Return a place for a content that is about to arrive in one piece."""
        return Incoming(self.file(name), name)

    def chunks(self, name: str) -> ChunkList:
        """Return the chunk list of a content.

        Raises:
            Failure: It is not here.
        """
        path = self.file(name)
        try:
            with open(path + CHUNKS, "rb") as file:
                return ChunkList.parse(file.read(), name)
        except FileNotFoundError:
            pass
        try:
            return ChunkList(os.stat(path).st_size, [name])
        except FileNotFoundError:
            raise missing_content(name) from None

    def place(self, draft: str, chunks: ChunkList, executable: bool = False) -> str:
        """Give a verified content its name.

        Args:
            draft: The file that holds it; it is renamed.
            chunks: What it was verified to be.
            executable: Whether programs may be run from it.
        """
        path = self.file(chunks.name)
        if chunks.is_long:
            write_whole(path + CHUNKS, chunks.text())
        seal(draft, executable)
        try:
            os.rename(draft, path)
        except FileNotFoundError:
            # Another agent received the same content into the same draft, and was faster.
            if not os.path.exists(path):
                raise
        return path

    def add(self, source: str, note: Callable[[str], None]) -> ChunkList:
        """Copy a file of this host into the store.

        Args:
            source: The file.
            note: Takes the content's name before it can be seen there, and be pruned.
        """
        draft = draft_beside(os.path.join(self.path, "added"))
        executable = os.access(source, os.X_OK)
        descriptor = open_regular(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
        try:
            try:
                chunks = of_file(source, lambda data: write_all(descriptor, data))
            finally:
                os.close(descriptor)
            note(chunks.name)
            if is_intact(self.file(chunks.name), chunks.size):
                touch(self.file(chunks.name))
                if executable:
                    allow_running(self.file(chunks.name))
            else:
                self.place(draft, chunks, executable)
        finally:
            remove(draft)
        return chunks

    def verify(self, name: str, size: int) -> str:
        """Return where a content is, once it is certain that it is what its name says.

        Raises:
            Failure: It is not here, or was changed.
        """
        path = self.file(name)
        if is_intact(path, size):
            return path
        try:
            wanted = self.chunks(name)
            found = of_file(path)
        except FileNotFoundError:
            raise missing_content(name) from None
        if found.name != name or wanted.size != size:
            raise Failure("Tampered", "the content {} is not what its name says".format(name))
        seal(path, os.access(path, os.X_OK))
        return path


def note_needed(run_directory: str, names: Iterable[str]) -> None:
    """Write down that a run needs these contents."""
    lines = "".join(name + "\n" for name in names)
    if lines:
        append(os.path.join(run_directory, NEEDED), lines.encode("ascii"))


def missing_content(name: str) -> Failure:
    """Return what is said of a content that is not in the store."""
    return Failure("NotInStore", "the content {} is no longer in the store".format(name))


def seal(path: str, executable: bool = False) -> None:
    """Close a content's file to changes, and make any that happens visible."""
    os.chmod(path, _READ_AND_RUN if executable else _READ_ONLY)
    os.utime(path, ns=(_now_ns(), _SEAL))


def allow_running(path: str) -> None:
    """Let programs be run from a content's file."""
    os.chmod(path, _READ_AND_RUN)


def is_intact(path: str, size: int) -> bool:
    """Return whether a sealed content is as it was when it was sealed, as far as its file tells.

    Only its owner can seal a file: what somebody else has put there is read.
    """
    try:
        status = os.stat(path)
    except OSError:
        return False
    sealed = status.st_size == size and status.st_mtime_ns == _SEAL
    return sealed and status.st_uid == os.geteuid()


def touch(path: str) -> bool:
    """Note that a content is used now; whether it is there."""
    try:
        os.utime(path, ns=(_now_ns(), os.stat(path).st_mtime_ns))
    except OSError:
        return False
    return True


def _now_ns() -> int:
    return int(time.time() * 10**9)


class Incoming:
    """A content while it arrives: hashed as it is written, named when it is complete.

    A failure on the way is kept until `finish`, so that the rest of the stream can pass.
    """

    def __init__(self, path: str, name: str) -> None:
        self._path = path
        self._name = name
        self._draft = draft_beside(path)
        self._digest = hashlib.sha256()
        self._error: Any = None
        try:
            descriptor = open_regular(self._draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL)
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
        """Verify the content and put it in place; the failure that prevented it, or None."""
        try:
            if self._file is not None:
                self._file.close()
            if self._error is None and self._digest.hexdigest() != self._name:
                self._error = Failure(
                    "DigestMismatch", "blob {} arrived with another content".format(self._name)
                )
            if self._error is None:
                seal(self._draft)
                os.rename(self._draft, self._path)
        except OSError as error:
            self._error = error
        if isinstance(self._error, OSError):
            self._error.filename = self._path
        if self._error is not None:
            remove(self._draft)
        return self._error
