"""Starts the far side's program through a login shell that may do anything.

One command line goes to the shell, in a form that sh, bash, zsh, csh and fish all take: a
single quoted script without newlines, exclamation marks, double backslashes or anything else
that csh or fish read inside quotes. The script finds a Python and runs a loader, which prints a
marker; whatever came before the marker was the login's own. Only then is the program sent.
"""

from __future__ import annotations

import hashlib
import json
import re
import secrets
import shlex
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from functools import cache
from importlib import resources
from importlib.abc import Traversable

from clustrix_prefect.connections.connection import Channel
from clustrix_prefect.errors import ConnectionLost, LoginInterrupted
from clustrix_prefect.far_side.wire.layout import WORK_DIR

CANDIDATES = (
    "python3",
    "/usr/libexec/platform-python",
    *(f"python3.{minor}" for minor in range(13, 5, -1)),
)
# More than this before the marker is not a banner.
_MAX_NOISE = 1024 * 1024
_SHOWN_NOISE = 2000
# What sshd says (do_pwchange in its session.c), whatever the login was made with.
_MUST_CHANGE = re.compile(r"password has expired|Password change required", re.IGNORECASE)

# What the interpreter runs; no module comes from the directory that it happens to be in, where
# others may write. It prints the marker with "known" if an earlier agent left the very
# program in the work directory, and else with "ready": then the program follows on its standard
# input.
_LOADER = """
import sys
sys.path[:] = [path for path in sys.path if path]
import hashlib, json, os, stat, zlib
mark, size, name, directory = sys.argv[1], int(sys.argv[2]), sys.argv[4], sys.argv[5]
directory = os.path.expandvars(os.path.expanduser(bytes.fromhex(directory).decode()))
PACKED = b""
try:
    program = os.path.join(directory, "far_side", name[:16], "program")
    if stat.S_ISREG(os.lstat(program).st_mode):
        with open(os.open(program, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW), "rb") as file:
            PACKED = file.read(size + 1)
except OSError:
    pass
known = hashlib.sha256(PACKED).hexdigest() == name
os.write(1, ("\\n<%s> %s\\n" % (mark, "known" if known else "ready")).encode())
if not known:
    PACKED = b""
while len(PACKED) < size:
    more = os.read(0, size - len(PACKED))
    if not more:
        sys.exit("the program did not arrive")
    PACKED += more
MODULES = json.loads(zlib.decompress(PACKED).decode())["modules"]
exec(compile(MODULES["agent.loader"], "<clustrix_far_side.agent.loader>", "exec"))
"""

# $0 this script, $1 python or "", $2 prologue in octal, $3 what a login shell does, $4 "" or
# "login", then the loader, the marker and the loader's other arguments. `attempt` replaces this
# process if it can. The first attempts need no login shell, which may take seconds; a Python
# that only modules or the profile bring needs one.
_SCRIPT = """
attempt() {
    python=$1; shift;
    tried="$tried $python";
    command -v "$python" >/dev/null 2>&1 || return 0;
    "$python" -c "import sys; sys.exit(sys.version_info < (3, 6))" </dev/null >/dev/null 2>&1
        && exec "$python" -u -c "$@";
    return 0;
};
wanted=$1 prologue=$2 after=$3 login=$4 mark=$6;
shift 4;
if [ -n "$wanted" ]; then attempt "$wanted" "$@"; fi;
for candidate in CANDIDATES; do attempt "$candidate" "$@"; done;
if [ -z "$login" ] && command -v bash >/dev/null 2>&1; then
    exec bash -l -c "$after" "$0" "$wanted" "$prologue" "$after" login "$@";
fi;
printf "\\n<%s> none%s\\n" "$mark" "$tried";
exit 127
"""
_AFTER_LOGIN = 'eval "$(printf %b "$2")" </dev/null; eval "$0"'


def _one_line(script: str) -> str:
    return " ".join(line.strip() for line in script.strip().splitlines())


