"""An SSH server that asks PAM how people log in: passwords, one-time codes, and both."""

from __future__ import annotations

import base64
import contextlib
import os
import re
import secrets
import subprocess
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from tests.live.rundir import RunDirectory
from tests.live.ssh_host import SSHHost

PASSWORD = "auth requisite pam_unix.so"
CODE = "auth required pam_google_authenticator.so"
KEYBOARD = "KbdInteractiveAuthentication yes"
# sshd is told the name of its PAM service from this release on; before, it is the program's.
_NAMES_ITS_SERVICE = (9, 8)


class PAMHost(SSHHost):
    """OpenSSH's sshd with a PAM service of its own.

    Without `asking` it takes the account's key alone.

    Attributes:
        seed: What the account's one-time codes are made from, once there are any.
    """

    def __init__(self, run: RunDirectory, environment: Mapping[str, str] | None = None) -> None:
        service = f"sshd-cxpam{os.getpid()}"
        told = _version() >= _NAMES_ITS_SERVICE
        super().__init__(run, environment, "pam", program="sshd" if told else service)
        self.settings = ["UsePAM yes", *([f"PAMServiceName {service}"] if told else [])]
        self.seed = ""
        self._period = 30
        self._service = Path("/etc/pam.d") / service
        self._needs += ["google-authenticator", "oathtool"]

    def stop(self) -> None:
        """End the server, and remove its account and its PAM service."""
        super().stop()
        self._service.unlink(missing_ok=True)

    @contextlib.contextmanager
    def asking(self, *settings: str, auth: Sequence[str] = (PASSWORD,)) -> Iterator[None]:
        """Have logins answer questions for a while.

        Args:
            settings: Lines of sshd_config, such as "AuthenticationMethods password".
            auth: The lines of PAM's stack that authenticate.
        """
        before = self.settings
        self._run.will_make_file(self._service)
        lines = [*auth, "account required pam_unix.so", "password required pam_unix.so"]
        self._service.write_text("\n".join([*lines, "session required pam_permit.so", ""]))
        self.settings = [*before, *settings]
        self._restart(self._environment)
        try:
            yield
        finally:
            self.settings = before
            self._service.unlink()
            self._restart(self._environment)

    @contextlib.contextmanager
    def codes(self, *options: str, period: int = 30) -> Iterator[None]:
        """Let the account have one-time codes for a while, each of which logs in once.

        Args:
            options: Further lines of the module's FILEFORMAT, as "RATE_LIMIT 3 30".
            period: Seconds that a code holds for.
        """
        self._period = period
        # Another one each time: codes of the last one are not waited for.
        self.seed = base64.b32encode(secrets.token_bytes(20)).decode()
        path = self.home / ".google_authenticator"
        lines = ["DISALLOW_REUSE", "TOTP_AUTH", f"STEP_SIZE {period}", *options]
        path.write_text("\n".join([self.seed, *(f'" {line}' for line in lines), ""]))
        self._own(path, 0o600)
        try:
            yield
        finally:
            path.unlink(missing_ok=True)

    def code(self, periods: int = 0) -> str:
        """The code that holds now, or so many periods later, as oathtool makes it."""
        at = f"@{int(time.time()) + periods * self._period}"
        command = ["oathtool", "--totp", "--base32", f"--time-step-size={self._period}s"]
        done = subprocess.run([*command, f"--now={at}", self.seed], capture_output=True, text=True)
        return done.stdout.strip()

    @property
    def seed_uri(self) -> str:
        """The seed as authenticators show it in a QR code."""
        return f"otpauth://totp/site:ana?secret={self.seed}&issuer=site&period={self._period}"

    @contextlib.contextmanager
    def expired_password(self, password: str) -> Iterator[None]:
        """Give the account a password that it has to change before anything else."""
        with self.password(password):
            subprocess.run(["chage", "--lastday", "0", self.username], check=True)
            try:
                yield
            finally:
                subprocess.run(["chage", "--lastday", "20000", self.username], check=True)

    @contextlib.contextmanager
    def authorized_keys(self, text: str) -> Iterator[None]:
        """Let these keys alone log in for a while."""
        path = self.home / ".ssh" / "authorized_keys"
        before = path.read_bytes()
        path.write_text(text)
        try:
            yield
        finally:
            path.write_bytes(before)


def _version() -> tuple[int, int]:
    said = subprocess.run(["ssh", "-V"], capture_output=True, text=True).stderr
    match = re.search(r"OpenSSH_(\d+)\.(\d+)", said)
    return (int(match[1]), int(match[2])) if match else (0, 0)
