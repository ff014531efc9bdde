"""A program that stays in the foreground while we need it."""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from tests.live.rundir import MARK

_FIRST_PORT, _PORTS = 15_000, 15_000


class ServiceUnavailable(Exception):
    """A service cannot be started here; the text says why."""


class Daemon:
    """One program of a service.

    It is asked to end when the test run dies, however it dies.

    Args:
        command: Its argument vector; it must not put itself into the background.
        log: Where its output goes.
        environment: All of its environment.
        ready: Whether it does its work yet.
        patience: Seconds until it must be ready.
        name: What messages call it, if not by the command's first word.
    """

    def __init__(
        self,
        command: Sequence[str],
        log: Path,
        environment: Mapping[str, str],
        ready: Callable[[], bool],
        patience: float = 60.0,
        name: str | None = None,
    ) -> None:
        # util-linux's setpriv; where it is missing (macOS) a killed run leaves the program behind.
        setpriv = shutil.which("setpriv")
        self._command = [*([setpriv, "--pdeathsig", "TERM"] if setpriv else []), *command]
        self._name = name or Path(command[0]).name
        self._log = log
        # It belongs to the test run (tests/live/rundir.py), whatever else it is told.
        self._environment = {**environment, MARK: os.environ.get(MARK, "")}
        self._ready = ready
        self._patience = patience
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def pid(self) -> int | None:
        """The running program's process id."""
        return self._process.pid if self._process and self._process.poll() is None else None

    def start(self) -> None:
        """Start it and wait until it is ready.

        Raises:
            ServiceUnavailable: It ended, or was not ready in time; with the end of its log.
            RuntimeError: It runs already; a second one would be taken for it, and end at once.
        """
        if self.pid is not None:
            raise RuntimeError(f"{self._name} runs already")
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self._environment,
                start_new_session=True,
            )
        deadline = time.monotonic() + self._patience
        while not self._ready():
            if self._process.poll() is not None:
                raise ServiceUnavailable(
                    f"{self._name} ended with status {self._process.returncode}:\n{self._tail()}"
                )
            if time.monotonic() > deadline:
                self.stop()
                raise ServiceUnavailable(
                    f"{self._name} was not ready after {self._patience:.0f} s:\n{self._tail()}"
                )
            time.sleep(0.05)

    def stop(self) -> None:
        """End it: politely first, then not."""
        process, self._process = self._process, None
        if process is None:
            return
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()

    def _tail(self) -> str:
        return "\n".join(self._log.read_text(errors="replace").splitlines()[-15:])


def free_port() -> int:
    """A port on the loopback interface that nothing listens on.

    Of those that the kernel gives to no outgoing connection: a service may be stopped for a while
    and start again.
    """
    while True:
        port = _FIRST_PORT + secrets.randbelow(_PORTS)
        with socket.socket() as listener, contextlib.suppress(OSError):
            listener.bind(("127.0.0.1", port))
            return port


def listens(port: int, address: str = "127.0.0.1") -> bool:
    """Whether something accepts connections on this port."""
    with socket.socket() as client:
        client.settimeout(1)
        return client.connect_ex((address, port)) == 0


def wait_until(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition.

    Raises:
        TimeoutError: It did not become true.
    """
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("waited in vain")
        time.sleep(0.05)
