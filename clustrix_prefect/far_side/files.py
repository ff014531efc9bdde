"""Files that nobody but the user can read, and that are either complete or not there."""

import os
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Optional

# For how long a file that should be there is looked for again, seconds.
PATIENCE = 10.0

_CREATE = os.O_WRONLY | os.O_CREAT | getattr(os, "O_CLOEXEC", 0)


def make_dir(path: str) -> str:
    """Make a directory and its parents, for the user alone; they may exist already."""
    if not os.path.isdir(path):
        make_dir(os.path.dirname(path))
        try:
            os.mkdir(path, 0o700)
        except FileExistsError:
            if not os.path.isdir(path):
                raise
    return path


def open_late(path: str) -> "BinaryIO":
    """Open a file that another host wrote; if it is not there, look again for some seconds.

    Shared file systems remember for a while what they did not have.
    """
    patience, pause = time.monotonic() + PATIENCE, 0.01
    while True:
        try:
            return open(path, "rb")
        except FileNotFoundError:
            if time.monotonic() > patience:
                raise
        time.sleep(pause)
        pause = min(2 * pause, 1.0)
        try:
            # To open a directory makes NFS ask its server whether it has changed.
            os.close(os.open(os.path.dirname(path), os.O_RDONLY))
        except OSError:
            pass


def open_log(path: str) -> int:
    """A descriptor for a program's output, appended to a file."""
    return os.open(path, _CREATE | os.O_APPEND, 0o600)


def write_private(path: str, *parts: "Any", **options: "Any") -> None:
    """Write a new file with these bytes; `mode=0o700` for a script."""
    descriptor = os.open(path, _CREATE | os.O_TRUNC, options.get("mode", 0o600))
    try:
        try:
            for part in parts:
                write_all(descriptor, part)
        finally:
            # NFS sends the data, and reports a full disk, no later than here.
            os.close(descriptor)
    except OSError as error:
        error.filename = path  # a failing `write` does not know what it writes to
        raise


def write_whole(path: str, *parts: "Any") -> None:
    """Write a file so that whoever sees it sees all of it."""
    temporary = "{}.{}.tmp".format(path, os.getpid())
    try:
        write_private(temporary, *parts)
        os.rename(temporary, path)
    except OSError:
        remove(temporary)
        raise


def append(path: str, data: bytes) -> None:
    """Append to a file, visible elsewhere at once.

    It is opened and closed each time: closing is what makes NFS send the data.
    """
    descriptor = open_log(path)
    try:
        write_all(descriptor, data)
    finally:
        os.close(descriptor)


def write_all(descriptor: int, data: "Any") -> None:
    """Write all of the bytes to a descriptor."""
    written = os.write(descriptor, data)
    while written < len(data):
        data = memoryview(data)[written:]
        written = os.write(descriptor, data)


def remove(path: str) -> None:
    """Remove a file that may be gone already."""
    try:
        os.unlink(path)
    except FileNotFoundError:
        pass


def tail(path: str, start: int = 0, end: "Optional[int]" = None, size: int = 8192) -> str:
    """The last bytes of a part of a file, as text; "" if there is none."""
    try:
        with open(path, "rb") as file:
            end = file.seek(0, 2) if end is None else end
            start = file.seek(max(start, end - size))
            return file.read(max(0, end - start)).decode("utf-8", "replace")
    except OSError:
        return ""


def read_optional(path: str) -> "Optional[str]":
    """A small text file's content, or None if it is not there."""
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None
