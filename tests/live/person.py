"""A person at a terminal, who types what a program asks for."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pty
import select
import signal
import sys
import time
from collections.abc import Mapping, Sequence

from clustrix_prefect.connections.control_master import ControlMaster

# Less than the command line, which loads the block from Prefect.
_WITH_MASTER = """
import json, sys
from pathlib import Path
from clustrix_prefect.connections.control_master import ControlMaster
fields = json.loads(sys.argv[1])
for name in ("key_file", "certificate_file", "known_hosts"):
    fields[name] = fields[name] and Path(fields[name])
master = ControlMaster(**fields)
master.{step}
"""


def process_with(master: ControlMaster, step: str) -> list[str]:
    """The argument vector of another process that does this with a master."""
    fields = json.dumps(dataclasses.asdict(master), default=str)
    return [sys.executable, "-c", _WITH_MASTER.replace("{step}", step), fields]


def log_in(master: ControlMaster, answers: Mapping[str, str]) -> tuple[int, str]:
    """Log in by hand, for an hour; the exit status, and all that was to be seen."""
    return at_a_terminal(process_with(master, "open_by_hand(3600)"), answers)


def at_a_terminal(
    argv: Sequence[str],
    answers: Mapping[str, str],
    *,
    environment: Mapping[str, str] | None = None,
    timeout: float = 60.0,
) -> tuple[int, str]:
    """Run a program on a terminal of its own and answer its questions.

    Args:
        argv: The program and its arguments.
        answers: What to type when the program has written this; each as often as it is asked.
        environment: Its environment; by default this process's.
        timeout: Seconds that it may take.

    Returns:
        Its exit status, and all that was to be seen.

    Raises:
        TimeoutError: It has not ended in time.
    """
    pid, terminal = pty.fork()
    if pid == 0:
        try:
            os.execvpe(argv[0], list(argv), dict(environment or os.environ))
        finally:
            os._exit(127)
    seen, answered = "", 0
    deadline = time.monotonic() + timeout
    try:
        while time.monotonic() < deadline:
            if not select.select([terminal], [], [], 0.1)[0]:
                continue
            try:
                data = os.read(terminal, 4096)
            except OSError:  # the last one has closed the terminal
                data = b""
            if not data:
                _, status = os.waitpid(pid, 0)
                return os.waitstatus_to_exitcode(status), seen
            seen += data.decode(errors="replace")
            for question, answer in answers.items():
                if question in seen[answered:]:
                    answered = len(seen)
                    os.write(terminal, f"{answer}\n".encode())
        raise TimeoutError(f"{argv} has not ended; it wrote {seen!r}")
    finally:
        os.close(terminal)
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            if os.waitpid(pid, os.WNOHANG) == (0, 0):
                os.kill(pid, signal.SIGKILL)
                os.waitpid(pid, 0)
