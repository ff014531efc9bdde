"""The frames that travel between client and agent, and between agent and warm worker.

A frame starts with one byte and two unsigned numbers, `kind, a, b`:

* MESSAGE: `a` bytes of JSON, then `b` bytes of attachment;
* CHUNK: `b` bytes of stream `a`;
* END: stream `a` is complete.

A body too large to be an attachment travels as a stream, which its message announces with
`"stream"` and `"size"`. Messages that wait are sent before further chunks, so that a large
body never holds up a small message. Nothing here reads or writes: `Inbox` and `Outbox` turn
bytes into messages and back.
"""

import collections
import json
import os
import struct
from typing import Any, Callable, Deque, Dict, List, Optional, Tuple, Union

from .files import open_regular

HEADER = struct.Struct("!BII")
MESSAGE, CHUNK, END = 0, 1, 2
INLINE_LIMIT = 256 * 1024
# With its header, a chunk fills two packets of SSH.
CHUNK_SIZE = 2 * (32 * 1024 - 64) - HEADER.size
# No honest message is larger; a header that claims so is not one of ours.
JSON_LIMIT = 256 * 1024 * 1024

# Made once: `json.dumps` with separators makes a new encoder each time.
_to_json = json.JSONEncoder(separators=(",", ":")).encode

Message = Dict[str, Any]
Buffer = Union[bytes, bytearray, memoryview]


class FrameError(Exception):
    """The bytes that arrived are not frames of ours."""


def encode(message: Message, body: Buffer = b"") -> bytes:
    """Return one message with its attachment, as bytes."""
    text = _to_json(message).encode("ascii")
    return b"".join((HEADER.pack(MESSAGE, len(text), len(body)), text, body))


class MemorySink:
    """Collects a stream in memory; `finish` gives its bytes."""

    def __init__(self) -> None:
        # Grown as bytes arrive: what a message announces is not believed.
        self._data = bytearray()

    def write(self, data: Buffer) -> None:
        self._data += data

    def finish(self) -> Any:
        return self._data


class Inbox:
    """Turns arriving bytes into messages, streams assembled first.

    Args:
        open_sink: Where a stream that the message announces goes: an object with `write`
            and `finish`, or None for memory. What `finish` returns is the message's body.
        largest: How many bytes the stream of a message may have, for who does not trust the
            other side; it is asked once for each. Attachments are held to `INLINE_LIMIT` then.
    """

    def __init__(
        self,
        open_sink: Optional[Callable[[Message], Any]] = None,
        largest: Optional[Callable[[Message], float]] = None,
    ) -> None:
        self._open_sink = open_sink
        self._largest = largest
        # Each with what is still to come of it.
        self._streams: Dict[int, Tuple[Message, Any, int]] = {}
        # The beginning of a frame whose rest has not arrived.
        self._begun = bytearray()
        # What is left of the chunk that arrives now: it goes to its sink piece by piece.
        self._sink: Any = None
        self._chunk_left = 0

    def feed(self, data: bytes) -> List[Tuple[Message, Any]]:
        """Return the messages that these bytes complete, each with its body."""
        messages: List[Tuple[Message, Any]] = []
        rest = memoryview(data)
        while len(rest):
            if self._chunk_left:
                part = rest[: self._chunk_left]
                self._sink.write(part)
                self._chunk_left -= len(part)
                rest = rest[len(part) :]
            elif self._begun:
                needed = self._length(self._begun) - len(self._begun)
                self._begun += rest[:needed]
                rest = rest[needed:]
                if self._length(self._begun) == len(self._begun):
                    frame, self._begun = self._begun, bytearray()
                    self._take(memoryview(frame), messages)
            else:
                length = self._length(rest)
                if length > len(rest):
                    self._begun += rest
                    break
                self._take(rest[:length], messages)
                rest = rest[length:]
        return messages

    def _length(self, frame: Union[bytearray, memoryview]) -> int:
        """Return how long a frame is, without a chunk's bytes, as far as its beginning tells."""
        if len(frame) < HEADER.size:
            return HEADER.size
        kind, a, b = HEADER.unpack_from(frame)
        if kind > END or (kind == MESSAGE and a > JSON_LIMIT):
            raise FrameError("not a frame: {!r}".format(bytes(frame[:80])))
        if kind == MESSAGE and self._largest is not None and b > INLINE_LIMIT:
            raise FrameError("an attachment of {} bytes".format(b))
        return HEADER.size + a + b if kind == MESSAGE else HEADER.size

    def _take(self, frame: memoryview, messages: List[Tuple[Message, Any]]) -> None:
        """Take a whole message, or the header of a chunk or an end."""
        kind, a, b = HEADER.unpack_from(frame)
        if kind == MESSAGE:
            body_at = HEADER.size + a
            message = json.loads(bytes(frame[HEADER.size : body_at]).decode("utf-8"))
            if not isinstance(message, dict):
                raise FrameError("not a message: {!r}".format(message)[:200])
            self._take_message(message, bytes(frame[body_at:]), messages)
        elif a not in self._streams:
            raise FrameError("stream {} was not announced".format(a))
        elif kind == CHUNK:
            message, sink, left = self._streams[a]
            if b > left:
                raise FrameError("stream {} is longer than announced".format(a))
            self._streams[a] = (message, sink, left - b)
            self._sink, self._chunk_left = sink, b
        else:
            message, sink, _ = self._streams.pop(a)
            self._sink = None
            messages.append((message, sink.finish()))

    def _take_message(
        self, message: Message, body: bytes, messages: List[Tuple[Message, Any]]
    ) -> None:
        if "stream" not in message:
            messages.append((message, body))
            return
        size = message["size"]
        if self._largest is not None and not 0 <= size <= self._largest(message):
            raise FrameError("nobody asked for {} bytes".format(size))
        sink = self._open_sink(message) if self._open_sink else None
        self._streams[message["stream"]] = (message, sink or MemorySink(), size)


