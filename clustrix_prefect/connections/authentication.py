"""Logging in: which keys, passwords and codes are tried, in which order."""

from __future__ import annotations

import os
import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path

import paramiko
from paramiko.agent import AgentSSH

from clustrix_prefect.connections import interactive
from clustrix_prefect.connections.certificates import UserCertificate, beside, read_certificate
from clustrix_prefect.connections.host_keys import fingerprint
from clustrix_prefect.connections.one_time_codes import OneTimeCodes
from clustrix_prefect.connections.private_keys import (
    UnusableKey,
    key_from_file,
    key_from_text,
    public_blob,
)
from clustrix_prefect.connections.ssh_config import HostSettings
from clustrix_prefect.errors import AuthenticationFailed, ClustrixError

_DEFAULT_KEYS = ("id_ed25519", "id_ecdsa", "id_rsa")
_KERBEROS = "gssapi"


@dataclass(frozen=True)
class Login:
    """What a user has given us to log in with; secrets stay out of its `repr`."""

    username: str | None = None
    key_file: Path | None = None
    private_key: str | None = field(default=None, repr=False)
    passphrase: str | None = field(default=None, repr=False)
    password: str | None = field(default=None, repr=False)
    codes: OneTimeCodes | None = field(default=None, repr=False)
    certificate_file: Path | None = None

    def for_jump(self) -> Login:
        """What a jump host may see: never the password or a code of the host behind it."""
        return Login(
            self.username,
            self.key_file,
            self.private_key,
            self.passphrase,
            certificate_file=self.certificate_file,
        )


@dataclass(frozen=True)
class LoggedIn:
    """How a login was made.

    Attributes:
        how: What did it, for people: "key file /home/alice/.ssh/id_ed25519".
        certificate_ends: When the certificate that was shown ends, if one was and it does.
    """

    how: str
    certificate_ends: datetime | None = None


@dataclass
class _Attempt:
    """One way to log in; `run` returns the methods that are still wanted after it."""

    method: str
    label: str
    run: Callable[[paramiko.Transport, str], list[str]]
    certificate_ends: datetime | None = None
    is_last_resort: bool = False

    def fits(self, accepted: list[str]) -> bool:
        """Return whether it may help: a last resort only where the host accepts nothing else."""
        return self.method in accepted and not (self.is_last_resort and len(accepted) > 1)


def authenticate(
    transport: paramiko.Transport, user: str, login: Login, settings: HostSettings, where: str
) -> LoggedIn:
    """Log in on a transport whose host key was verified.

    Raises:
        AuthenticationFailed: Nothing did; the message lists what was tried, or quotes what the
            host asks.
        CredentialError: A one-time code cannot be asked for.
    """
    preferred = settings.preferred_authentications
    if preferred and all(name.startswith(_KERBEROS) for name in preferred):
        raise _kerberos(f"~/.ssh/config wants Kerberos alone for {where}")
    try:
        transport.auth_none(user)
        return LoggedIn("no authentication")
    except paramiko.BadAuthenticationType as error:
        accepted: list[str] = error.allowed_types
    except (paramiko.SSHException, EOFError, OSError) as error:
        raise AuthenticationFailed(
            f"{where} ended the login of {user}: {error}.", "Ask its administrators why."
        ) from error
    notes: list[str] = []
    questions = interactive.Questions(where, user, login.password, login.codes)
    waiting = list(_Attempts(login, settings, questions, notes).all())
    tried: list[str] = []
    passed: list[_Attempt] = []
    while attempt := next((one for one in waiting if one.fits(accepted)), None):
        waiting.remove(attempt)
        try:
            accepted = attempt.run(transport, user)
        except ClustrixError:
            raise
        except (paramiko.SSHException, EOFError, OSError) as error:
            tried.append(attempt.label)
            if attempt.method == interactive.METHOD and login.codes and not questions.were_asked:
                notes.append("it asked no question, as hosts do that count logins")
            if not transport.is_active():
                notes.append(f"the host then hung up ({error})" if str(error) else "it hung up")
                break
            continue
        passed.append(attempt)
        if not accepted:
            ends = [one.certificate_ends for one in passed if one.certificate_ends is not None]
            return LoggedIn(", then ".join(one.label for one in passed), min(ends, default=None))
        tried.append(f"{attempt.label} (accepted, but not enough)")
    notes += [f'it says "{text}"' for text in questions.said]
    if accepted and all(method.startswith(_KERBEROS) for method in accepted):
        raise _kerberos(f"{where} lets {user} in by Kerberos alone")
    raise _failure(where, user, tried, notes, accepted, login)


def _kerberos(what: str) -> AuthenticationFailed:
    return AuthenticationFailed(
        f"{what}, which this connection does not speak.",
        'Set connection="openssh" in the cluster\'s block, get a ticket (`kinit`), and run '
        "`clustrix-prefect login` with the block's name.",
    )


