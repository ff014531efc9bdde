"""Commands that stand in for OpenPBS's: no PBS server is packaged for this machine."""

from __future__ import annotations

import fcntl
import json
import shutil
from pathlib import Path
from typing import Any

from tests.live.rundir import RunDirectory

SLOTS = 8


class OpenPBS:
    """qsub, qstat, qselect, qdel, qrerun and qmgr over a queue in a directory, run by the account.

    Attributes:
        programs: The directory with the commands.
    """

    def __init__(self, run: RunDirectory, python: str) -> None:
        self._directory = run.child("openpbs")
        self._python = python
        self.programs = self._directory / "bin"

    def start(self) -> None:
        """Make the commands and an empty queue."""
        (self._directory / "jobs").mkdir()
        self.programs.mkdir()
        program = self._directory / "standin.py"
        shutil.copy(Path(__file__).with_name("openpbs_standin.py"), program)
        for name in ("qsub", "qstat", "qselect", "qdel", "qrerun", "qmgr"):
            command = self.programs / name
            command.write_text(f'#!/bin/sh\nexec {self._python} {program} {name} "$@"\n')
            command.chmod(0o755)
        self.write(next=1000, jobs={}, slots=SLOTS, most=500, history=True)
        for name in ("", "jobs", "lock"):
            (self._directory / name).chmod(0o777)

    def stop(self) -> None:
        """Nothing runs but what the account runs."""

    def __str__(self) -> str:
        return f"stand-in for OpenPBS in {self.programs}"

    @property
    def login(self) -> str:
        """Lines of a .bashrc that put these commands first."""
        return f'export PATH="{self.programs}:$PATH"\nexport OPENPBS_STANDIN="{self._directory}"\n'

    def read(self) -> dict[str, Any]:
        """The server's state."""
        state: dict[str, Any] = json.loads((self._directory / "state.json").read_text())
        return state

    def write(self, **changes: Any) -> None:
        """Change the server's state."""
        path = self._directory / "state.json"
        with (self._directory / "lock").open("a") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            state = json.loads(path.read_text()) if path.exists() else {}
            changed = path.with_name("changed.json")
            changed.write_text(json.dumps({**state, **changes}))
            changed.chmod(0o777)
            changed.rename(path)

    def queue(self) -> list[str]:
        """The ids of jobs and elements that have not ended."""
        return [id for id, job in self.read()["jobs"].items() if job["state"] in "QRHB"]
