"""Catches what a call logs and prints, and undoes what it did to the process."""

import builtins
import io
import os
import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, Optional

    from ..standins.log_capture import LogLine


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


def _printer(original: "Callable[..., None]") -> "Callable[..., None]":
    """Return a `print` whose output is logged, as Prefect's `log_prints` does."""

    def print_as_log(*args: "Any", **kwargs: "Any") -> None:
        if kwargs.get("file") not in (None, sys.stdout, sys.stderr):
            original(*args, **kwargs)
            return
        import logging  # noqa: F401  # what is captured begins with that

        from ..standins.log_capture import run_logger

        text = io.StringIO()
        kwargs.update(file=text, flush=False)
        original(*args, **kwargs)
        run_logger().info("%s", text.getvalue().rstrip())

    return print_as_log


class WhenImported:
    """Acts as soon as a module has been imported, without importing it.

    Args:
        name: The module's name.
        action: What to do.
    """

    def __init__(self, name: str, action: "Callable[[], None]") -> None:
        self._name = name
        self._action = action

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name != self._name:
            return None
        self.forget()
        for finder in sys.meta_path:
            spec = finder.find_spec(name, path, target)
            if spec is not None:
                self._wrap(spec.loader)
                return spec
        return None

    def _wrap(self, loader: "Any") -> None:
        execute = loader.exec_module

        def execute_and_act(module: "Any") -> None:
            execute(module)
            self._action()

        loader.exec_module = execute_and_act

    def watch(self) -> None:
        sys.meta_path.insert(0, self)

    def forget(self) -> None:
        if self in sys.meta_path:
            sys.meta_path.remove(self)


class Capture:
    """A context in which a call's lines go to `send`.

    Most calls log nothing, and a job starts an interpreter for each: what only logging needs
    is imported when the call imports `logging`, or prints.

    Args:
        context: The call's context: `log_level` and `log_prints`.
        send: Takes each line.
    """

    def __init__(self, context: "Dict[str, Any]", send: "Callable[[LogLine], None]") -> None:
        self._context = context
        self._send = send
        self._logging = None  # type: Any
        self._import = WhenImported("logging", self._capture_logging)

    def __enter__(self) -> "Capture":
        self._print = builtins.print
        if self._context.get("log_prints"):
            builtins.print = _printer(self._print)
        if "logging" in sys.modules:
            self._capture_logging()
        else:
            self._import.watch()
        return self

    def _capture_logging(self) -> None:
        from ..standins.log_capture import CapturedLogging

        self._logging = CapturedLogging(self._context.get("log_level"), self._send)

    def __exit__(self, *error: "Any") -> None:
        self._import.forget()
        builtins.print = self._print
        if self._logging is not None:
            self._logging.end()


class Surroundings:
    """What a process has, to be put back: variables, directory, module path, standard output."""

    def __init__(self) -> None:
        self._streams = [
            (name, number, getattr(sys, name), _duplicate(number))
            for number, name in ((1, "stdout"), (2, "stderr"))
        ]
        self._environment = dict(os.environ)
        # `os.environ` decodes every value to compare it; what it keeps compares at once.
        self._raw = getattr(os.environ, "_data", None)
        self._raw_before = dict(self._raw) if self._raw is not None else None
        self._directory = os.getcwd()
        self._path = list(sys.path)

    def restore_output(self) -> None:
        """Have standard output and error again, whatever a call did to them."""
        for name, number, stream, copy in self._streams:
            if getattr(sys, name) is not stream or stream is None or stream.closed:
                self._reopen(name, number, copy)

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

    def _reopen(self, name: str, number: int, copy: "Optional[int]") -> None:
        """Have standard output again that a call closed or replaced."""
        before = next(stream for each, _, stream, _ in self._streams if each == name)
        if before is None or copy is None:
            return
        if before.closed:
            os.dup2(copy, number)
            before = io.TextIOWrapper(
                open(number, "wb", closefd=False),  # noqa: SIM115
                encoding="utf-8",
                errors="backslashreplace",
                line_buffering=True,
            )
            self._streams = [
                (each, at, before if each == name else stream, kept)
                for each, at, stream, kept in self._streams
            ]
        setattr(sys, name, before)


def _duplicate(descriptor: int) -> "Optional[int]":
    try:
        return os.dup(descriptor)
    except OSError:
        return None


def leave_child(trace: "Dict[str, Any]") -> None:
    """End a child that the call forked and that came back here: the result is its parent's."""
    flush_output()
    if os.getpid() != trace["pid"]:
        os._exit(1)
