"""Is this host the one we know? `known_hosts` as OpenSSH reads it.

paramiko's own reader skips wildcards and stops at marked lines (`@cert-authority`), so
the file is read here.
"""

from __future__ import annotations

import base64
import binascii
import fnmatch
import hashlib
import hmac
import re
import shlex
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clustrix_prefect.errors import HostKeyRefused

SYSTEM_FILE = Path("/etc/ssh/ssh_known_hosts")
# How a key revocation list begins (PROTOCOL.krl of OpenSSH).
_KRL = b"SSHKRL\n\0"


def fingerprint(key: bytes) -> str:
    """Return a key's fingerprint as `ssh-keygen -lf` prints it."""
    digest = base64.b64encode(hashlib.sha256(key).digest()).decode()
    return "SHA256:" + digest.rstrip("=")


@dataclass(frozen=True)
class HostAddress:
    """What a host's key is looked up by, and how to reach it by hand.

    Attributes:
        name: Host name as connected to, or the alias its key is filed under.
        port: Port that was connected to.
        via: The jump host through which it was reached, if any.
        scan_name: Name to reach it by, where that differs from `name`.
    """

    name: str
    port: int = 22
    via: str | None = None
    scan_name: str | None = None

    @property
    def filed_as(self) -> str:
        """The name in known_hosts."""
        name = self.name.lower()
        return name if self.port == 22 else f"[{name}]:{self.port}"

    def scan(self, *options: str) -> str:
        """Return the shell command that asks the host for its keys."""
        port = [] if self.port == 22 else ["-p", str(self.port)]
        command = shlex.join(["ssh-keyscan", *options, *port, self.scan_name or self.name])
        return f"ssh {self.via} {command}" if self.via else command


@dataclass(frozen=True)
class KnownKey:
    """One line of a known_hosts file.

    Attributes:
        marker: "@cert-authority", "@revoked" or "".
        patterns: The line's host patterns.
        key_type: For example "ssh-ed25519".
        key: The key itself, as SSH sends it.
        file: Where the line stands.
        line: Its number.
    """

    marker: str
    patterns: str
    key_type: str
    key: bytes
    file: Path
    line: int

    def names(self, host: str) -> bool:
        """Return whether this line is about the host."""
        if self.patterns.startswith("|1|"):
            return _hashed_matches(self.patterns, host)
        found = False
        for pattern in self.patterns.lower().split(","):
            # Brackets are literal here ("[host]:port"), not fnmatch's sets.
            wanted = pattern.removeprefix("!").replace("[", "[[]")
            if fnmatch.fnmatchcase(host, wanted):
                if pattern.startswith("!"):
                    return False
                found = True
        return found

    def __str__(self) -> str:
        return f"{self.file}, line {self.line}"


def _hashed_matches(hashed: str, host: str) -> bool:
    try:
        _, _, salt, digest = hashed.split("|")
        expected = base64.b64decode(digest)
        actual = hmac.new(base64.b64decode(salt), host.encode(), hashlib.sha1).digest()
    except (ValueError, binascii.Error):
        return False
    return hmac.compare_digest(expected, actual)


