"""One login for everything: a control master of the system's `ssh`, on a socket of ours.

`ssh` itself reads `~/.ssh/config`, so whatever can be said there holds. It is given a
configuration that says first what we insist on, for jump hosts, too, and then includes theirs.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import hashlib
import json
import os
import re
import secrets
import shlex
import shutil
import signal
import stat
import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from clustrix_prefect.connections.askpass import OneAnswer
from clustrix_prefect.connections.host_keys import HostAddress
from clustrix_prefect.connections.names import checked_host, checked_user, jump_host
from clustrix_prefect.connections.program import ProgramChannel, run_to_end
from clustrix_prefect.connections.ssh_config import quoted
from clustrix_prefect.errors import (
    AuthenticationFailed,
    ConfigurationError,
    ConnectionFailed,
    ConnectionLost,
    HostKeyRefused,
    LoginNeeded,
)

# Not in the home, which several machines may share; the path of a socket has about 100 characters.
_DIRECTORY = Path("/tmp")  # noqa: S108 - ours in it is verified
# A master that a person opened ends when nobody has used it for so long, if not told otherwise.
DEFAULT_IDLE_SECONDS = 12 * 3600
# A master that we opened unattended ends when nobody has used it for so long, seconds.
_UNATTENDED_SECONDS = 600
_LOGIN_TIMEOUT = 60.0  # PAM and LDAP can be slow
_ANSWER_SECONDS = 5.0
_CLOSE_SECONDS = 10.0
# What `ssh` ends with where it failed itself.
_OWN_FAILURE = 255
_NOBODY_LET_IN = re.compile(r"Permission denied \(|Too many authentication failures")
_CLOSED = re.compile(r"Connection (closed|reset|timed out)|banner exchange", re.IGNORECASE)
_KEY_REFUSED = re.compile(r"Host key verification failed|IDENTIFICATION HAS CHANGED")

# What a hostile or merely generous configuration must not change, on any hop.
_INSISTED = (
    "StrictHostKeyChecking yes",
    "ClearAllForwardings yes",
    "ForwardAgent no",
    "ForwardX11 no",
    "RemoteCommand none",
    "RequestTTY no",
    "ServerAliveInterval 15",
    "ServerAliveCountMax 4",
)
# OpenSSH's ciphers, the quickest first: its own order begins with the slowest. Not
# "^aes128-gcm@openssh.com", which OpenSSH before 8.1 (RHEL 8 has 8.0) does not read.
_CIPHERS = (
    "aes128-gcm@openssh.com,aes256-gcm@openssh.com,chacha20-poly1305@openssh.com,"
    "aes128-ctr,aes192-ctr,aes256-ctr"
)


class MasterState(enum.Enum):
    """Whether a master can be used."""

    LIVE = "live"
    ABSENT = "absent"
    SILENT = "silent"


@dataclass(frozen=True)
class Opened:
    """When and how a master was opened.

    Attributes:
        at: When, seconds since the epoch.
        idle_seconds: It ends when nobody has used it for so long.
        by_hand: Whether a person logged in.
    """

    at: float
    idle_seconds: int
    by_hand: bool


@dataclass(frozen=True)
class ControlMaster:
    """The master for one host; processes of one account that name the host alike share it.

    Attributes:
        host: Name, address or `Host` alias of `~/.ssh/config`.
        port: Port, or None for what the configuration says.
        username: Account there, or None for what the configuration says.
        key_file: The one key to log in with, or None for what the configuration says.
        certificate_file: The certificate of that key, where it does not lie beside it.
        known_hosts: The known_hosts file, or None for what the configuration says.
        proxy_jump: Jump hosts, "user@host:port" separated by commas; "none" for no jump
            whatever the configuration says.
    """

    host: str
    port: int | None = None
    username: str | None = None
    key_file: Path | None = None
    certificate_file: Path | None = None
    known_hosts: Path | None = None
    proxy_jump: str | None = None

    def __str__(self) -> str:
        user = f"{self.username}@" if self.username else ""
        return f"{user}{self.host}" + (f":{self.port}" if self.port else "")

    # --- looking --------------------------------------------------------------------------

    @property
    def state(self) -> MasterState:
        """Whether there is one that can be used."""
        if not self._socket.exists():
            return MasterState.ABSENT
        try:
            done = self._ask("check")
        except subprocess.TimeoutExpired:
            return MasterState.SILENT
        return MasterState.LIVE if done.returncode == 0 else MasterState.ABSENT

    @property
    def is_live(self) -> bool:
        """Whether there is one that can be used."""
        return self.state is MasterState.LIVE

    @property
    def opened(self) -> Opened | None:
        """When and how it was opened, if that is known."""
        try:
            return Opened(**json.loads(self._record.read_text()))
        except (OSError, ValueError, TypeError):
            return None

    @property
    def shown(self) -> str:
        """How it was opened and until when it lasts, for people."""
        opened = self.opened
        if opened is None:
            return "a login that is open"
        how = "a person" if opened.by_hand else "what ssh has by itself (keys, agent, ticket)"
        until, after = _clock(opened.at + opened.idle_seconds), for_so_long(opened.idle_seconds)
        return (
            f"opened by {how} at {_clock(opened.at)}; lasts until {until}, and for {after} after "
            "its last use"
        )

    # --- opening and closing ----------------------------------------------------------------

    def ensure(self) -> None:
        """See that there is one, logging in if that needs no person.

        Raises:
            LoginNeeded: It needs a person.
            HostKeyRefused: A host on the way is not the one we know, or not known.
            ConnectionFailed: The host cannot be reached.
            ConfigurationError: There is no `ssh`, or its configuration does not do.
        """
        if self._is_usable():
            return
        with self._alone():
            if not self._is_usable():  # nobody else has opened it meanwhile
                self._log_in_unattended()

    def open_by_hand(self, idle_seconds: int) -> None:
        """Log in, with whatever `ssh` asks asked on the terminal; one that is there is replaced.

        Args:
            idle_seconds: It ends when nobody has used it for so long.

        Raises:
            AuthenticationFailed: `ssh` did not log in; it has said why.
            ConfigurationError: There is no `ssh`, or its configuration does not do.
        """
        socket = self._new_socket()
        argv = self._login_argv(socket, idle_seconds)
        # The terminal may be closed: the `ssh` of a jump host, which stays at it, must live on.
        status = subprocess.run(argv, preexec_fn=_ignore_hangups).returncode
        if status or not socket.exists():
            raise AuthenticationFailed(
                f"ssh did not log in at {self} (exit status {status}); it said why above.",
                f"`{shlex.join(['ssh', '-v', *self._target])}` shows what it tries.",
            )
        self._put_in_place(socket, Opened(time.time(), idle_seconds, by_hand=True))

    def open_with_code(self, code: str, idle_seconds: int) -> None:
        """Log in with a one-time code, and with what `ssh` has by itself.

        Args:
            code: The answer to the one question that is about a code.
            idle_seconds: It ends when nobody has used it for so long.

        Raises:
            LoginNeeded: The code does not do, or something else is asked.
            ConnectionFailed: The host cannot be reached.
        """
        socket = self._new_socket()
        argv = self._login_argv(
            socket,
            idle_seconds,
            # A password is never asked for but on a terminal.
            "NumberOfPasswordPrompts=1",
            "PreferredAuthentications=gssapi-with-mic,hostbased,publickey,keyboard-interactive",
            "LogLevel=ERROR",
        )
        with OneAnswer(socket, code) as answer:
            status, said = self._run(argv, answer.environment)
        if status == 0 and socket.exists():
            self._put_in_place(socket, Opened(time.time(), idle_seconds, by_hand=True))
        elif answer.refused and not answer.was_given:
            raise LoginNeeded(
                f'{self} asks "{answer.refused[0][:200]}", which is asked on a terminal only.',
                "Log in with `clustrix-prefect login`.",
            )
        elif _NOBODY_LET_IN.search(said):
            raise LoginNeeded(
                f"{self} did not take the code." if answer.was_given else f"{self} asked no code.",
                "Give the next one.",
            )
        else:
            raise self._failure(said)

    def close(self) -> bool:
        """End the master, and with it every channel over it; whether there was one."""
        was_there = self.state is not MasterState.ABSENT
        if was_there:
            with contextlib.suppress(subprocess.TimeoutExpired):
                self._ask("exit")
        for left in (self._socket, self._record):
            left.unlink(missing_ok=True)
        return was_there

    def _is_usable(self) -> bool:
        state = self.state
        if state is MasterState.SILENT:
            raise ConnectionLost(
                f"The ssh that holds the connection to {self} does not answer.",
                "Log in anew with `clustrix-prefect login`, which replaces it.",
            )
        return state is MasterState.LIVE

    def _log_in_unattended(self) -> None:
        socket = self._new_socket()
        status, said = self._run(self._login_argv(socket, _UNATTENDED_SECONDS, unattended=True))
        if status == 0 and socket.exists():
            self._put_in_place(socket, Opened(time.time(), _UNATTENDED_SECONDS, by_hand=False))
            return
        if _CLOSED.search(said):
            # With ControlPersist `ssh` keeps to itself what befell a jump host, or a ProxyCommand.
            status, more = self._run(self._argv(True, ["ControlPath=none", "ControlMaster=no"]))
            said = more if status else said
        raise self._failure(said)

    def _run(
        self, argv: list[str], environment: Mapping[str, str] | None = None
    ) -> tuple[int, str]:
        """Run an `ssh` without a terminal; its exit status, and what it said."""
        try:
            status, _, said = run_to_end(argv, _LOGIN_TIMEOUT, environment)
        except subprocess.TimeoutExpired:
            raise ConnectionFailed(
                f"ssh did not log in at {self} within {_LOGIN_TIMEOUT:g} s.",
                "Check whether a VPN or a firewall is in the way, or a key that wants to be "
                f"touched: `{shlex.join(['ssh', *self._target])}` shows what it waits for.",
            ) from None
        return status, said.decode("utf-8", "replace").strip()

    def _failure(self, said: str) -> ConnectionFailed:
        lines = [line.strip() for line in said.splitlines() if line.strip()]
        if refused := [line for line in lines if _NOBODY_LET_IN.search(line)]:
            return LoginNeeded(
                f'{self} lets nobody in without a person: ssh says "{refused[0].rstrip(".")}".',
                "Log in with `clustrix-prefect login`.",
            )
        quoted = " ".join(lines[-4:])[-600:].rstrip(".") or "nothing"
        if _KEY_REFUSED.search(said):
            scan = HostAddress(self.host, self.port or 22).scan()
            file = self.known_hosts or Path("~/.ssh/known_hosts")
            return HostKeyRefused(
                f"The host key of {self}, or of a host on the way, is not known: ssh says "
                f'"{quoted}".',
                "Compare it with what the cluster's administrators publish "
                f"(`{scan} | ssh-keygen -lf -` shows it), then add it to {file}.",
            )
        return ConnectionFailed(
            f'ssh does not reach {self}: it says "{quoted}".',
            f"`{shlex.join(['ssh', '-v', *self._target])}` shows what it tries.",
        )

    def _put_in_place(self, socket: Path, opened: Opened) -> None:
        _write(self._record, json.dumps(vars(opened)))
        socket.replace(self._socket)

    @contextlib.contextmanager
    def _alone(self) -> Iterator[None]:
        """Keep other threads and processes from logging in at the same time."""
        deadline = time.monotonic() + 2 * _LOGIN_TIMEOUT
        with self._path(".lock").open("w") as file:
            while True:
                try:
                    fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    break
                except BlockingIOError:
                    if time.monotonic() > deadline:
                        raise ConnectionFailed(
                            f"Another process has been logging in at {self} for too long.",
                            "Run the flow again.",
                        ) from None
                    time.sleep(0.05)
            yield

    # --- using it ---------------------------------------------------------------------------

    def start(self, command: str) -> ProgramChannel:
        """Run a command line through the far login shell, over the master and no other way."""
        return _MasterChannel(
            [
                *(_ssh(), "-F", "none", "-T", "-a", "-x"),
                *_options("BatchMode=yes", "LogLevel=ERROR", "ControlMaster=no"),
                # Without a master `ssh` would connect itself.
                *_options(f"ControlPath={self._socket}", "ProxyCommand=false"),
                *("--", checked_host(self.host), command),
            ],
            str(self),
        )

    def _ask(self, question: str) -> subprocess.CompletedProcess[bytes]:
        argv = [_ssh(), "-F", "none", *_options(f"ControlPath={self._socket}"), "-O", question]
        return subprocess.run(
            [*argv, "--", checked_host(self.host)],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            timeout=_ANSWER_SECONDS,
        )

    # --- its files --------------------------------------------------------------------------

    def _path(self, suffix: str) -> Path:
        named = json.dumps([self._configuration(False), self._target])
        return _own_directory() / (hashlib.sha256(named.encode()).hexdigest()[:16] + suffix)

    @property
    def _socket(self) -> Path:
        return self._path("")

    def _new_socket(self) -> Path:
        return self._path(f".{secrets.token_hex(4)}")

    @property
    def _record(self) -> Path:
        return self._path(".json")

    @property
    def _target(self) -> list[str]:
        """The host for a command line of `ssh`, and how to get there."""
        options = ["-p", str(self.port)] if self.port else []
        if self.username:
            options += ["-l", checked_user(self.username)]
        if self.proxy_jump and self.proxy_jump.lower() != "none":
            for hop in self.proxy_jump.split(","):
                jump_host(hop)
            options += _options(f"ProxyJump={self.proxy_jump.replace(' ', '')}")
        elif self.proxy_jump:
            options += _options("ProxyJump=none")
        return [*options, checked_host(self.host)]

    def _login_argv(
        self, socket: Path, idle_seconds: int, *settings: str, unattended: bool = False
    ) -> list[str]:
        """Return an `ssh` that logs in and stays, in the background."""
        master = ["ControlMaster=yes", f"ControlPath={socket}", f"ControlPersist={idle_seconds}"]
        return self._argv(unattended, [*master, *settings], "-N", "-f")

    def _argv(self, unattended: bool, settings: Sequence[str], *flags: str) -> list[str]:
        configuration = self._path(".unattended.conf" if unattended else ".conf")
        _write(configuration, self._configuration(unattended))
        quiet = _options("LogLevel=ERROR") if unattended else []
        command = [] if flags else ["exit"]
        return [
            *(_ssh(), "-F", str(configuration), *flags, *_options(*settings)),
            *(*quiet, *self._target, *command),
        ]

    def _configuration(self, unattended: bool) -> str:
        """Return what `ssh` reads; jump hosts are reached with the same."""
        lines = ["Host *", *_INSISTED]
        if unattended:
            lines.append("BatchMode yes")
        if self.known_hosts is not None:
            lines.append(f"UserKnownHostsFile {quoted(self.known_hosts)}")
        if self.key_file is not None:
            lines += [f"IdentityFile {quoted(self.key_file)}", "IdentitiesOnly yes"]
        if self.certificate_file is not None:
            lines.append(f"CertificateFile {quoted(self.certificate_file)}")
        lines.append(f"Include {quoted(Path.home() / '.ssh' / 'config')}")
        lines.append("Include /etc/ssh/ssh_config")
        # Where nothing else is said: who they are at jump hosts, and how it is encrypted.
        lines += ["Host *", f"Ciphers {_CIPHERS}"]
        if self.username:
            lines.append(f"User {checked_user(self.username)}")
        return "\n".join(lines) + "\n"


class _MasterChannel(ProgramChannel):
    """A program on a far host, over a master."""

    def __init__(self, argv: Sequence[str], where: str) -> None:
        super().__init__(argv, os.environ)
        self._where = where
        self._has_begun = False

    def read(self, size: int) -> bytes:
        data = super().read(size)
        if data:
            self._has_begun = True
        elif not self._has_begun and not self._closed and self._ended_by_itself():
            raise self._failure()
        return data

    def close(self) -> None:
        super().close()
        # It ends when the far program does, unless the master does not answer.
        ending = threading.Timer(_CLOSE_SECONDS, self._process.terminate)
        ending.daemon = True
        ending.start()

    def _ended_by_itself(self) -> bool:
        try:
            return self._process.wait(_ANSWER_SECONDS) == _OWN_FAILURE
        except subprocess.TimeoutExpired:
            return False

    def _failure(self) -> ConnectionLost:
        said = self.stderr_tail()
        if "refused by peer" in said:
            return ConnectionLost(
                f"{self._where} opens no further session.",
                "The host may limit sessions per connection (MaxSessions of its sshd).",
            )
        first = next(iter(said.strip().splitlines()), "nothing").rstrip(".")
        return ConnectionLost(
            f'The connection to {self._where} is gone: ssh says "{first}".',
            "Log in again with `clustrix-prefect login` if it is not opened again by itself.",
        )


def for_so_long(seconds: float) -> str:
    """Return a time in the largest unit that it is a multiple of: "12 h", "90 min", "3 s"."""
    for size, unit in ((3600, "h"), (60, "min")):
        if seconds >= size and seconds % size == 0:
            return f"{seconds / size:g} {unit}"
    return f"{seconds:g} s"


def _clock(at: float) -> str:
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(at))


def _own_directory() -> Path:
    """Return the directory of the sockets, which nobody else can enter.

    Raises:
        ConfigurationError: Somebody else can.
    """
    path = _DIRECTORY / f"clustrix-prefect-{os.geteuid()}"
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700)
    found = path.lstat()
    if (
        not stat.S_ISDIR(found.st_mode)
        or found.st_uid != os.geteuid()
        or stat.S_IMODE(found.st_mode) & 0o077
    ):
        raise ConfigurationError(
            f"{path}, where the sockets of ssh would be, is not a directory of yours alone.",
            f"Find out who made it, then `rm -r {path}`.",
        )
    return path


def _ignore_hangups() -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)


def _ssh() -> str:
    found = shutil.which("ssh")
    if found is None:
        raise ConfigurationError(
            'There is no `ssh` on this machine\'s PATH, and the block has connection="openssh".',
            'Install OpenSSH\'s client, or write connection="paramiko".',
        )
    return found


def _options(*settings: str) -> list[str]:
    return [word for setting in settings for word in ("-o", setting)]


def _write(path: Path, text: str) -> None:
    """Write a file that others read at any time."""
    descriptor, draft = tempfile.mkstemp(dir=path.parent)
    with open(descriptor, "w") as file:
        file.write(text)
    os.replace(draft, path)
