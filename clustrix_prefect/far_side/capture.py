"""Catches what a call logs and prints, and undoes what it did to the process."""

import builtins
import io
import logging
import os
import sys
from typing import Any, Callable, Dict, List

from .standin import TASK_LOGGER

# A longer message is cut: it would hold up everything else on its way.
MAX_MESSAGE = 256 * 1024
LogLine = List[Any]


class LineHandler(logging.Handler):
    """Hands every record on as a `[time, level, logger, message]` line."""

    def __init__(self, send: Callable[[LogLine], None]) -> None:
        super().__init__()
        self._send = send
        self._owner = os.getpid()

    def emit(self, record: logging.LogRecord) -> None:
        # The pipe to the agent belongs to this process; a forked child shares its offset.
        if os.getpid() != self._owner:
            return
        try:
            message = self.format(record)
            if len(message) > MAX_MESSAGE:
                message = message[:MAX_MESSAGE] + " ... (cut)"
            self._send([record.created, record.levelno, record.name, message])
        except Exception:
            self.handleError(record)


def open_output() -> None:
    """Make standard output and error take any text, and pass it on line by line.

    Without a locale, as in a batch job, Python 3.6 takes ASCII only; and what is buffered is
    lost when the process is killed.
    """
    for name in ("stdout", "stderr"):
        stream = getattr(sys, name)
        if stream is not None:
            stream.flush()
            text = io.TextIOWrapper(
                stream.detach(), encoding="utf-8", errors="backslashreplace", line_buffering=True
            )
            setattr(sys, name, text)


def flush_output() -> None:
    """Pass on what is still buffered."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (AttributeError, OSError, ValueError):  # the call closed or replaced it
            pass


def _printer(original: Callable[..., None], stdout: Any) -> Callable[..., None]:
    """A `print` whose output is logged, as Prefect's `log_prints` does."""

    def print_as_log(*args: Any, **kwargs: Any) -> None:
        if kwargs.get("file") not in (None, stdout, sys.stdout):
            original(*args, **kwargs)
            return
        text = io.StringIO()
        kwargs.update(file=text, flush=False)
        original(*args, **kwargs)
        message = text.getvalue()
        logging.getLogger(TASK_LOGGER).info(
            "%s", message[:-1] if message.endswith("\n") else message
        )

    return print_as_log


class Capture:
    """A context in which a call's lines go to `send`.

    Args:
        context: The call's context: `log_level` and `log_prints`.
        send: Takes each line.
    """

    def __init__(self, context: Dict[str, Any], send: Callable[[LogLine], None]) -> None:
        self._context = context
        self._handler = LineHandler(send)

    def __enter__(self) -> "Capture":
        root = logging.getLogger()
        self._root = (root.level, list(root.handlers))
        self._print = builtins.print
        root.addHandler(self._handler)
        root.setLevel(self._context.get("log_level", logging.INFO))
        if self._context.get("log_prints"):
            builtins.print = _printer(self._print, sys.stdout)
        return self

    def __exit__(self, *error: Any) -> None:
        root = logging.getLogger()
        builtins.print = self._print
        root.setLevel(self._root[0])
        root.handlers[:] = self._root[1]


class Surroundings:
    """The environment variables, working directory and module path, to be put back."""

    def __init__(self) -> None:
        self._environment = dict(os.environ)
        # `os.environ` decodes every value to compare it; what it keeps compares at once.
        self._raw = getattr(os.environ, "_data", None)
        self._raw_before = dict(self._raw) if self._raw is not None else None
        self._directory = os.getcwd()
        self._path = list(sys.path)

    def restore(self) -> None:
        """Put back what a call changed."""
        if self._raw is None or self._raw != self._raw_before:
            for name in set(os.environ) - set(self._environment):
                del os.environ[name]
            os.environ.update(self._environment)
        if sys.path != self._path:
            sys.path[:] = self._path
        try:
            if os.getcwd() == self._directory:
                return
        except OSError:  # the call removed the directory it was in
            pass
        os.chdir(self._directory)
