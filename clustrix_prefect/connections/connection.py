"""What a way to reach a cluster must be able to do: start a program there and talk to it.

Everything else (files, jobs, logs) is done by the program that is started.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from clustrix_prefect.errors import ConnectionLost


class Channel(Protocol):
    """The standard streams of one running far program."""

    def read(self, size: int) -> bytes:
        """Up to `size` bytes of its standard output: at least one, or b"" at its end.

        Raises:
            ConnectionLost: It was never started.
        """
        ...

    def write(self, data: bytes | memoryview) -> None:
        """Hand all of `data` to its standard input. Called from one thread only.

        Raises:
            OSError: The program, or the way to it, is gone.
        """
        ...

    def stderr_tail(self) -> str:
        """Return the last few kilobytes that it wrote to its standard error."""
        ...

    def exit_status(self) -> int | None:
        """Its exit status (minus the signal that ended it), or None while it runs."""
        ...

    def close(self) -> None:
        """End the conversation, from any thread: a blocked `read` or `write` returns."""
        ...


@dataclass(frozen=True)
class HostFacts:
    """What was learnt on the way in, for people to read; empty where there is nothing of the kind.

    Attributes:
        host_key: The host's key.
        authenticated_with: What the host took.
        jumps: The hosts on the way.
        certificate_ends: When the certificate that the host took ends, if it was one and it does.
    """

    host_key: str = ""
    authenticated_with: str = ""
    jumps: tuple[str, ...] = ()
    certificate_ends: datetime | None = None


class Connection(Protocol):
    """A way to one host, open until it is closed."""

    @property
    def description(self) -> str:
        """Where this leads, for people: "this machine", "alice@ndoli:22"."""
        ...

    @property
    def facts(self) -> HostFacts:
        """What was learnt on the way in."""
        ...

    def start(self, command: str) -> Channel:
        """Run one command line through the far login shell.

        Raises:
            ConnectionLost: The connection is no longer there.
        """
        ...

    def close(self) -> None:
        """Close the connection and every channel on it."""
        ...


class ChannelsOnly:
    """A connection that is nothing but its channels: each finds its own way.

    Args:
        open_channel: Runs a command line.
        description: Where this leads, for people.
    """

    def __init__(self, open_channel: Callable[[str], Channel], description: str) -> None:
        self.description = description
        self._open_channel = open_channel
        self._channels: list[Channel] = []
        self._closed = False

    @property
    def facts(self) -> HostFacts:
        return HostFacts()

    def start(self, command: str) -> Channel:
        if self._closed:
            raise ConnectionLost(f"The connection to {self.description} was closed.")
        channel = self._open_channel(command)
        self._channels.append(channel)
        return channel

    def close(self) -> None:
        self._closed = True
        while self._channels:
            self._channels.pop().close()
