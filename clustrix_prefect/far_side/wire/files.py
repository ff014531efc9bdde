"""Files that nobody but the user can read, and that are either complete or not there."""

import errno
import os
import stat
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, BinaryIO, Optional

# For how long a file that should be there is looked for again, seconds.
PATIENCE = 10.0
DRAFT = ".tmp"

# A link is never followed to where it leads, and a pipe's other end never waited for.
_SAFE = os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK


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


def open_regular(path: str, flags: int = os.O_RDONLY, mode: int = 0o600) -> int:
    """Return a descriptor of a regular file, which is opened without following a link.

    Raises:
        OSError: It cannot be opened, or is something else: a link, a pipe, a device, a directory.
    """
    if not flags & os.O_CREAT:
        # Opening a device may do something already.
        _check_regular(os.lstat(path), path)
    descriptor = os.open(path, flags | _SAFE, mode)
    try:
        _check_regular(os.fstat(descriptor), path)
    except OSError:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(status: os.stat_result, path: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise OSError(errno.EINVAL, "it is not a regular file", path)


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
    """Return a descriptor for a program's output, appended to a file."""
    return open_regular(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)


def write_private(path: str, *parts: "Any", **options: "Any") -> None:
    """Write a new file with these bytes; `mode=0o700` for a script.

    Whatever was there under this name makes way: it is not written to.
    """
    flags, mode = os.O_WRONLY | os.O_CREAT | os.O_EXCL, options.get("mode", 0o600)
    try:
        descriptor = open_regular(path, flags, mode)
    except FileExistsError:
        os.unlink(path)
        descriptor = open_regular(path, flags, mode)
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


def draft_beside(path: str) -> str:
    """Return a name beside a path that nobody can guess, for what is being written."""
    return "{}.{}{}".format(path, os.urandom(8).hex(), DRAFT)


def write_whole(path: str, *parts: "Any") -> None:
    """Write a file so that whoever sees it sees all of it."""
    temporary = draft_beside(path)
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
    """Return the last bytes of a part of a file, as text; "" if there is none."""
    try:
        # A log may be a link, which the scheduler made; a pipe must not hold anybody up.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            end = file.seek(0, 2) if end is None else end
            start = file.seek(max(start, end - size))
            return file.read(max(0, end - start)).decode("utf-8", "replace")
    except OSError:
        return ""


def read_optional(path: str) -> "Optional[str]":
    """Return a small text file's content, or None if it is not there."""
    try:
        with os.fdopen(open_regular(path), encoding="utf-8") as file:
            return file.read()
    except OSError:
        return None
