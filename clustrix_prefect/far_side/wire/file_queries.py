"""The questions behind the `cluster_*` functions, asked where the files are.

The agent answers them on a cluster, a flow's own process for its own machine, and a task for
the machine it runs on: by the same code, so the answers do not differ.
"""

import os
import stat
from typing import Any, Callable, Dict, List, Tuple

from . import walking as entries
from .walking import Skipped

# An answer: plain values, or a list of names.
Answer = Any


def ask(question: str, arguments: List[bytes], start: bytes) -> Tuple[Answer, List[OSError]]:
    """Ask one of the questions.

    Args:
        question: Its name.
        arguments: Its pattern, if it has one, and the path.
        start: Where relative paths begin.

    Returns:
        The answer, and what stood in the way of a complete one.

    Raises:
        OSError: The path is not there, or cannot be read.
    """
    skipped: List[OSError] = []
    act = _QUESTIONS[question]
    try:
        path = entries.resolve(arguments[-1], start)
        return act(*(arguments[:-1] + [path, skipped.append])), skipped
    except (OSError, ValueError):
        if question in ("exists", "isdir", "isfile"):
            return False, []
        raise


def _ls(path: bytes, skipped: Skipped) -> List[bytes]:
    return sorted(os.listdir(path))


def _stat(path: bytes, skipped: Skipped) -> List[Any]:
    facts = os.stat(path)
    mode = facts.st_mode
    name = os.path.basename(os.path.abspath(path)) or b"/"
    return [
        facts.st_size,
        facts.st_mtime,
        stat.S_ISDIR(mode),
        stat.S_ISREG(mode),
        format(stat.S_IMODE(mode), "03o"),
        name,
    ]


def _exists(path: bytes, skipped: Skipped) -> bool:
    return os.path.exists(path)


def _isdir(path: bytes, skipped: Skipped) -> bool:
    return os.path.isdir(path)


def _isfile(path: bytes, skipped: Skipped) -> bool:
    return os.path.isfile(path)


def _count(pattern: bytes, path: bytes, skipped: Skipped) -> int:
    return len(entries.find(pattern, path, skipped))


_QUESTIONS: Dict[str, Callable[..., Answer]] = {
    "ls": _ls,
    "find": entries.find,
    "glob": entries.glob,
    "stat": _stat,
    "exists": _exists,
    "isdir": _isdir,
    "isfile": _isfile,
    "du": entries.usage,
    "count": _count,
}


def incomplete(skipped: List[OSError], decode: Callable[[bytes], str]) -> str:
    """Return what is said when parts of the answer are missing; "" if none are."""
    if not skipped:
        return ""
    first = skipped[0]
    path = first.filename
    shown = decode(path) if isinstance(path, bytes) else str(path)
    return "{} could not be read and {} left out, the first because of: {}: {!r}".format(
        "1 directory" if len(skipped) == 1 else "{} directories".format(len(skipped)),
        "is" if len(skipped) == 1 else "are",
        first.strerror,
        shown,
    )
