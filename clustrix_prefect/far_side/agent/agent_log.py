"""What an agent says of itself, in a file of the work directory: for whoever looks for a fault.

It names operations and errors; arguments, environments and what calls write are not in it.
"""

import os
import threading
import time
from typing import Optional

from ..wire.failures import Failure
from ..wire.files import open_regular

NAME = "agent.log"
# The file before it is kept as well, under the same name with `.1`.
LARGEST = 1024 * 1024


def named(error: BaseException) -> str:
    """Name an error without its text, which may hold what a program printed."""
    name = type(error).__name__
    if isinstance(error, Failure):
        return error.kind
    if isinstance(error, OSError) and error.strerror:
        return "{}: {}: {}".format(name, error.strerror, error.filename)
    return name


class AgentLog:
    """Appends lines to a file that several agents may write to; a full disk is not its concern."""

    def __init__(self) -> None:
        self._path: Optional[str] = None
        self._last = ""
        self._lock = threading.Lock()

    def open(self, directory: str) -> None:
        """Write into this directory from now on; what was written before is lost."""
        self._path = os.path.join(directory, NAME)

    def write(self, line: str) -> None:
        """Write a line with the time and the agent's process; the same line again is left out."""
        with self._lock:
            if self._path is None or line == self._last:
                return
            self._last = line
            when = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
            text = "{} {} {}\n".format(when, os.getpid(), " ".join(line.split()))
            try:
                self._append(self._path, text.encode("utf-8", "backslashreplace"))
            except OSError:
                pass

    def _append(self, path: str, data: bytes) -> None:
        descriptor = open_regular(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        try:
            if os.fstat(descriptor).st_size > LARGEST:
                os.replace(path, path + ".1")
            os.write(descriptor, data)
        finally:
            os.close(descriptor)
