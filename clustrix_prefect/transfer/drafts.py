"""Files here that are written beside their place, and moved there when they are whole."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

# Of a name, in bytes: as much as is left beside what a draft's name has at its end.
_LONGEST = 120


def name_of_draft(name: str, ending: str) -> str:
    """Return a hidden name that is no longer than a file system takes, and the same each time.

    Args:
        name: The file's own name.
        ending: What comes after it, at most 100 bytes.
    """
    encoded = os.fsencode(name)
    if len(encoded) > _LONGEST:
        name = hashlib.sha256(encoded).hexdigest()
    return f".{name}{ending}"


def open_draft(path: Path) -> tuple[Path, int]:
    """Open what an earlier attempt may have left, if it is ours, for reading and writing.

    Returns:
        Where it is, which is another name if somebody else holds this one, and its descriptor.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
    with contextlib.suppress(OSError):
        descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600)
        status = os.fstat(descriptor)
        if stat.S_ISREG(status.st_mode) and status.st_uid == os.geteuid() and status.st_nlink == 1:
            return path, descriptor
        os.close(descriptor)
    path = path.with_name(f".{secrets.token_hex(8)}.partial")
    return path, os.open(path, flags | os.O_EXCL, 0o600)


def open_draft_directory(path: Path) -> Path:
    """Return a directory of this name if it is ours alone, or a new one beside it."""
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    status = path.lstat()
    if stat.S_ISDIR(status.st_mode) and status.st_uid == os.geteuid():
        path.chmod(0o700)
        return path
    path = path.with_name(f".{secrets.token_hex(8)}.partial")
    path.mkdir(mode=0o700)
    return path


@contextlib.contextmanager
def replacing(target: Path) -> Iterator[BinaryIO]:
    """A file to write to, which takes the place of another one when the context ends well.

    A link is followed, as by `open`. What cannot be replaced without becoming something else,
    such as a device, is written into.

    Raises:
        OSError: It cannot be written.
    """
    real = Path(os.path.realpath(target))
    before: os.stat_result | None = None
    with contextlib.suppress(FileNotFoundError):
        before = real.stat()
    if before is not None:
        mine = os.geteuid() in (before.st_uid, 0) and stat.S_ISREG(before.st_mode)
        if not mine or not os.access(real.parent, os.W_OK | os.X_OK):
            with real.open("wb") as file:
                yield file
            return
        with real.open("ab"):
            pass  # one that must not be written to is not replaced either
    draft = real.with_name(f".{secrets.token_hex(8)}.part")
    descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666)
    try:
        with os.fdopen(descriptor, "wb") as file:
            yield file
            if before is not None:
                for uid, gid in ((before.st_uid, -1), (-1, before.st_gid)):
                    with contextlib.suppress(PermissionError):  # a group we are not in
                        os.fchown(file.fileno(), uid, gid)
                os.fchmod(file.fileno(), stat.S_IMODE(before.st_mode))
        draft.replace(real)
    except BaseException:
        draft.unlink(missing_ok=True)
        raise
