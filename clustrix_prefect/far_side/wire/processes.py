"""Processes, named so that another one is never taken for them."""

import os

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Optional

HOST = os.uname().nodename


def process_start(pid: int) -> "Optional[int]":
    """Return when a process of this host started, in the kernel's ticks; None if it is not there.

    With the pid it names a process: pids are used again.
    """
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            # The second field is the command in brackets and may contain anything.
            fields = file.read().rpartition(b")")[2].split()
        return None if fields[0] in (b"Z", b"X") else int(fields[19])
    except (OSError, ValueError, IndexError):
        return None


def is_stopped(pid: int) -> bool:
    """Return whether a process does nothing: it was stopped, or has ended."""
    try:
        with open("/proc/{}/stat".format(pid), "rb") as file:
            return file.read().rpartition(b")")[2].split()[0] in (b"T", b"t", b"Z", b"X")
    except (OSError, IndexError):
        return True
