"""Runs the commands of a scheduler, and asks for the state of jobs now and then."""

import os
import shutil
import signal
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List, Optional, Tuple

from ..wire.login import login_environment
from ..wire.protocol import Ended

COMMAND_TIMEOUT = 60.0


def run(
    argv: List[str],
    timeout: Optional[float] = None,
    cwd: Optional[str] = None,
    prologue: str = "",
) -> Ended:
    """Run a command without a shell; `returncode`, `stdout` and `stderr`.

    A command that is not on the agent's PATH is looked for in the environment of a login
    shell: sites add their scheduler's commands there. One that is nowhere, or takes too long,
    ends as a shell would say: 127 or 124. Lines for a shell, `sh -c LINES NAME ...`, run where
    the program NAME is found, which is the `$0` that they are given.
    """
    # In `env NAME=value program ...` it is the program that may be missing.
    program = next((word for word in argv if word != "env" and "=" not in word), argv[0])
    if argv[:2] == ["sh", "-c"]:
        program = argv[3] if len(argv) > 3 else "sh"
    environment = dict(os.environ)
    if shutil.which(program) is None:
        environment = login_environment(prologue)
    command = shutil.which(argv[0], path=environment.get("PATH"))
    if command is None:
        return _failed(127, "{}: command not found".format(argv[0]))
    try:
        process = subprocess.Popen(
            [command] + argv[1:],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            cwd=cwd,
            env=environment,
            start_new_session=True,
        )
    except OSError as error:
        return _failed(126, "{}: {}".format(argv[0], error))
    try:
        stdout, stderr = process.communicate(timeout=timeout or COMMAND_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        stdout, stderr = _said_so_far(process)
        text = "{}: no answer within {:g} s".format(argv[0], timeout or COMMAND_TIMEOUT)
        return _answer(124, stdout, stderr + text.encode("utf-8"))
    return _answer(process.returncode, stdout, stderr)


def _said_so_far(process: "subprocess.Popen[bytes]") -> Tuple[bytes, bytes]:
    """What a killed command had written, unless somebody else holds its output open."""
    try:
        return process.communicate(timeout=1.0)
    except subprocess.TimeoutExpired:
        for stream in (process.stdout, process.stderr):
            if stream is not None:
                stream.close()
        return b"", b""


def _answer(returncode: int, stdout: bytes, stderr: bytes) -> Ended:
    return {
        "returncode": returncode,
        "stdout": stdout.decode("utf-8", "replace"),
        "stderr": stderr.decode("utf-8", "replace"),
    }


def _failed(returncode: int, text: str) -> Ended:
    return _answer(returncode, b"", text.encode("utf-8", "replace"))


# A scheduler that is slow to answer is asked less often: this many times as long apart.
_STATUS_SHARE = 10.0


class StatusPoller:
    """Runs one status command for all jobs while there are any.

    Args:
        send: Takes an event when the output has changed.
        needed: Whether any job is unfinished.
    """

    def __init__(self, send: Callable[[Dict[str, Any]], None], needed: Callable[[], bool]) -> None:
        self._send = send
        self._needed = needed
        self._changed = threading.Condition()
        self._command: Optional[List[str]] = None
        self._shortest = self._longest = 0.0
        self._prologue = ""
        self._hurry = False
        self._started = False

    def configure(
        self, command: Optional[List[str]], shortest: float, longest: float, prologue: str
    ) -> None:
        """Poll with this command, or not at all.

        Args:
            command: Its words.
            shortest: Seconds between two looks while something happens.
            longest: Seconds between two looks when nothing does.
            prologue: Lines of a shell after which the command is found.
        """
        with self._changed:
            self._command, self._prologue = command, prologue
            self._shortest, self._longest = shortest, longest
            if command and not self._started:
                self._started = True
                threading.Thread(target=self._poll, name="clustrix-status", daemon=True).start()
        self.wake()

    def wake(self) -> None:
        """Something happened: the next look is due after the shortest interval."""
        with self._changed:
            self._hurry = True
            self._changed.notify_all()

    def _poll(self) -> None:
        interval = took = 0.0
        looked = time.monotonic()
        last: Any = None
        while True:
            with self._changed:
                command = self._command
                if not command or not self._needed():
                    last = None
                    self._hurry = False
                    self._changed.wait()
                    looked = time.monotonic()
                    continue
                shortest, longest = self._shortest, self._longest
                if self._hurry:
                    interval, self._hurry = shortest, False
                due = looked + max(interval, min(_STATUS_SHARE * took, longest))
                if self._changed.wait_for(lambda: self._hurry, max(0.0, due - time.monotonic())):
                    continue  # due earlier, perhaps, but never at once
            looked = time.monotonic()
            outcome = run(command, prologue=self._prologue)
            took = time.monotonic() - looked
            if outcome == last:
                interval = min(interval * 1.5, longest)
                continue
            last, interval = outcome, shortest
            self._send(dict(outcome, event="status"))
