"""A host reached over SSH: one transport, and programs started on it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence

import paramiko

from clustrix_prefect.connections.connection import Channel, HostFacts
from clustrix_prefect.connections.tail import LAST_WORDS_SECONDS, Tail
from clustrix_prefect.errors import ConnectionLost

# Channel.sendall copies what is left of its buffer once per packet: quadratic, if it is large.
# This is what fits into one packet: a byte more would cost a second one.
_SLICE = 32 * 1024 - 64
_OPEN_TIMEOUT = 30.0


class SSHChannel:
    """A program on a far host."""

    def __init__(self, channel: paramiko.Channel, command: str) -> None:
        self._channel = channel
        self._tail = Tail()
        channel.exec_command(command)
        self._drain = threading.Thread(
            target=self._drain_stderr, name="clustrix-stderr", daemon=True
        )
        self._drain.start()

    def _drain_stderr(self) -> None:
        """Standard error shares the channel's window: unread, it would stop everything."""
        while data := self._channel.recv_stderr(4096):
            self._tail.append(data)

    def read(self, size: int) -> bytes:
        return self._channel.recv(size)

    def write(self, data: bytes | memoryview) -> None:
        view = memoryview(data)
        for start in range(0, len(view), _SLICE):
            self._channel.sendall(bytes(view[start : start + _SLICE]))

    def stderr_tail(self) -> str:
        if self._channel.exit_status_ready():
            self._drain.join(LAST_WORDS_SECONDS)
        return self._tail.text()

    def exit_status(self) -> int | None:
        if not self._channel.exit_status_ready():
            return None
        return self._channel.recv_exit_status()

    def close(self) -> None:
        # The goodbye goes over the network, where a frozen peer could hold it up; readers
        # and writers are released before that.
        threading.Thread(target=self._say_goodbye, name="clustrix-close", daemon=True).start()

    def _say_goodbye(self) -> None:
        with contextlib.suppress(EOFError, OSError, paramiko.SSHException):  # it has gone first
            self._channel.close()


class SSHConnection:
    """An authenticated way to a host; `connections.route` opens one.

    Args:
        transports: The transports on the way, jump hosts first, the host itself last.
        description: Where this leads: "alice@ndoli:22".
        facts: What was learnt on the way in.
    """

    def __init__(
        self, transports: Sequence[paramiko.Transport], description: str, facts: HostFacts
    ) -> None:
        self._transports = list(transports)
        self.description = description
        self.facts = facts

    def start(self, command: str) -> Channel:
        transport = self._transports[-1]
        try:
            channel = transport.open_session(timeout=_OPEN_TIMEOUT)
            return SSHChannel(channel, command)
        except paramiko.ChannelException as error:
            raise ConnectionLost(
                f"{self.description} opens no further session: {error.text}.",
                "The host may limit sessions per connection (MaxSessions of its sshd).",
            ) from error
        except (paramiko.SSHException, EOFError, OSError) as error:
            raise ConnectionLost(
                f"The connection to {self.description} is gone: {error}."
            ) from error

    def close(self) -> None:
        for transport in reversed(self._transports):
            transport.close()