def command_line(
    marker: str,
    program: bytes,
    *,
    silence: float = 30.0,
    python: str | None = None,
    prologue: Sequence[str] = (),
    work_dir: str | None = None,
) -> str:
    """Return the command that starts the loader.

    Args:
        marker: What the loader prints first.
        program: What it will run.
        silence: Seconds without a word after which the agent ends.
        python: The interpreter to try first.
        prologue: Lines for a login shell, should there be no interpreter before.
        work_dir: Where an earlier agent may have left the program.
    """
    script = _one_line(_SCRIPT.replace("CANDIDATES", " ".join(CANDIDATES)))
    # In hexadecimal, since fish reads two backslashes in single quotes as one.
    loader = f'exec(bytes.fromhex("{_LOADER.strip().encode().hex()}").decode())'
    arguments = (
        script,
        python or "",
        _octal("\n".join(prologue)),
        _AFTER_LOGIN,
        "",
        loader,
        marker,
        str(len(program)),
        f"{silence:g}",
        hashlib.sha256(program).hexdigest(),
        (work_dir or WORK_DIR).encode().hex(),
    )
    quoted = " ".join(shlex.quote(argument) for argument in arguments)
    return f"exec sh -c 'eval \"$0\"' {quoted}"


def _octal(text: str) -> str:
    """Return the text for `printf %b`, in characters that no shell reads anything into."""
    return "".join(
        chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\0{byte:03o}"
        for byte in text.encode()
    )


@cache
def packed_program() -> bytes:
    """Return the far side's sources, and the cloudpickle that goes with them, compressed."""
    far_side = resources.files("clustrix_prefect.far_side")
    vendor = resources.files("cloudpickle")
    program = {
        "modules": dict(_modules(far_side, "")),
        "vendor": {
            f"cloudpickle/{source.name}": source.read_text("utf-8")
            for source in vendor.iterdir()
            if source.name.endswith(".py")
        },
    }
    return zlib.compress(json.dumps(program, sort_keys=True).encode(), 9)


def _modules(directory: Traversable, room: str) -> Iterator[tuple[str, str]]:
    """Yield each module in a directory of sources: its name within the package, and its source."""
    for entry in directory.iterdir():
        if entry.is_dir() and entry.joinpath("__init__.py").is_file():
            yield from _modules(entry, f"{room}{entry.name}.")
        elif entry.name.endswith(".py"):
            yield room + entry.name.removesuffix(".py"), entry.read_text("utf-8")


def new_marker() -> str:
    """Return a word that no banner contains."""
    return secrets.token_hex(12)


def await_loader(channel: Channel, marker: str, where: str, timeout: float) -> tuple[bool, bytes]:
    """Read until the loader's marker.

    Returns:
        Whether the loader has the program, and what came after the marker already.

    Raises:
        LoginInterrupted: The login ended, hung or has no Python.
        ConnectionLost: There was no login.
    """
    found = re.compile(rb"<" + marker.encode() + rb"> (known|ready|none)([^\n]*)\n")
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
            try:
                data = channel.read(65536)
            except ConnectionLost:  # the channel itself knows why
                raise
            except OSError:  # closed: said below
                data = b""
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
            status=127,
        )
    return match[1] == b"known", noise[match.end() :]


def _interrupted(
    channel: Channel, noise: bytes, where: str, timeout: float | None
) -> LoginInterrupted:
    if timeout is None:
        for _ in range(20):  # the exit status and the last words may still be on their way
            if channel.exit_status() is not None:
                break
            time.sleep(0.05)
    status = channel.exit_status()
    if _MUST_CHANGE.search(channel.stderr_tail()):
        return LoginInterrupted(
            f"The password of {where} has expired, and nothing starts there before it is changed.",
            "Log in with `ssh` and change it; if the block has it, put the new one there.",
            status=status,
        )
    what = (
        f"The login shell on {where} did not start our program within {timeout:g} s."
        if timeout is not None
        else f"The login shell on {where} ended before our program started"
        + (f" (exit status {status})." if status is not None else ".")
    )
    return LoginInterrupted(
        what + _met(noise, channel.stderr_tail()),
        "Look at what .bashrc, .profile or .cshrc do in a shell that is not interactive; if the "
        "host lets no program start (ForceCommand of its sshd), ask its administrators.",
        status=status,
    )


def _met(noise: bytes, stderr: str) -> str:
    """Return what the login printed, for an error message."""
    printed = noise.decode("utf-8", "replace").strip()[-_SHOWN_NOISE:]
    said = [f'It printed "{printed}".'] if printed else []
    if stderr.strip():
        said.append(f'Its standard error ended with "{stderr.strip()[-_SHOWN_NOISE:]}".')
    return " " + " ".join(said) if said else ""
