"""What `~/.ssh/config` says about a host.

paramiko reads the format except for `Include` and, safely, `Match exec`: those are resolved
here before it sees the text.
"""

from __future__ import annotations

import glob
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import paramiko

from clustrix_prefect.connections.match_exec import expanded, without_exec
from clustrix_prefect.connections.names import checked_host, checked_user
from clustrix_prefect.errors import ConfigurationError

_SYSTEM_FILE = Path("/etc/ssh/ssh_config")
_DEEPEST_INCLUDE = 16  # as OpenSSH
_KEYWORD = re.compile(r"[ \t]*(\w+)(?:[ \t]*=[ \t]*|[ \t]+)(.*?)\s*\Z")


@dataclass(frozen=True)
class HostSettings:
    """The settings for one host that we act on; None where the files say nothing."""

    hostname: str
    port: int | None = None
    user: str | None = None
    identity_files: tuple[Path, ...] = ()
    certificate_file: Path | None = None
    identities_only: bool = False
    identity_agent: str | None = None
    known_hosts: tuple[Path, ...] | None = None
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
    files: Sequence[Path] | None = None,
) -> HostSettings:
    """Look a host up as `ssh` would.

    Args:
        host: The name as the user writes it.
        port: What the user says otherwise, as with `ssh -p`; it wins over the files.
        user: Likewise, as with `ssh -l`.
        files: Read these, the first file's settings winning; by default the user's and
            the system's.

    Raises:
        ConfigurationError: A file cannot be understood.
    """
    checked_host(host)
    if user is not None:
        checked_user(user)
    if files is None:
        files = (Path.home() / ".ssh" / "config", _SYSTEM_FILE)
    lines = [f"Port {port}"] if port else []
    lines += [f"User {user}"] if user else []
    try:
        for file in files:
            lines.append("Host *")
            _append_file(file, host, file.parent, lines, depth=0)
        return _settings(host, paramiko.SSHConfig.from_text("\n".join(lines)).lookup(host))
    except (paramiko.SSHException, ValueError, KeyError, IndexError) as error:
        names = " or ".join(str(file) for file in files)
        raise ConfigurationError(
            f"The SSH configuration for {host} cannot be understood: {error}.",
            f"Correct {names}; `ssh -G {host}` shows what ssh itself reads there.",
        ) from error


def _append_file(file: Path, host: str, base: Path, lines: list[str], depth: int) -> None:
    """Append a file's lines, with what it includes in place, as far as it concerns the host."""
    block = "Host *"
    # At line feeds alone, as OpenSSH: what else ends a line for Python may stand in a comment.
    for text in _read(file, depth).split("\n"):
        line = text.rstrip("\r")
        match = _KEYWORD.match(line)
        keyword, argument = (match[1].lower(), match[2]) if match else ("", "")
        if keyword == "match":
            block = without_exec(line.strip(), lines, host)
            lines.append(block)
        elif keyword == "host":
            block = line
            lines.append(block)
        elif keyword != "include":
            lines.append(line)
        elif _concerns(block, host):
            for included in _included(argument, base):
                _append_file(included, host, base, lines, depth + 1)
                lines.append(block)  # the file may have opened other blocks


def _read(file: Path, depth: int) -> str:
    if depth > _DEEPEST_INCLUDE:
        raise ConfigurationError(
            f"{file} is included too deeply.", "Look for SSH configuration that includes itself."
        )
    try:
        return file.read_bytes().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return ""
    except OSError as error:
        raise ConfigurationError(
            f"{file} cannot be read: {error.strerror}.", "Correct its permissions or remove it."
        ) from error


def _concerns(block: str, host: str) -> bool:
    config = paramiko.SSHConfig.from_text(f"{block}\n  Tag here\n")
    return "tag" in config.lookup(host)


def _included(argument: str, base: Path) -> Iterator[Path]:
    for pattern in shlex.split(argument, comments=True):
        path = base / Path(pattern).expanduser()
        yield from (Path(name) for name in sorted(glob.glob(str(path))))


def _settings(host: str, found: paramiko.SSHConfigDict) -> HostSettings:
    hostname, user = checked_host(found.get("hostname", host)), found.get("user")
    if user is not None:
        checked_user(user)
    known_hosts = found.get("userknownhostsfile")
    timeout = found.get("connecttimeout", "none")
    return HostSettings(
        hostname=hostname,
        port=int(found["port"]) if "port" in found else None,
        user=user,
        identity_files=tuple(_path(name) for name in found.get("identityfile", ())),
        certificate_file=_file(found, "certificatefile", host),
        identities_only=found.get("identitiesonly", "no").lower() == "yes",
        identity_agent=found.get("identityagent"),
        known_hosts=(
            tuple(_path(expanded(name, host, found)) for name in shlex.split(known_hosts))
            if known_hosts
            else None
        ),
        revoked_host_keys=_file(found, "revokedhostkeys", host),
        host_key_alias=found.get("hostkeyalias"),
        proxy_jump=found.get("proxyjump"),
        proxy_command=found.get("proxycommand"),
        connect_timeout=float(timeout) if timeout.lower() != "none" else None,
        preferred_authentications=tuple(
            name.strip() for name in found.get("preferredauthentications", "").split(",") if name
        ),
    )


def _file(found: paramiko.SSHConfigDict, keyword: str, host: str) -> Path | None:
    name = str(found.get(keyword, "none"))
    return None if name.lower() == "none" else _path(expanded(name.strip('"'), host, found))


def _path(name: str) -> Path:
    return Path(name).expanduser()
