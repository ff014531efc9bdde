"""What the agent could not do, in a form that the client can tell apart."""

import errno
from typing import Dict

_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)
_NOT_WRITABLE = (errno.EACCES, errno.EPERM, errno.EROFS)


class Failure(Exception):
    """Something was refused or did not work.

    Args:
        kind: The name by which the client knows it.
        message: What happened, for people.
    """

    def __init__(self, kind: str, message: str) -> None:
        super().__init__(kind, message)
        self.kind = kind
        self.message = message

    def __str__(self) -> str:
        return self.message


def describe(error: BaseException) -> Dict[str, str]:
    """Return an exception as the `error` of a reply."""
    kind = type(error).__name__
    if isinstance(error, Failure):
        kind = error.kind
    elif isinstance(error, OSError) and error.errno in _DISK_FULL:
        kind = "DiskFull"
    elif isinstance(error, OSError) and error.errno in _NOT_WRITABLE:
        kind = "NotWritable"
    return {"type": kind, "message": str(error)}