class FileBody:
    """A body that is read from a file while it is sent.

    The file is open only then: many may wait to be sent.

    Args:
        path: The file.
        offset: Where the body starts in it; it goes on to the file's end.
    """

    def __init__(self, path: str, offset: int = 0) -> None:
        self._path = path
        self.offset = offset
        self._size = self._left = os.stat(path).st_size - offset
        self._file: Any = None

    def __len__(self) -> int:
        return self._size

    def read(self, size: int) -> bytes:
        """Return the next bytes; none where the file ends, or can no longer be read."""
        try:
            if self._file is None:
                self._file = os.fdopen(open_regular(self._path), "rb")
                self._file.seek(self.offset)
            # What was added since would be more than was announced.
            data: bytes = self._file.read(min(size, self._left))
            self._left -= len(data)
        except OSError:
            data = b""  # the receiver finds the digest wrong
        if not data and self._file is not None:
            self._file.close()
        return data


class MemoryBody:
    """A body that is in memory already."""

    def __init__(self, data: Buffer) -> None:
        self._rest = memoryview(data).cast("B")

    def read(self, size: int) -> Buffer:
        data, self._rest = self._rest[:size], self._rest[size:]
        return data


class OutgoingStream:
    """One stream on its way out."""

    def __init__(self, number: int, body: Any) -> None:
        self._number = number
        self._body = body
        self.finished = False

    def next_frame(self) -> bytes:
        """Return the next chunk, or the end."""
        data = self._body.read(CHUNK_SIZE)
        if data:
            return b"".join((HEADER.pack(CHUNK, self._number, len(data)), data))
        self.finished = True
        return HEADER.pack(END, self._number, 0)


class Outbox:
    """What waits to be sent: messages in order, before the chunks of all streams in turn."""

    def __init__(self) -> None:
        self.waiting_bytes = 0
        self._messages: Deque[bytes] = collections.deque()
        self._streams: Deque[OutgoingStream] = collections.deque()
        self._last_stream = 0

    def __bool__(self) -> bool:
        return bool(self._messages or self._streams)

    def put(self, message: Message, body: Any = b"") -> None:
        """Queue a message; a large body, or one in a file, becomes a stream."""
        if len(body) > INLINE_LIMIT or isinstance(body, FileBody):
            self._last_stream += 1
            message = dict(message, stream=self._last_stream, size=len(body))
            source = body if isinstance(body, FileBody) else MemoryBody(body)
            self._streams.append(OutgoingStream(self._last_stream, source))
            body = b""
        frame = encode(message, body)
        self._messages.append(frame)
        self.waiting_bytes += len(frame)

    def take(self) -> Union[bytes, OutgoingStream]:
        """Return what to send next: frames, or a stream to be asked for its next frame.

        A stream is given out, so that it can be read without holding a lock, and must come
        back through `put_back` unless it has finished.
        """
        if not self._messages:
            return self._streams.popleft()
        # Small messages go out together: one write costs as much as what it carries.
        frames = [self._messages.popleft()]
        size = len(frames[0])
        while self._messages and size + len(self._messages[0]) <= CHUNK_SIZE:
            frames.append(self._messages.popleft())
            size += len(frames[-1])
        self.waiting_bytes -= size
        return b"".join(frames) if len(frames) > 1 else frames[0]

    def put_back(self, stream: OutgoingStream) -> None:
        """Return a stream that is not finished, behind the others."""
        self._streams.append(stream)
