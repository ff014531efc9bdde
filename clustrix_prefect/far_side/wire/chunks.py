"""Contents: bytes that are known by what they are, on both sides of the connection.

A content of up to one chunk is named by the SHA-256 of its bytes. A longer one is named by
the SHA-256 of its chunk list, a text of its size and the digest of each chunk: so that what
changed in a large file, or was missing when a connection broke, can be found and sent alone.
"""

import hashlib
import os
import re
from typing import Any, Callable, Iterator, List, Optional, Tuple

CHUNK_BYTES = 4 * 1024 * 1024
_FIRST_WORD = "clustrix-chunks/1"
_DIGEST = re.compile(r"[0-9a-f]{64}\Z")


class ChunkList:
    """The size of a content and the digest of each of its chunks.

    Args:
        size: Of the whole, in bytes.
        digests: One for each chunk, in hexadecimal; an empty content has one empty chunk.
    """

    def __init__(self, size: int, digests: List[str]) -> None:
        self.size = size
        self.digests = digests

    @property
    def is_long(self) -> bool:
        """Whether this has more than one chunk."""
        return self.size > CHUNK_BYTES

    @property
    def name(self) -> str:
        """The name of the content."""
        return hashlib.sha256(self.text()).hexdigest() if self.is_long else self.digests[0]

    def text(self) -> bytes:
        """Return the list as the text that a long content is named by."""
        lines = ["{} {}".format(_FIRST_WORD, self.size)] + self.digests
        return "\n".join(lines).encode("ascii")

    @classmethod
    def parse(cls, text: bytes, name: str) -> "ChunkList":
        """Read the list of a long content.

        Raises:
            ValueError: It is not the list that this name stands for.
        """
        if hashlib.sha256(text).hexdigest() != name:
            raise ValueError("the chunk list of {} is not what its name says".format(name))
        first, *digests = text.decode("ascii").split("\n")
        word, _, size = first.partition(" ")
        found = cls(int(size), digests)
        if word != _FIRST_WORD or len(digests) != chunk_count(found.size):
            raise ValueError("{!r} is not a chunk list".format(text[:100]))
        return found


def is_digest(text: Any) -> bool:
    """Return whether a text that came from the other side is a SHA-256, and so no path either."""
    return isinstance(text, str) and _DIGEST.match(text) is not None


def chunk_count(size: int) -> int:
    """Return how many chunks a content of this size has."""
    return max(1, -(-size // CHUNK_BYTES))


def spans(size: int) -> Iterator[Tuple[int, int, int]]:
    """Number, offset and length of each chunk of a content."""
    for index in range(chunk_count(size)):
        offset = index * CHUNK_BYTES
        yield index, offset, min(CHUNK_BYTES, size - offset)


def digest(data: Any) -> str:
    """Return the digest of one chunk."""
    return hashlib.sha256(data).hexdigest()


def of_file(
    path: str, copy_to: Optional[Callable[[bytes], Any]] = None, size: Optional[int] = None
) -> ChunkList:
    """Return the chunk list of a file's content.

    Args:
        path: The file.
        copy_to: Takes the bytes that were read, chunk by chunk.
        size: What the size must be; anything else means that somebody writes to it.

    Raises:
        OSError: It cannot be read, or changed while it was.
    """
    digests = []
    with open(path, "rb", buffering=0) as file:
        total = os.fstat(file.fileno()).st_size if size is None else size
        for _, _, length in spans(total):
            data = read_fully(file.fileno(), length)
            if len(data) != length:
                raise OSError("{} became shorter while it was read".format(path))
            digests.append(digest(data))
            if copy_to is not None:
                copy_to(data)
        # A file of /proc says that it is empty, and is not.
        if os.fstat(file.fileno()).st_size != total or os.read(file.fileno(), 1):
            raise OSError("{} changed while it was read".format(path))
    return ChunkList(total, digests)


def read_fully(descriptor: int, size: int, offset: Optional[int] = None) -> bytes:
    """Read this many bytes, or up to the end of the file."""
    parts = []
    while size > 0:
        data = os.read(descriptor, size) if offset is None else os.pread(descriptor, size, offset)
        if not data:
            break
        parts.append(data)
        size -= len(data)
        offset = None if offset is None else offset + len(data)
    return parts[0] if len(parts) == 1 else b"".join(parts)
