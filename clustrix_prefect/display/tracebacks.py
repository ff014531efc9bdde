"""Tracebacks as people need them: their own lines, without the machinery between those."""

from __future__ import annotations

import os
import sysconfig
from collections.abc import Iterator
from importlib.util import find_spec
from traceback import FrameSummary, StackSummary, TracebackException
from types import TracebackType

import httpx

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
    the one that it led to. The innermost frame stays, except where an exception says all of it: one
    of this package, of a connection, or of a call far away.
    """
    shown = TracebackException.from_exception(error)
    _shorten(error, shown)
    if not shown.stack and isinstance(error.__cause__, RemoteTraceback):
        return error.__cause__.text.rstrip("\n")  # it ends with the exception itself
    return "".join(shown.format()).rstrip("\n")


def mend(error: BaseException) -> None:
    """Take the frames out of an exception that `shortened` leaves out, for whoever shows it.

    The exceptions that led to it are mended as well, or left out of its chain.
    """
    while True:
        shown = TracebackException.from_exception(error)
        shown.stack = StackSummary.from_list(_kept(error, shown))
        before, _ = _shortened_before(error, shown)
        error.__traceback__ = _only(error.__traceback__, shown.stack)
        if error.__cause__ is not None:
            error.__cause__ = before
        elif before is not error.__context__:
            error.__context__ = before
        if before is None:
            return
        error = before


def _only(frames: TracebackType | None, kept: StackSummary) -> TracebackType | None:
    """Return those of an exception's frames that were kept, in a chain of their own."""
    wanted = [(each.filename, each.lineno, each.name) for each in kept]
    found: list[TracebackType] = []
    while frames is not None:
        code = frames.tb_frame.f_code
        if wanted and wanted[0] == (code.co_filename, frames.tb_lineno, code.co_name):
            found.append(frames)
            del wanted[0]
        frames = frames.tb_next
    chain: TracebackType | None = None
    for each in reversed(found):
        chain = TracebackType(chain, each.tb_frame, each.tb_lasti, each.tb_lineno)
    return chain


def is_of_machinery(error: BaseException) -> bool:
    """Whether frames of Prefect or of this package are among an exception's, or it is of ours."""
    if isinstance(error, ClustrixError):
        return True
    frames = TracebackException.from_exception(error, lookup_lines=False).stack
    return any(frame.filename.startswith(_DIRECTORIES) for frame in frames)


def _shorten(error: BaseException, shown: TracebackException) -> None:
    shown.stack = StackSummary.from_list(_kept(error, shown))
    before, before_shown = _shortened_before(error, shown)
    if shown.__cause__ is not None:
        shown.__cause__, shown.__suppress_context__ = before_shown, True
    else:
        shown.__context__ = before_shown
    if before is not None and before_shown is not None:
        _shorten(before, before_shown)


def _kept(error: BaseException, shown: TracebackException) -> list[FrameSummary]:
    kept = list(_without_machinery(shown.stack))
    innermost = shown.stack[-1:]
    says_it_itself = isinstance(error, (ClustrixError, httpx.TransportError))
    if isinstance(error.__cause__, RemoteTraceback) or says_it_itself:
        return kept
    if innermost and kept[-1:] != innermost:
        kept += innermost
    return kept


def _shortened_before(
    error: BaseException, shown: TracebackException
) -> tuple[BaseException | None, TracebackException | None]:
    """Return the first of the exceptions that led to one that says something to a person."""
    before, before_shown = _before(error, shown)
    while (
        before is not None
        and before_shown is not None
        and _says_nothing(before, before_shown, error)
    ):
        before, before_shown = _before(before, before_shown)
    return before, before_shown


def _before(
    error: BaseException, shown: TracebackException
) -> tuple[BaseException | None, TracebackException | None]:
    """Return the exception that led to one, as it is shown."""
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
    """Return whether it is that of a comprehension, which is shown already."""
    return (frame.filename, frame.lineno) == (before.filename, before.lineno)


def _is_standard(path: str) -> bool:
    return path.startswith((_STANDARD_LIBRARY, "<frozen ")) and not path.startswith(_PACKAGES)
