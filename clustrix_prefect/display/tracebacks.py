"""Tracebacks as people need them: their own lines, without the machinery between those."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from traceback import FrameSummary, StackSummary, TracebackException

from clustrix_prefect.errors import ClustrixError, RemoteTraceback

# What a person who writes flows did not write, and does not look into.
_MACHINERY = (
    "clustrix_prefect",
    "prefect",
    "pydantic",
    "httpx",
    "httpcore",
    "anyio",
    "cloudpickle",
)


def _directory_of(package: str) -> str:
    spec = find_spec(package)
    where = spec.origin if spec else None
    return os.path.dirname(where) + os.sep if where else ""


_DIRECTORIES = tuple(filter(None, map(_directory_of, _MACHINERY)))
_STANDARD_LIBRARY = sysconfig.get_path("stdlib") + os.sep
_PACKAGES = os.path.join(_STANDARD_LIBRARY, "site-packages")


def shortened(error: BaseException) -> str:
    """Return an exception's traceback, as text, without frames of Prefect and of this package.

    What the standard library does for those goes with them. So does an exception in the chain that
    was raised in the machinery alone, or is of this package: what it says to a person is said by
    the one that it led to. Of an exception that is not of this package the innermost frame stays.
    """
    shown = TracebackException.from_exception(error)
    _shorten(error, shown)
    if not shown.stack and isinstance(error.__cause__, RemoteTraceback):
        return error.__cause__.text.rstrip("\n")  # it ends with the exception itself
    return "".join(shown.format()).rstrip("\n")


def is_of_machinery(error: BaseException) -> bool:
    """Whether frames of Prefect or of this package are among an exception's, or it is of ours."""
    if isinstance(error, ClustrixError):
        return True
    frames = TracebackException.from_exception(error, lookup_lines=False).stack
    return any(frame.filename.startswith(_DIRECTORIES) for frame in frames)


def _shorten(error: BaseException, shown: TracebackException) -> None:
    kept = list(_without_machinery(shown.stack))
    innermost = shown.stack[-1:]
    if not isinstance(error, ClustrixError) and innermost and kept[-1:] != innermost:
        kept += innermost
    shown.stack = StackSummary.from_list(kept)
    before, before_shown = _before(error, shown)
    while (
        before is not None
        and before_shown is not None
        and _says_nothing(before, before_shown, error)
    ):
        before, before_shown = _before(before, before_shown)
    if shown.__cause__ is not None:
        shown.__cause__, shown.__suppress_context__ = before_shown, True
    else:
        shown.__context__ = before_shown
    if before is not None and before_shown is not None:
        _shorten(before, before_shown)


def _before(
    error: BaseException, shown: TracebackException
) -> tuple[BaseException | None, TracebackException | None]:
    """The exception that led to one, as it is shown."""
    if shown.__cause__ is not None:
        return error.__cause__, shown.__cause__
    if shown.__context__ is not None and not shown.__suppress_context__:
        return error.__context__, shown.__context__
    return None, None


def _says_nothing(error: BaseException, shown: TracebackException, led_to: BaseException) -> bool:
    if isinstance(error, ClustrixError):
        return isinstance(led_to, ClustrixError)
    return bool(shown.stack) and not any(_without_machinery(shown.stack))


def _without_machinery(frames: StackSummary) -> Iterator[FrameSummary]:
    inside = False
    before: FrameSummary | None = None
    for frame in frames:
        path = frame.filename
        if path.startswith(_DIRECTORIES):
            inside = True
        elif not (inside and _is_standard(path)):
            if inside or before is None or not _is_same_line(frame, before):
                yield frame
            inside, before = False, frame


def _is_same_line(frame: FrameSummary, before: FrameSummary) -> bool:
    """Whether it is that of a comprehension, which is shown already."""
    return (frame.filename, frame.lineno) == (before.filename, before.lineno)


def _is_standard(path: str) -> bool:
    return path.startswith((_STANDARD_LIBRARY, "<frozen ")) and not path.startswith(_PACKAGES)