def _failure(
    where: str, user: str, tried: list[str], notes: list[str], accepted: list[str], login: Login
) -> AuthenticationFailed:
    did = f"Tried: {', '.join(tried)}." if tried else "There was nothing to try."
    noted = f" Also: {'; '.join(notes)}." if notes else ""
    what = f"{where} does not let {user} in. {did}{noted} The host accepts: {', '.join(accepted)}."
    if login.codes is not None:
        remedy = (
            "Check the password, the `totp` and this machine's clock; a host that counts logins "
            "takes none for some minutes."
        )
    elif any(note.startswith("the certificate ") for note in notes):
        remedy = "Renew the certificate, or name the right one."
    else:
        remedy = (
            "Check the user name; give SSHCredentials a key_file, private_key or password that "
            "the host knows, or load a key with `ssh-add`."
        )
    counted = login.password is not None or login.codes is not None
    return AuthenticationFailed(what, remedy, is_counted=counted)


class _Attempts:
    """Everything worth trying, the most explicit first.

    With an explicit key nothing else is offered: hosts count attempts.

    Args:
        login: What the user has given.
        settings: What `~/.ssh/config` says.
        questions: Answers what the host asks.
        notes: Takes what cannot be tried, and why.
    """

    def __init__(
        self,
        login: Login,
        settings: HostSettings,
        questions: interactive.Questions,
        notes: list[str],
    ) -> None:
        self._login = login
        self._settings = settings
        self._questions = questions
        self._notes = notes
        named = (login.certificate_file, settings.certificate_file)
        self._certificates = [file.expanduser() for file in named if file is not None]
        self._certified: set[Path] = set()

    def all(self) -> Iterator[_Attempt]:
        """Give each of them."""
        login = self._login
        if login.private_key is not None:
            yield from self._of_text(login.private_key)
        if login.key_file is not None:
            yield from self._of_file(login.key_file.expanduser())
        yield from self._answers()
        if login.private_key is None and login.key_file is None:
            yield from self._ambient()
        for file in self._certificates:
            if file not in self._certified:
                self._notes.append(f"the certificate {file} is for another key")

    def _answers(self) -> Iterator[_Attempt]:
        password, codes = self._login.password, self._login.codes
        answers = _Attempt(interactive.METHOD, self._questions.label, self._questions.run)
        answers.is_last_resort = password is None and codes is None
        if codes is not None:
            # First: PAM would take the method's password for the code, too, and count it.
            yield answers
        if password is not None:
            yield _Attempt("password", "the password", _password(password))
        if codes is None:
            yield answers

    def _ambient(self) -> Iterator[_Attempt]:
        """Keys that this machine has anyway: the agent's, and the files ssh would use."""
        settings = self._settings
        named = settings.identity_files
        files = _default_files() if named is None else named
        wanted = {blob for blob in map(public_blob, files) if blob}
        offered: set[bytes] = set()
        agent_keys = list(_agent_keys(settings.identity_agent))
        for key in sorted(agent_keys, key=lambda key: key.asbytes() not in wanted):
            blob = key.asbytes()
            if blob in wanted or not settings.identities_only:
                offered.add(blob)
                label = f"ssh-agent key {key.comment} ({fingerprint(blob)})"
                yield from self._of_key(key, label, self._certificates)
        for file in files:
            if public_blob(file) not in offered:
                yield from self._of_file(file)

    def _of_text(self, text: str) -> Iterator[_Attempt]:
        try:
            key = key_from_text(text, self._login.passphrase)
        except UnusableKey as error:
            self._notes.append(f"the block's private_key {error}")
            return
        yield from self._of_key(key, "the block's private_key", self._certificates)

    def _of_file(self, file: Path) -> Iterator[_Attempt]:
        label = f"key file {file}"
        try:
            key = key_from_file(file, self._login.passphrase)
        except (UnusableKey, paramiko.SSHException, ValueError) as error:
            self._notes.append(f"{label} {error}")
            return
        near = beside(file)
        certificates = [*self._certificates, *([near] if near.exists() else [])]
        yield from self._of_key(key, label, certificates)

    def _of_key(
        self, key: paramiko.PKey, label: str, certificates: list[Path]
    ) -> Iterator[_Attempt]:
        """Yield a key with each certificate of it that holds, and by itself."""
        for file in dict.fromkeys(certificates):
            try:
                certificate = read_certificate(file)
                if certificate.key != key.asbytes():
                    continue
                self._certified.add(file)
                certificate.check()
            except UnusableKey as error:
                self._certified.add(file)  # said
                if (note := f"the certificate {file} {error}") not in self._notes:
                    self._notes.append(note)
                continue
            yield _key_attempt(key, f"{label} with its certificate", certificate)
        yield _key_attempt(key, label)


def _key_attempt(
    key: paramiko.PKey, label: str, certificate: UserCertificate | None = None
) -> _Attempt:
    def run(transport: paramiko.Transport, user: str) -> list[str]:
        key.public_blob = None
        if certificate is not None:
            key.load_certificate(certificate.line)
        return transport.auth_publickey(user, key)

    return _Attempt("publickey", label, run, certificate.ends if certificate else None)


def _password(password: str) -> Callable[[paramiko.Transport, str], list[str]]:
    return lambda transport, user: transport.auth_password(user, password, fallback=False)


def _default_files() -> list[Path]:
    files = (Path.home() / ".ssh" / name for name in _DEFAULT_KEYS)
    return [file for file in files if file.exists()]


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
