"""Logging in: which keys and passwords are tried, in which order."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path

import paramiko
from paramiko.agent import AgentSSH

from clustrix_prefect.connections.host_keys import fingerprint
from clustrix_prefect.connections.private_keys import (
    UnusableKey,
    key_from_file,
    key_from_text,
    public_blob,
    with_certificate,
)
from clustrix_prefect.connections.ssh_config import HostSettings
from clustrix_prefect.errors import AuthenticationFailed

_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")


@dataclass(frozen=True)
class Login:
    """What a user has given us to log in with; secrets stay out of its `repr`."""

    username: str | None = None
    key_file: Path | None = None
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)

    def for_jump(self) -> Login:
        """What a jump host may see: never the password of the host behind it."""
        return Login(self.username, self.key_file, self.private_key, self.passphrase)


@dataclass
class _Attempt:
    """One way to log in; `run` returns the methods that are still wanted after it."""

    method: str
    label: str
    run: Callable[[paramiko.Transport, str], list[str]]


def authenticate(
    transport: paramiko.Transport, user: str, login: Login, settings: HostSettings, where: str
) -> str:
    """Log in on a transport whose host key was verified.

    Returns:
        What did it, for people: "key file /home/alice/.ssh/id_ed25519".

    Raises:
        AuthenticationFailed: Nothing did; the message lists what was tried.
    """
    try:
        transport.auth_none(user)
        return "no authentication"
    except paramiko.BadAuthenticationType as error:
        accepted: list[str] = error.allowed_types
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise AuthenticationFailed(
            f"{where} ended the login of {user}: {error}.", "Ask its administrators why."
        ) from error
    notes: list[str] = []
    waiting = list(_attempts(login, settings, notes))
    tried: list[str] = []
    while attempt := next((one for one in waiting if one.method in accepted), None):
        waiting.remove(attempt)
        try:
            accepted = attempt.run(transport, user)
        except (paramiko.SSHException, EOFError, OSError) as error:
            tried.append(attempt.label)
            if not transport.is_active():
                notes.append(f"the host then hung up ({error})" if str(error) else "it hung up")
                break
            continue
        if not accepted:
            return attempt.label
        tried.append(f"{attempt.label} (accepted, but not enough)")
    raise _failure(where, user, tried, notes, accepted)


def _failure(
    where: str, user: str, tried: list[str], notes: list[str], accepted: list[str]
) -> AuthenticationFailed:
    did = f"Tried: {', '.join(tried)}." if tried else "There was nothing to try."
    noted = f" Also: {'; '.join(notes)}." if notes else ""
    return AuthenticationFailed(
        f"{where} does not let {user} in. {did}{noted} The host accepts: {', '.join(accepted)}.",
        "Check the user name; give SSHCredentials a key_file, private_key or password that "
        "the host knows, or load a key with `ssh-add`.",
    )


def _attempts(login: Login, settings: HostSettings, notes: list[str]) -> Iterator[_Attempt]:
    """Everything worth trying, the most explicit first.

    With an explicit key nothing else is offered: hosts count attempts.
    """
    explicit = login.private_key is not None or login.key_file is not None
    if login.private_key is not None:
        try:
            key = key_from_text(login.private_key, login.passphrase)
            yield _key_attempt(key, "the block's private_key")
        except UnusableKey as error:
            notes.append(f"the block's private_key {error}")
    if login.key_file is not None:
        yield from _file_attempts(login.key_file.expanduser(), login.passphrase, notes)
    if login.password is not None:
        yield _Attempt("password", "the password", _password(login.password))
        yield _Attempt(
            "keyboard-interactive",
            "the password (keyboard-interactive)",
            _interactive(login.password, notes),
        )
    if not explicit:
        yield from _ambient_attempts(login, settings, notes)


def _ambient_attempts(login: Login, settings: HostSettings, notes: list[str]) -> Iterator[_Attempt]:
    """Keys that this machine has anyway: the agent's, and the files ssh would use."""
    files = settings.identity_files
    wanted = {blob for blob in map(public_blob, files) if blob}
    offered: set[bytes] = set()
    agent_keys = list(_agent_keys(settings.identity_agent))
    for key in sorted(agent_keys, key=lambda key: key.asbytes() not in wanted):
        blob = key.asbytes()
        if blob in wanted or not settings.identities_only:
            offered.add(blob)
            yield _key_attempt(key, f"ssh-agent key {key.comment} ({fingerprint(blob)})")
    for file in files or _default_files():
        if public_blob(file) not in offered:
            yield from _file_attempts(file, login.passphrase, notes)


def _default_files() -> list[Path]:
    files = (Path.home() / ".ssh" / name for name in _DEFAULT_KEYS)
    return [file for file in files if file.exists()]


def _file_attempts(file: Path, passphrase: str | None, notes: list[str]) -> Iterator[_Attempt]:
    label = f"key file {file}"
    try:
        if certified := with_certificate(file, passphrase):
            yield _key_attempt(certified, f"{label} with its certificate")
        yield _key_attempt(key_from_file(file, passphrase), label)
    except (UnusableKey, paramiko.SSHException, ValueError) as error:
        notes.append(f"{label} {error}")


def _key_attempt(key: paramiko.PKey, label: str) -> _Attempt:
    return _Attempt("publickey", label, lambda transport, user: transport.auth_publickey(user, key))


def _password(password: str) -> Callable[[paramiko.Transport, str], list[str]]:
    return lambda transport, user: transport.auth_password(user, password, fallback=False)


def _interactive(password: str, notes: list[str]) -> Callable[[paramiko.Transport, str], list[str]]:
    """Answer the first question with the password; a second factor is beyond us."""

    def run(transport: paramiko.Transport, user: str) -> list[str]:
        asked: list[str] = []

        def answer(title: str, instructions: str, prompts: list[tuple[str, bool]]) -> list[str]:
            if not asked and len(prompts) == 1:
                asked.append(prompts[0][0])
                return [password]
            questions = ", ".join(prompt.strip() for prompt, _ in prompts)
            if questions:
                notes.append(f'it asks "{questions}", which cannot be answered from here')
            return ["" for _ in prompts]

        return transport.auth_interactive(user, answer)

    return run


class _Agent(AgentSSH):
    """ssh-agent at a socket of our choice (paramiko's own reads SSH_AUTH_SOCK only)."""

    def __init__(self, path: str) -> None:
        super().__init__()
        connection = socket.socket(socket.AF_UNIX)
        connection.settimeout(30)
        try:
            connection.connect(path)
            self._connect(connection)  # type: ignore[attr-defined]
        except BaseException:
            connection.close()
            raise


def _agent_keys(identity_agent: str | None) -> Iterator[paramiko.AgentKey]:
    where = identity_agent or "SSH_AUTH_SOCK"
    if where.lower() == "none":
        return
    if where == "SSH_AUTH_SOCK":
        where = "$SSH_AUTH_SOCK"
    path = os.path.expandvars(os.path.expanduser(where))
    if not os.path.exists(path):
        return
    try:
        yield from _Agent(path).get_keys()
    except (OSError, paramiko.SSHException):
        return  # an agent that has gone, or does not speak to us, has no keys
