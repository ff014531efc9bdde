"""Two threads that keep a channel going: one only reads, one only writes.

A single thread that did both would deadlock as soon as both sides have much to send. Both
ends send a ping when they have had nothing to say for a while, so that a peer that froze,
or a network that swallows everything, shows as silence.
"""

import threading
from typing import Any, Callable, Optional

from .frames import Inbox, Message, Outbox, OutgoingStream

READ_SIZE = 256 * 1024
PING_AFTER = 5.0
# Above this much waiting, a sender that can wait is made to.
FULL = 8 * 1024 * 1024
TICK = 1.0


class Link:
    """Messages over a channel.

    Args:
        read: Blocks until there is at least one byte; b"" at the end.
        write: Blocks until all bytes are taken; OSError when the peer has gone.
        on_message: Called on the reader thread with each message and its body.
        on_end: Called once, from any thread, with the reason, when nothing more will come.
        ping: What to send when there is nothing else to say.
        silence: Seconds without a byte after which the peer counts as dead.
        open_sink: See `Inbox`.
        largest: See `Inbox`.
    """

    def __init__(
        self,
        read: Callable[[int], bytes],
        write: Callable[[bytes], Any],
        on_message: Callable[[Message, Any], None],
        on_end: Callable[[BaseException], None],
        ping: Message,
        silence: float = 30.0,
        open_sink: Optional[Callable[[Message], Any]] = None,
        largest: Optional[Callable[[Message], float]] = None,
    ) -> None:
        self.bytes_sent = 0
        self.bytes_received = 0
        self._read = read
        self._write = write
        self._on_message = on_message
        self._on_end = on_end
        self._ping = ping
        self._silence = silence
        self._inbox = Inbox(open_sink, largest)
        self._outbox = Outbox()
        self._changed = threading.Condition()
        self._ended = threading.Event()
        self._told = threading.Event()
        self._closing = False
        self._idle = False
        self._is_handling = False

    def start(self) -> None:
        """Start reading, writing and listening for silence."""
        for target, name in (
            (self._read_all, "read"),
            (self._write_all, "write"),
            (self._listen, "listen"),
        ):
            threading.Thread(target=target, name="clustrix-" + name, daemon=True).start()

    def send(self, message: Message, body: Any = b"") -> None:
        """Queue a message; never waits for the network."""
        with self._changed:
            self._outbox.put(message, body)
            self._changed.notify_all()

    def wait_until_sendable(self) -> None:
        """Wait while very much is queued; for threads that can hold up their source."""
        if self._outbox.waiting_bytes > FULL:
            with self._changed:
                while self._outbox.waiting_bytes > FULL and not self._ended.is_set():
                    self._changed.wait(TICK)

    def wait_ended(self, timeout: Optional[float] = None) -> bool:
        """Wait until the link has ended and `on_end` was called; whether that is so."""
        return self._told.wait(timeout)

    def finish(self, timeout: float) -> None:
        """Send what is queued, as far as that is possible in this time, then nothing more."""
        with self._changed:
            self._closing = True
            self._changed.notify_all()
            self._changed.wait_for(
                lambda: self._ended.is_set() or (self._idle and not self._outbox), timeout
            )

    def _read_all(self) -> None:
        try:
            while True:
                data = self._read(READ_SIZE)
                if not data:
                    raise EOFError("the channel was closed")
                self.bytes_received += len(data)
                self._is_handling = True
                for message, body in self._inbox.feed(data):
                    self._on_message(message, body)
                self._is_handling = False
        except Exception as error:  # a link that nobody reads would look alive for ever
            self.end(error)

    def _write_all(self) -> None:
        try:
            while True:
                taken = self._next_to_write()
                if taken is None:
                    return
                if isinstance(taken, OutgoingStream):
                    data = taken.next_frame()
                    if not taken.finished:
                        with self._changed:
                            self._outbox.put_back(taken)
                else:
                    data = taken
                self._write(data)
                self.bytes_sent += len(data)
        except Exception as error:  # as above
            self.end(error)

    def _next_to_write(self) -> Any:
        with self._changed:
            while not self._outbox:
                self._idle = True
                if self._closing or self._ended.is_set():
                    self._changed.notify_all()
                    return None
                if not self._changed.wait(PING_AFTER):
                    self._outbox.put(self._ping)
            self._idle = False
            was_full = self._outbox.waiting_bytes > FULL
            taken = self._outbox.take()
            if was_full:
                self._changed.notify_all()
            return taken

    def _listen(self) -> None:
        # Silence is counted in ticks of this thread rather than read off a clock: time during
        # which this very process was suspended must not be held against the peer, nor time in which
        # nobody reads since what was read is dealt with (a file system that stalls, say).
        heard, silent = -1, 0.0
        while not self._ended.wait(TICK):
            is_silent = heard == self.bytes_received and not self._is_handling
            silent = silent + TICK if is_silent else 0.0
            heard = self.bytes_received
            if silent >= self._silence:
                self.end(TimeoutError("silent for {:.0f} s".format(silent)))

    def end(self, reason: BaseException) -> None:
        """Nothing is read or written any more."""
        with self._changed:
            if self._ended.is_set():
                return
            self._ended.set()
            self._changed.notify_all()
        try:
            self._on_end(reason)
        finally:
            self._told.set()
