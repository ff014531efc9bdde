"""Contents that arrive in chunks.

The client offers the digests of a content's chunks as it learns them. What an earlier
connection left of the same content, and what other contents of the store have in common with
it, is taken from there; only the rest is sent. Each chunk is verified before it is written.
"""

import hashlib
import os
import zlib
from typing import Any, Dict, List, Optional, Tuple

from ..wire.chunks import CHUNK_BYTES, ChunkList, chunk_count, digest, read_fully
from ..wire.failures import Failure
from ..wire.files import open_regular, remove
from .store import CHUNKS, PARTIAL, Store, checked_name


class Upload:
    """One content on its way into the store.

    Args:
        store: Where it goes.
        token: A name by which a later connection finds what has arrived.
        size: Of the whole content.
    """

    def __init__(self, store: Store, token: str, size: int) -> None:
        self._store = store
        self._path = os.path.join(store.path, checked_name(token) + PARTIAL)
        self._size = size
        self._digests: List[Optional[str]] = [None] * chunk_count(size)
        self._descriptor = open_regular(self._path, os.O_RDWR | os.O_CREAT)
        # What is there already, from a connection that broke.
        self.left = os.fstat(self._descriptor).st_size
        self._sources = _ChunkSources(store)

    def offer(self, first: int, digests: List[str]) -> List[int]:
        """Return which of these chunks have to be sent, by number."""
        return [
            index for index, wanted in enumerate(digests, first) if not self._find(index, wanted)
        ]

    def _find(self, index: int, wanted: str) -> bool:
        offset = index * CHUNK_BYTES
        if offset < self.left:
            length = min(CHUNK_BYTES, self._size - offset)
            if digest(read_fully(self._descriptor, length, offset)) == wanted:
                self._digests[index] = wanted
                return True
        data = self._sources.read(wanted)
        if data is None:
            return False
        self._write(index, data, wanted)
        return True

    def write(self, index: int, wanted: str, data: Any, compressed: bool) -> None:
        """Take a chunk that was sent.

        Raises:
            Failure: It is not what its digest says: the file was changed while it was sent.
        """
        if compressed:
            # Never more than a chunk, whatever was sent.
            data = zlib.decompressobj().decompress(data, CHUNK_BYTES + 1)
        if digest(data) != wanted:
            raise _other_content(index)
        self._write(index, data, wanted)

    def _write(self, index: int, data: Any, wanted: str) -> None:
        if len(data) != self.length(index):
            raise _wrong_size(index)
        self.write_at(index * CHUNK_BYTES, data)
        self._digests[index] = wanted

    def length(self, index: int) -> int:
        """Return how many bytes a chunk has."""
        return min(CHUNK_BYTES, self._size - index * CHUNK_BYTES)

    def write_at(self, offset: int, data: Any) -> None:
        """Write bytes that may yet turn out to be the wrong ones."""
        view = memoryview(data)
        try:
            while len(view):
                written = os.pwrite(self._descriptor, view, offset)
                view, offset = view[written:], offset + written
        except OSError as error:
            error.filename = self._path
            raise

    def verified(self, index: int, wanted: str) -> None:
        """The bytes of a chunk that were written are what this digest says."""
        self._digests[index] = wanted

    def finish(self, name: str, executable: bool) -> None:
        """Give the complete content its name.

        Raises:
            Failure: A chunk is missing, or the whole is not what its name says.
        """
        digests = [found for found in self._digests if found is not None]
        chunks = ChunkList(self._size, digests)
        if len(digests) != len(self._digests) or chunks.name != name:
            raise Failure("DigestMismatch", "{} did not arrive whole".format(name))
        os.ftruncate(self._descriptor, self._size)
        self.close()
        self._store.place(self._path, chunks, executable)

    def close(self) -> None:
        """Leave what has arrived for a later attempt."""
        descriptor, self._descriptor = self._descriptor, -1
        if descriptor >= 0:
            # NFS sends the data, and reports a full disk, no later than here.
            os.close(descriptor)

    def abandon(self) -> None:
        """Remove what has arrived."""
        self.close()
        remove(self._path)


