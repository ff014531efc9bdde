"""The environment that a person has after logging in.

A program started over a connection gets less: `/etc/profile` and what it adds to the PATH,
the `module` function among it, belong to login shells.
"""

import os
import shlex
import shutil
import subprocess
import threading
import uuid
from typing import Dict, List

LOGIN_TIMEOUT = 60.0

_known: Dict[str, Dict[str, str]] = {}
_lock = threading.Lock()


def shell() -> str:
    """Return the shell that runs prologues."""
    return shutil.which("bash") or "/bin/sh"


def login_environment(prologue: str = "") -> Dict[str, str]:
    """Return the variables that a login shell has after these lines; asked for once."""
    with _lock:
        if prologue not in _known:
            _known[prologue] = _ask_for_environment(prologue)
        return dict(_known[prologue])


def _ask_for_environment(prologue: str) -> Dict[str, str]:
    # What the login and the lines print comes before the marker.
    marker = uuid.uuid4().hex
    script = 'eval "$0" </dev/null; printf "%s\\0" "$1"; exec env -0'
    try:
        output = subprocess.check_output(
            [shell(), "-l", "-c", script, prologue, marker],
            stdin=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=LOGIN_TIMEOUT,
        )
    except (OSError, subprocess.SubprocessError):
        return dict(os.environ)
    _, found, variables = output.decode("utf-8", "surrogateescape").partition(marker + "\0")
    if not found:
        return dict(os.environ)
    pairs = (variable.partition("=") for variable in variables.split("\0") if "=" in variable)
    return {name: value for name, _, value in pairs}


def after_prologue(
    argv: List[str], prologue: str, environment: Dict[str, str]
) -> "tuple[List[str], Dict[str, str]]":
    """Return the command and variables that run `argv` after these lines.

    The variables in `environment` have the last word. They are handed to the shell as lines
    in a variable: a command line can be read by everybody on the host.
    """
    if not prologue:
        return argv, dict(os.environ, **environment)
    exports = "\n".join(
        "export {}={}".format(name, shlex.quote(value)) for name, value in environment.items()
    )
    script = 'eval "$0" </dev/null; eval "$CLUSTRIX_EXPORTS"; unset CLUSTRIX_EXPORTS; exec "$@"'
    command = [shell(), "-l", "-c", script, prologue] + argv
    return command, dict(os.environ, CLUSTRIX_EXPORTS=exports)