class KnownHosts:
    """The host keys that the user trusts.

    Args:
        files: known_hosts files; a missing one is empty.
        revoked: A file of keys that no host may have: `RevokedHostKeys` of ssh_config.
    """

    def __init__(self, files: Sequence[Path], revoked: Path | None = None) -> None:
        self._files = list(files)
        self._revoked = revoked
        self._keys = [key for file in files for key in _read(file)]

    def key_types(self, address: HostAddress) -> list[str]:
        """Return the types of the keys that are known for a host: ask it for one of these."""
        return [known.key_type for known in self._about(address) if not known.marker]

    def verify(self, address: HostAddress, key_type: str, key: bytes) -> None:
        """Accept a host's key, or refuse the host.

        Raises:
            HostKeyRefused: The key is unknown, changed or revoked.
        """
        if self._revoked is not None and key in _revoked_keys(self._revoked):
            raise HostKeyRefused(
                f"The key of {address.filed_as} ({fingerprint(key)}) is among the revoked ones "
                f"in {self._revoked}.",
                "Do not connect; ask the cluster's administrators for the new key.",
            )
        about = self._about(address)
        for known in about:
            if known.marker == "@revoked" and known.key == key:
                raise HostKeyRefused(
                    f"The key of {address.filed_as} ({fingerprint(key)}) is marked as revoked "
                    f"in {known}.",
                    "Do not connect; ask the cluster's administrators for the new key.",
                )
        plain = [known for known in about if not known.marker]
        if any(known.key == key for known in plain):
            return
        same_type = [known for known in plain if known.key_type == key_type]
        if same_type:
            raise self._changed(address, same_type[0], key)
        raise self._unknown(address, key_type, key, about)

    def _about(self, address: HostAddress) -> list[KnownKey]:
        found = [known for known in self._keys if known.names(address.filed_as)]
        if not found:  # OpenSSH, too, takes an entry without port for any port
            found = [known for known in self._keys if known.names(address.name.lower())]
        return found

    def _unknown(
        self, address: HostAddress, key_type: str, key: bytes, about: list[KnownKey]
    ) -> HostKeyRefused:
        what = (
            f"The host key of {address.filed_as} is not known: it offered {key_type} "
            f"{fingerprint(key)}, and there is no such key for it in {self._searched()}."
        )
        for known in about:
            if known.marker == "@cert-authority":
                what += f" ({known} trusts a certificate authority, which is not supported here.)"
                break
        scan = address.scan(
            "-t", key_type.split("-")[1] if key_type.startswith("ssh-") else "ecdsa"
        )
        return HostKeyRefused(
            what,
            f"Compare it with what the cluster's administrators publish "
            f"(`{scan} | ssh-keygen -lf -` shows it), then add it: "
            f"`{scan} >> {self._first_file()}`.",
        )

    def _changed(self, address: HostAddress, known: KnownKey, key: bytes) -> HostKeyRefused:
        remove = shlex.join(["ssh-keygen", "-f", str(known.file), "-R", address.filed_as])
        return HostKeyRefused(
            f"The host key of {address.filed_as} has changed: it offered {fingerprint(key)}, "
            f"but {known} has {fingerprint(known.key)}. Somebody may be in between.",
            f"If the administrators confirm the new key (`{address.scan()} | ssh-keygen -lf -` "
            f"shows it), remove the old one with `{remove}` and add the new one.",
        )

    def _searched(self) -> str:
        return " or ".join(str(file) for file in self._files)

    def _first_file(self) -> str:
        return shlex.quote(str(self._files[0]))


def _fields(line: str) -> list[str]:
    """The words of a line, as OpenSSH tells them apart: other blanks may stand in a comment."""
    return [field for field in re.split("[ \t]+", line.rstrip("\r")) if field]


def _revoked_keys(file: Path) -> set[bytes]:
    """Return the keys in a list of revoked ones, of which each line has one.

    Raises:
        HostKeyRefused: The list cannot be read; then OpenSSH, too, takes no host's key.
    """
    remedy = "Correct the file, or what RevokedHostKeys says in ~/.ssh/config."
    try:
        content = file.read_bytes()
    except OSError as error:
        raise HostKeyRefused(
            f"The list of revoked host keys {file} cannot be read: {error.strerror}.", remedy
        ) from error
    if content.startswith(_KRL):
        raise HostKeyRefused(
            f"{file} is a key revocation list in OpenSSH's binary form, which is not read here, so "
            "no host key is taken.",
            "Let RevokedHostKeys name a file of public keys, one a line.",
        )
    keys = set()
    for number, line in enumerate(content.decode(errors="replace").split("\n"), 1):
        fields = _fields(line)
        if not fields or fields[0].startswith("#"):
            continue
        try:
            keys.add(base64.b64decode(fields[1], validate=True))
        except (IndexError, ValueError) as error:
            raise HostKeyRefused(
                f"Line {number} of {file}, the list of revoked host keys, is no public key.",
                remedy,
            ) from error
    return keys


def _read(file: Path) -> Iterator[KnownKey]:
    try:
        text = file.read_bytes().decode(errors="replace")
    except (FileNotFoundError, NotADirectoryError):
        return
    except OSError as error:
        raise HostKeyRefused(
            f"{file} cannot be read: {error.strerror}.", "Correct its permissions."
        ) from error
    for number, line in enumerate(text.split("\n"), 1):
        fields = _fields(line)
        if not fields or fields[0].startswith("#"):
            continue
        marker = fields.pop(0) if fields[0].startswith("@") else ""
        if len(fields) < 3:
            continue  # OpenSSH skips lines it cannot read, too
        patterns, key_type, encoded = fields[:3]
        try:
            key = base64.b64decode(encoded, validate=True)
        except (ValueError, binascii.Error):
            continue
        yield KnownKey(marker, patterns, key_type, key, file, number)
