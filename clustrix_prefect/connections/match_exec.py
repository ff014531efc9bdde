"""`Match exec` of `~/.ssh/config`: blocks that count if a command succeeds.

paramiko would run such a command with this process's standard input, and read from it.
"""

from __future__ import annotations

import getpass
import re
import shlex
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

import paramiko

from clustrix_prefect.connections.names import checked_host, checked_user

_MATCH_NOTHING = "Host !*"


def without_exec(line: str, before: Sequence[str], host: str) -> str:
    """Return a `Match` line with its commands run, and what they decide in their place.

    Args:
        line: The line, from its keyword on.
        before: The lines before it.
        host: The host that is looked up.
    """
    words = shlex.split(line.replace("=", " ", 1) if "=" in line.split()[0] else line)[1:]
    if not any(word.lstrip("!") == "exec" for word in words):
        return line
    criteria: list[str] = []
    commands: list[tuple[bool, str]] = []
    while words:
        word = words.pop(0)
        if word.lstrip("!") == "exec":
            commands.append((not word.startswith("!"), words.pop(0) if words else "false"))
        else:
            criteria.append(word)
    rest = "Match " + (shlex.join(criteria) if criteria else "all")
    found = paramiko.SSHConfig.from_text("\n".join([*before, rest, "Tag here"])).lookup(host)
    # As in OpenSSH, a command is not run for a block that does not match anyway.
    if "tag" not in found:
        return _MATCH_NOTHING
    for wanted, command in commands:
        done = subprocess.run(  # noqa: S602 (a shell line by definition, the user's own)
            expanded(command, host, found),
            shell=True,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        if (done.returncode == 0) is not wanted:
            return _MATCH_NOTHING
    return rest


def expanded(text: str, host: str, found: paramiko.SSHConfigDict) -> str:
    """Return a command, or the name of a file, with OpenSSH's tokens filled in.

    Raises:
        ConfigurationError: The host or user is none that a command may see.
    """
    user = getpass.getuser()
    tokens = {
        "%%": "%",
        "%d": str(Path.home()),
        "%h": checked_host(found.get("hostname", host)),
        "%L": socket.gethostname().partition(".")[0],
        "%l": socket.gethostname(),
        "%n": checked_host(host),
        "%p": str(int(found.get("port", 22))),
        "%r": checked_user(found.get("user", user)),
        "%u": user,
    }
    return re.sub(r"%.", lambda match: tokens.get(match[0], match[0]), text)
