"""Starts the far side's program through a login shell that may do anything.

One command line goes to the shell, in a form that sh, bash, zsh and csh all take: a single
quoted script without newlines, exclamation marks or anything else that csh reads inside
quotes. The script finds a Python and runs a loader, which prints a marker; whatever came
before the marker was the login's own. Only then is the program sent.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import shlex
import threading
import time
import zlib
from collections.abc import Sequence
from functools import cache
from importlib import resources

from clustrix_prefect.connections.connection import Channel
from clustrix_prefect.errors import LoginInterrupted

CANDIDATES = (
    "python3",
    "/usr/libexec/platform-python",
    *(f"python3.{minor}" for minor in range(13, 5, -1)),
)
# More than this before the marker is not a banner.
_MAX_NOISE = 1024 * 1024
_SHOWN_NOISE = 2000

# What the interpreter runs: one line, to be followed by the program on standard input.
_LOADER = """
import json, os, sys, zlib
mark, size = sys.argv[1], int(sys.argv[2])
os.write(1, ("\\n<%s> ready\\n" % mark).encode())
data = b""
while len(data) < size:
    more = os.read(0, size - len(data))
    if more == b"": sys.exit("the program did not arrive")
    data += more
PROGRAM = json.loads(zlib.decompress(data).decode())
exec(compile(PROGRAM["modules"]["loader"], "<clustrix_far_side.loader>", "exec"))
"""

# $0 this script, $1 loader, $2 marker, $3 size, $4 silence, $5 python or "", $6 prologue in
# octal, $7 what a login shell does, $8 "" or "login". `attempt` replaces this process if it
# can. The first attempts need no login shell, which may take seconds; a Python that only
# modules or the profile bring needs one.
_SCRIPT = """
attempt() {
    tried="$tried $1";
    command -v "$1" >/dev/null 2>&1 || return 0;
    "$1" -c "import sys; sys.exit(sys.version_info < (3, 6))" </dev/null >/dev/null 2>&1
        && exec "$1" -u -c "$loader" "$mark" "$size" "$silence";
    return 0;
};
loader=$1 mark=$2 size=$3 silence=$4;
if [ -n "$5" ]; then attempt "$5"; fi;
for candidate in CANDIDATES; do attempt "$candidate"; done;
if [ -z "$8" ] && command -v bash >/dev/null 2>&1; then
    exec bash -l -c "$7" "$0" "$1" "$2" "$3" "$4" "$5" "$6" "$7" login;
fi;
printf "\\n<%s> none%s\\n" "$mark" "$tried";
exit 127
"""
_AFTER_LOGIN = 'eval "$(printf %b "$6")" </dev/null; eval "$0"'


def _one_line(script: str) -> str:
    return " ".join(line.strip() for line in script.strip().splitlines())


def command_line(
    marker: str, size: int, silence: float, python: str | None, prologue: Sequence[str]
) -> str:
    """The command that starts the loader."""
    script = _one_line(_SCRIPT.replace("CANDIDATES", " ".join(CANDIDATES)))
    loader = f"exec({json.dumps(_LOADER.strip())})"
    arguments = (
        script,
        loader,
        marker,
        str(size),
        f"{silence:g}",
        python or "",
        _octal("\n".join(prologue)),
        _AFTER_LOGIN,
        "",
    )
    quoted = " ".join(shlex.quote(argument) for argument in arguments)
    return f"exec sh -c 'eval \"$0\"' {quoted}"


def _octal(text: str) -> str:
    """The text for `printf %b`, in characters that no shell reads anything into."""
    return "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\0{byte:03o}"
        for byte in text.encode()
    )


@cache
def packed_program() -> bytes:
    """The far side's sources, and the cloudpickle that goes with them, compressed."""
    far_side = resources.files("clustrix_prefect.far_side")
    vendor = resources.files("cloudpickle")
    program = {
        "modules": {
            source.name.removesuffix(".py"): source.read_text("utf-8")
            for source in far_side.iterdir()
            if source.name.endswith(".py")
        },
        "vendor": {
            f"cloudpickle/{source.name}": source.read_text("utf-8")
            for source in vendor.iterdir()
            if source.name.endswith(".py")
        },
    }
    return zlib.compress(json.dumps(program, sort_keys=True).encode(), 9)


def new_marker() -> str:
    """A word that no banner contains."""
    return secrets.token_hex(12)


def await_loader(channel: Channel, marker: str, where: str, timeout: float) -> bytes:
    """Read until the loader's marker; what came after it already.

    Raises:
        LoginInterrupted: The login ended, hung or has no Python.
    """
    found = re.compile(rb"<" + marker.encode() + rb"> (ready|none)([^\n]*)\n")
    noise = b""
    expired = threading.Event()

    def expire() -> None:
        expired.set()
        channel.close()

    timer = threading.Timer(timeout, expire)
    timer.daemon = True
    timer.start()
    try:
        while not (match := found.search(noise)):
            data = b""
            with contextlib.suppress(OSError):  # closed: said below
                data = channel.read(65536)
            if not data or len(noise) > _MAX_NOISE:
                raise _interrupted(channel, noise, where, timeout if expired.is_set() else None)
            noise += data
    finally:
        timer.cancel()
    if match[1] == b"none":
        tried = ", ".join(match[2].decode("utf-8", "replace").split())
        raise LoginInterrupted(
            f"No Python 3.6 or newer was found on {where}; tried {tried}, with and without a "
            f"login shell.{_met(noise[: match.start()], channel.stderr_tail())}",
            "Name one in the cluster's `python`, or load one with `modules` or `setup`.",
        )
    return noise[match.end() :]


def _interrupted(
    channel: Channel, noise: bytes, where: str, timeout: float | None
) -> LoginInterrupted:
    if timeout is None:
        for _ in range(20):  # the exit status and the last words may still be on their way
            if channel.exit_status() is not None:
                break
            time.sleep(0.05)
    status = channel.exit_status()
    what = (
        f"The login shell on {where} did not start our program within {timeout:g} s."
        if timeout is not None
        else f"The login shell on {where} ended before our program started"
        + (f" (exit status {status})." if status is not None else ".")
    )
    return LoginInterrupted(
        what + _met(noise, channel.stderr_tail()),
        "Look at what .bashrc, .profile or .cshrc do in a shell that is not interactive.",
    )


def _met(noise: bytes, stderr: str) -> str:
    """What the login printed, for an error message."""
    printed = noise.decode("utf-8", "replace").strip()[-_SHOWN_NOISE:]
    said = [f'It printed "{printed}".'] if printed else []
    if stderr.strip():
        said.append(f'Its standard error ended with "{stderr.strip()[-_SHOWN_NOISE:]}".')
    return " " + " ".join(said) if said else ""
