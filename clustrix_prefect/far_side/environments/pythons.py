"""Finds the interpreter that calls should run under."""

import ast
import glob
import os
import shutil
import subprocess
import sys
from typing import Dict, Iterator, List, Optional

from ..wire.login import login_environment
from ..wire.protocol import Interpreter, Interpreters

# `sys` is part of the interpreter: no file of the directory that it is started in is read.
_PROBE = "import sys; print(repr(sys.executable)); print(list(sys.version_info[:3]))"
_PROBE_TIMEOUT = 20.0
OLDEST = [3, 6]
NEWEST = [3, 14]


def find(python: Optional[str], prefer: List[int], prologue: str) -> Interpreters:
    """Return the interpreters found, and the one to use.

    Args:
        python: The one asked for by name or path; then no other will do.
        prefer: The minor version that is wanted, as `[3, 11]`.
        prologue: Lines that go before every worker, and may bring an interpreter with them.

    Returns:
        `found`, a list of `{"path", "version"}`, and `chosen`, one of them or None. The search
        ends at the first of the preferred version.
    """
    environment = login_environment(prologue) if prologue else dict(os.environ)
    found: List[Interpreter] = []
    for candidate in [python] if python else _candidates(prefer[:2]):
        path = shutil.which(os.path.expanduser(candidate), path=environment.get("PATH"))
        interpreter = _probe(path, environment) if path else None
        if not interpreter or interpreter["version"] < OLDEST or interpreter in found:
            continue
        found.append(interpreter)
        if interpreter["version"][:2] == prefer[:2]:
            return {"found": found, "chosen": interpreter}
    return {"found": found, "chosen": found[0] if found else None}


def find_all(prologue: str) -> List[Interpreter]:
    """Return every interpreter that there seems to be, the newest first."""
    environment = login_environment(prologue) if prologue else dict(os.environ)
    paths = environment.get("PATH")
    # By the file that they lead to: python3 is often a link to python3.11.
    found: Dict[str, Interpreter] = {}
    for minor in range(NEWEST[1], OLDEST[1] - 1, -1):
        for candidate in _candidates([3, minor]):
            path = shutil.which(os.path.expanduser(candidate), path=paths)
            real = os.path.realpath(path) if path else ""
            interpreter = _probe(path, environment) if path and real not in found else None
            if interpreter and interpreter["version"] >= OLDEST:
                found[real] = interpreter
    return sorted(found.values(), key=lambda one: one["version"], reverse=True)


def _candidates(version: List[int]) -> Iterator[str]:
    name = "python{}.{}".format(*version)
    yield name
    yield from ("/usr/bin/" + name, "/usr/local/bin/" + name)
    pattern = "~/.pyenv/versions/{}.{}.*/bin/{}".format(version[0], version[1], name)
    yield from sorted(glob.glob(os.path.expanduser(pattern)), reverse=True)
    yield sys.executable
    yield "python3"


def _probe(path: str, environment: Dict[str, str]) -> Optional[Interpreter]:
    """Return what an interpreter says of itself; None if it is none."""
    try:
        output = subprocess.check_output(
            [path, "-c", _PROBE],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=_PROBE_TIMEOUT,
            env=environment,
        )
        executable, version = map(ast.literal_eval, output.decode("utf-8").splitlines()[-2:])
    except (OSError, ValueError, SyntaxError, subprocess.SubprocessError):
        return None
    return {"path": executable, "version": version}
