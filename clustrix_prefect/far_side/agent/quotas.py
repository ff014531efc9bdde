"""What an account may still write to a file system: `quota` and `lfs quota` are asked."""

import os
import re
from typing import Tuple

from ..environments.commands import run
from ..wire.protocol import QuotaAnswer

_MOUNTS = "/proc/self/mounts"
_ESCAPED = re.compile(rb"\\([0-7]{3})")


def ask(path: bytes, timeout: float) -> QuotaAnswer:
    """Ask for this account's quota where a path is: the command, and what it answered.

    Raises:
        OSError: The path is not there.
    """
    os.stat(path)
    mount, kind = _mount_of(os.path.realpath(path))
    if kind == b"lustre":
        argv = ["lfs", "quota", "-q", "-u", str(os.getuid()), os.fsdecode(mount)]
    else:
        argv = ["quota", "-v", "-w", "-p", "-f", os.fsdecode(mount)]
    ended = run(argv, timeout)
    return {
        "command": argv[:2] if argv[0] == "lfs" else argv[:1],
        "returncode": ended["returncode"],
        "stdout": ended["stdout"],
        "stderr": ended["stderr"],
    }


def _mount_of(path: bytes) -> Tuple[bytes, bytes]:
    """Return where the file system of a path is mounted, and of which kind it is."""
    found = (b"/", b"")
    with open(_MOUNTS, "rb") as mounts:
        for line in mounts:
            point, kind = line.split(b" ")[1:3]
            point = _ESCAPED.sub(lambda match: bytes([int(match.group(1), 8)]), point)
            inside = path == point or path.startswith(point.rstrip(b"/") + b"/")
            # Of two on one place, the later one is seen.
            if inside and len(point) >= len(found[0]):
                found = (point, kind)
    return found