class ArrivingChunk:
    """A chunk that is hashed and written while it arrives, and counts once it is verified.

    A failure on the way is kept until `finish`, so that the rest of the stream can pass.

    Args:
        uploads: The uploads that were begun.
        token: Which of them this belongs to.
        index: The chunk's number.
        wanted: Its digest.
    """

    def __init__(self, uploads: "Uploads", token: str, index: int, wanted: str) -> None:
        self._index = index
        self._wanted = wanted
        self._digest = hashlib.sha256()
        self._arrived = 0
        self._error: Optional[Exception] = None
        try:
            self._upload = uploads.get(token)
        except Failure as error:
            self._error = error

    def write(self, data: Any) -> None:
        """Take the next bytes."""
        if self._error is not None:
            return
        if self._arrived + len(data) > self._upload.length(self._index):
            self._error = _wrong_size(self._index)
            return
        try:
            self._upload.write_at(self._index * CHUNK_BYTES + self._arrived, data)
        except OSError as error:
            self._error = error
        self._digest.update(data)
        self._arrived += len(data)

    def finish(self) -> Optional[Exception]:
        """Verify the chunk; the failure that prevented it, or None."""
        if self._error is None and self._arrived != self._upload.length(self._index):
            self._error = _wrong_size(self._index)
        if self._error is None and self._digest.hexdigest() != self._wanted:
            self._error = _other_content(self._index)
        if self._error is None:
            self._upload.verified(self._index, self._wanted)
        return self._error


def _other_content(index: int) -> Failure:
    return Failure("DigestMismatch", "chunk {} arrived with another content".format(index))


def _wrong_size(index: int) -> Failure:
    return Failure("ValueError", "chunk {} is of the wrong size".format(index))


class _ChunkSources:
    """The chunks of the long contents that are in a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._places: Optional[Dict[str, Tuple[str, int]]] = None

    def read(self, wanted: str) -> Optional[bytes]:
        """Return a chunk's bytes, verified, if one of the contents has it."""
        if self._places is None:
            self._places = dict(self._list())
        if wanted not in self._places:
            return None
        path, index = self._places[wanted]
        try:
            with open(path, "rb", buffering=0) as file:
                data = read_fully(file.fileno(), CHUNK_BYTES, index * CHUNK_BYTES)
        except OSError:
            return None
        return data if digest(data) == wanted else None

    def _list(self) -> Any:
        for name in os.listdir(self._store.path):
            if not name.endswith(CHUNKS):
                continue
            name = name[: -len(CHUNKS)]
            try:
                chunks = self._store.chunks(name)
            except (OSError, ValueError, Failure):
                continue
            for index, found in enumerate(chunks.digests):
                yield found, (self._store.file(name), index)


class Uploads:
    """The uploads of one agent, by their tokens."""

    def __init__(self) -> None:
        self._under_way: Dict[str, Upload] = {}

    def begin(self, store: Store, token: str, size: int) -> int:
        """Begin, or go on with, an upload; how many bytes an earlier attempt left."""
        upload = Upload(store, token, size)
        before = self._under_way.pop(token, None)
        if before is not None:
            before.close()
        self._under_way[token] = upload
        return upload.left

    def get(self, token: str) -> Upload:
        """Return an upload that was begun.

        Raises:
            Failure: It was not, or not over this connection.
        """
        try:
            return self._under_way[token]
        except KeyError:
            raise Failure("NotFound", "no upload {} was begun".format(token)) from None

    def end(self, token: str, keep: bool) -> None:
        """Forget an upload that came to nothing."""
        upload = self._under_way.pop(token, None)
        if upload is not None:
            if keep:
                upload.close()
            else:
                upload.abandon()

    def finish(self, token: str, name: str, executable: bool) -> None:
        """Put a complete upload in place."""
        self.get(token).finish(name, executable)
        self._under_way.pop(token, None)
