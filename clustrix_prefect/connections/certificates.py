"""Certificates of users' keys, as `ssh-keygen -s` makes them, and when they hold."""

from __future__ import annotations

import base64
from dataclasses import dataclass
from datetime import datetime, timezone
from pathlib import Path

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization

from clustrix_prefect.connections.private_keys import UnusableKey

# What stands for "for ever" (PROTOCOL.certkeys of OpenSSH); Python's calendar ends before it.
_FOR_EVER = 2**64 - 1
_LAST = datetime(9999, 1, 1, tzinfo=timezone.utc)


@dataclass(frozen=True)
class UserCertificate:
    """A certificate that is on this machine.

    Attributes:
        path: Its file.
        line: What is in it.
        key: The public key that it is for, as SSH sends it.
        begins: When it begins to hold.
        ends: When it ends to; None for never.
    """

    path: Path
    line: str
    key: bytes
    begins: datetime
    ends: datetime | None

    def check(self) -> None:
        """Refuse one that does not hold now: a host would, and hosts count.

        Raises:
            UnusableKey: It has ended, or begins later.
        """
        now = datetime.now(timezone.utc)
        if self.ends is not None and self.ends <= now:
            raise UnusableKey(f"ended at {told(self.ends)}")
        if self.begins > now:
            raise UnusableKey(f"begins to hold at {told(self.begins)}")


def told(moment: datetime) -> str:
    """Return a moment for people, on this machine's clock: "2026-11-30 14:05:00 CET"."""
    return f"{moment.astimezone():%Y-%m-%d %H:%M:%S %Z}"


def read_certificate(path: Path) -> UserCertificate:
    """Read a user's certificate.

    Raises:
        UnusableKey: It is missing, unreadable, or no user's certificate.
    """
    try:
        text = path.read_bytes().strip()
        found = serialization.load_ssh_public_identity(text)
    except FileNotFoundError:
        raise UnusableKey("does not exist") from None
    except OSError as error:
        raise UnusableKey(f"cannot be read ({error.strerror})") from error
    except (ValueError, UnsupportedAlgorithm) as error:
        raise UnusableKey("is not a certificate, or of an unsupported type") from error
    if not isinstance(found, serialization.SSHCertificate):
        raise UnusableKey("is a public key, and not a certificate")
    if found.type is not serialization.SSHCertificateType.USER:
        raise UnusableKey("is a host's certificate, and not a user's")
    line = found.public_key().public_bytes(
        serialization.Encoding.OpenSSH, serialization.PublicFormat.OpenSSH
    )
    ends = None if found.valid_before == _FOR_EVER else _moment(found.valid_before)
    key = base64.b64decode(line.split()[1])
    return UserCertificate(path, text.decode(), key, _moment(found.valid_after), ends)


def beside(key_file: Path) -> Path:
    """Return where `ssh-keygen -s` leaves the certificate of a key: `id_ed25519-cert.pub`."""
    return key_file.with_name(key_file.name + "-cert.pub")


def _moment(seconds: int) -> datetime:
    if seconds >= _LAST.timestamp():
        return _LAST
    return datetime.fromtimestamp(seconds, timezone.utc)
