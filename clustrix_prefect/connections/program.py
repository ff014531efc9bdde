"""Programs on this machine: run to their end, or as a channel."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence

from clustrix_prefect.connections.tail import LAST_WORDS_SECONDS, Tail


def run_to_end(
    argv: Sequence[str], seconds: float, environment: Mapping[str, str] | None = None
) -> tuple[int, bytes, bytes]:
    """Run a program without a terminal.

    Args:
        argv: The program and its arguments.
        seconds: How long it may take.
        environment: Its environment; by default this process's.

    Returns:
        Its exit status, and what it wrote to its standard output and error.

    Raises:
        subprocess.TimeoutExpired: It took longer, and was killed with all that it started.
    """
    # Not pipes: what it leaves running in the background keeps them open.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=errors,
            env=environment,
            start_new_session=True,  # without a terminal
        )
        try:
            status = process.wait(seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise
        output.seek(0)
        errors.seek(0)
        return status, output.read(), errors.read()


class ProgramChannel:
    """A program on this machine, in a session of its own.

    The new session keeps a Ctrl-C at the terminal from reaching it, and it from asking anything
    there: the flow decides what becomes of its calls. Its standard streams are a socket, as under
    sshd: unlike a pipe, a socket can be shut down under a thread that is blocked on it.

    Args:
        argv: The program and its arguments.
        environment: Its environment.
    """

    def __init__(self, argv: Sequence[str], environment: Mapping[str, str]) -> None:
        self._socket, far_end = socket.socketpair()
        with far_end:
            self._process: subprocess.Popen[bytes] = subprocess.Popen(
                argv,
                stdin=far_end.fileno(),
                stdout=far_end.fileno(),
                stderr=subprocess.PIPE,
                env=environment,
                start_new_session=True,
                bufsize=0,
            )
        self._lock = threading.Lock()
        self._in_use = 0
        self._closed = False
        self._tail = Tail()
        self._drain = threading.Thread(
            target=self._drain_stderr, name="clustrix-stderr", daemon=True
        )
        self._drain.start()

    def _drain_stderr(self) -> None:
        """Keep the program from blocking on its standard error, then reap it."""
        stderr = self._process.stderr
        assert stderr is not None
        with stderr:
            while data := stderr.read(4096):
                self._tail.append(data)
        self._process.wait()

    @contextlib.contextmanager
    def _using_socket(self) -> Iterator[None]:
        """Keep the socket's number from being given to another one under a blocked thread."""
        with self._lock:
            if self._closed:
                raise OSError("the channel was closed")
            self._in_use += 1
        try:
            yield
        finally:
            with self._lock:
                self._in_use -= 1
                self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._closed and not self._in_use:
            self._socket.close()

    def read(self, size: int) -> bytes:
        try:
            with self._using_socket():
                return self._socket.recv(size)
        except OSError:  # closed here, or reset by a program that left input unread
            return b""

    def write(self, data: bytes | memoryview) -> None:
        with self._using_socket():
            self._socket.sendall(data)

    def stderr_tail(self) -> str:
        if self._process.poll() is not None:
            self._drain.join(LAST_WORDS_SECONDS)
        return self._tail.text()

    def exit_status(self) -> int | None:
        return self._process.poll()

    def close(self) -> None:
        with self._lock:
            if self._closed:
                return
            self._closed = True
            with contextlib.suppress(OSError):  # the program has gone already
                self._socket.shutdown(socket.SHUT_RDWR)
            self._close_if_unused()
