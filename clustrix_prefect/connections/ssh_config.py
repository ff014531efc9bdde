"""What `~/.ssh/config` says about a host: `ssh -G`'s answer, or paramiko's where there is no `ssh`.

paramiko's reader knows neither `Include` nor, safely, `Match exec`: configuration with those is
refused where it would have to do.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import socket
import subprocess
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clustrix_prefect.connections.names import checked_host, checked_user
from clustrix_prefect.connections.program import run_to_end
from clustrix_prefect.errors import ConfigurationError

_SYSTEM_FILE = Path("/etc/ssh/ssh_config")
_ANSWER_SECONDS = 30.0  # `Match exec` runs commands, `CanonicalizeHostname` asks a name server
# `ssh -G` names the files that it would try by itself, unless there is another: this one.
_NO_DEFAULT = "/"
# What paramiko would pass over, or run with this process's standard input.
_NEEDS_SSH = re.compile(r"[ \t]*(include\b|match\b.*\b(exec|localnetwork|tagged)\b)", re.I)

_Found = Mapping[str, Sequence[str]]


@dataclass(frozen=True)
class HostSettings:
    """The settings for one host that we act on; None where the files say nothing.

    Attributes:
        identity_files: Empty if no key file is to be tried, also none that `ssh` tries by itself.
    """

    hostname: str
    port: int
    user: str
    known_hosts: tuple[Path, ...]
    identity_files: tuple[Path, ...] | None = None
    certificate_file: Path | None = None
    identities_only: bool = False
    identity_agent: str | None = None
    revoked_host_keys: Path | None = None
    host_key_alias: str | None = None
    proxy_jump: str | None = None
    proxy_command: str | None = None
    connect_timeout: float | None = None
    preferred_authentications: tuple[str, ...] = ()


def host_settings(
    host: str,
    *,
    port: int | None = None,
    user: str | None = None,
    default_user: str | None = None,
    files: Sequence[Path] | None = None,
) -> HostSettings:
    """Look a host up as `ssh` would.

    Args:
        host: The name as the user writes it.
        port: What the user says otherwise, as with `ssh -p`; it wins over the files.
        user: Likewise, as with `ssh -l`.
        default_user: The account where nothing names one; by default the name of this process's.
        files: Read these, the first file's settings winning; by default the user's and
            the system's.

    Raises:
        ConfigurationError: A file cannot be understood, or `ssh` does not answer.
    """
    from paramiko import SSHException  # the command line, which reads this module, does without

    checked_host(host)
    default_user = checked_user(default_user or getpass.getuser())
    said = [f"Port {port}"] if port else []
    said += [f"User {checked_user(user)}"] if user is not None else []
    default_file = Path.home() / ".ssh" / "known_hosts"
    defaults = [f"User {default_user}", f"UserKnownHostsFile {quoted(default_file)}"]
    if files is None:
        files = (Path.home() / ".ssh" / "config", _SYSTEM_FILE)
    program = shutil.which("ssh")
    try:
        if program is not None:
            return _settings(host, _asked(program, host, said, files, defaults))
        return _settings(host, _read(host, said, files, defaults))
    except (SSHException, ValueError, KeyError, IndexError) as error:
        names = " or ".join(str(file) for file in files)
        raise ConfigurationError(
            f"The SSH configuration for {host} cannot be understood: {error}.",
            f"Correct {names}; `ssh -G {host}` shows what ssh itself reads there.",
        ) from error


def quoted(path: Path) -> str:
    """Return a path as a word of `ssh_config`.

    Raises:
        ConfigurationError: It cannot be written as one.
    """
    text = str(path.expanduser())
    if '"' in text or "\n" in text:
        raise ConfigurationError(
            f"ssh cannot be told of the file {text!r}.", "Give it a path without quotes."
        )
    return '"' + text.replace("%", "%%") + '"'


# --- with ssh -----------------------------------------------------------------------------


def _asked(
    program: str, host: str, said: list[str], files: Sequence[Path], defaults: list[str]
) -> _Found:
    """Return what `ssh -G` answers.

    Raises:
        ConfigurationError: It does not answer.
        ValueError: It does not understand a file.
    """
    # Files are named to `ssh`, which looks in the account's home, whatever $HOME is.
    including = [f"Include {quoted(file)}" for file in files]
    lines = [*said, f"IdentityFile {_NO_DEFAULT}", *including, "Host *", *defaults]
    with tempfile.NamedTemporaryFile(suffix=".conf") as configuration:
        configuration.write(os.fsencode("\n".join(lines) + "\n"))
        configuration.flush()
        text = _answer([program, "-T", "-F", configuration.name, "-G", "--", host], host)
    found: dict[str, list[str]] = {}
    for line in text.split("\n"):
        keyword, _, value = line.partition(" ")
        found.setdefault(keyword.lower(), []).append(value)
    found["identityfile"].remove(_NO_DEFAULT)
    return found


def _answer(argv: list[str], host: str) -> str:
    try:
        status, output, errors = run_to_end(argv, _ANSWER_SECONDS)
    except subprocess.TimeoutExpired:
        raise ConfigurationError(
            f"`ssh -G {host}` did not answer within {_ANSWER_SECONDS:g} s.",
            "See what the `Match exec` of ~/.ssh/config run, and whether names are found "
            "(CanonicalizeHostname).",
        ) from None
    if status:
        said = errors.decode(errors="replace")
        raise ValueError("; ".join(said.split("\n")).strip("; .\r") or "ssh does not say why")
    return os.fsdecode(output)


# --- without it ---------------------------------------------------------------------------


def _read(host: str, said: list[str], files: Sequence[Path], defaults: list[str]) -> _Found:
    """Return what paramiko finds.

    Raises:
        ConfigurationError: A file cannot be read, or asks for more than paramiko can do.
    """
    lines = list(said)
    for file in files:
        lines.append("Host *")
        # At line feeds alone, as OpenSSH: what else ends a line for Python may be in a comment.
        for line in _text(file).split("\n"):
            if _NEEDS_SSH.match(line):
                raise ConfigurationError(
                    f"{file} has a line that only OpenSSH understands: {line.strip()!r}.",
                    "Install OpenSSH's client (`ssh`) where the flow runs, or leave the line out.",
                )
            lines.append(line)
    import paramiko

    text = "\n".join([*lines, "Host *", *defaults])
    return {
        keyword: [value] if isinstance(value, str) else value
        for keyword, value in paramiko.SSHConfig.from_text(text).lookup(host).items()
        if value is not None
    }


def _text(file: Path) -> str:
    try:
        return file.read_bytes().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error.strerror}.", "Correct its permissions or remove it."
        ) from error


# --- either way ---------------------------------------------------------------------------


def _settings(host: str, found: _Found) -> HostSettings:
    hostname = checked_host(found.get("hostname", [host])[0])
    port, user = int(found.get("port", ["22"])[0]), checked_user(found["user"][0])
    tokens = {
        "%%": "%",
        "%d": str(Path.home()),
        "%h": hostname,
        "%L": socket.gethostname().partition(".")[0],
        "%l": socket.gethostname(),
        "%n": host,
        "%p": str(port),
        "%r": user,
        "%u": getpass.getuser(),
    }

    def text(keyword: str) -> str | None:
        value = found.get(keyword, ["none"])[0]
        return None if value.lower() == "none" else filled_in(value)

    def filled_in(value: str) -> str:
        return re.sub(r"%.", lambda match: tokens.get(match[0], match[0]), value)

    def paths(names: Sequence[str]) -> tuple[Path, ...]:
        wanted = (name for name in names if name.lower() != "none")
        return tuple(Path(filled_in(name)).expanduser() for name in wanted)

    known_hosts = found["userknownhostsfile"][0].strip('"')
    timeout, preferred = text("connecttimeout"), text("preferredauthentications") or ""
    return HostSettings(
        hostname=hostname,
        port=port,
        user=user,
        # Both leave quotes out: a word that begins no path belongs to the name before it.
        known_hosts=paths(re.split(r'"? +"?(?=[/~])', known_hosts)),
        identity_files=paths(found["identityfile"]) if found.get("identityfile") else None,
        certificate_file=next(iter(paths(found.get("certificatefile", ()))), None),
        identities_only=text("identitiesonly") == "yes",
        identity_agent=found.get("identityagent", [None])[0],
        revoked_host_keys=next(iter(paths(found.get("revokedhostkeys", ()))), None),
        host_key_alias=text("hostkeyalias"),
        proxy_jump=text("proxyjump"),
        proxy_command=text("proxycommand"),
        connect_timeout=float(timeout) if timeout else None,
        preferred_authentications=tuple(name.strip() for name in preferred.split(",") if name),
    )
