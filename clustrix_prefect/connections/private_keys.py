"""Private keys, from files and from text, in any format that OpenSSH writes or reads.

`paramiko.PKey.from_path` (5.1) reads no PKCS #8, fails at a certificate beside the key that is
none, and says neither that a passphrase is wrong nor that it is needless.
"""

from __future__ import annotations

import io
import re
from pathlib import Path

import paramiko
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

_ONE_LINE = re.compile(r"(-----BEGIN [A-Z ]+-----)([^\n]+)(-----END [A-Z ]+-----)")


class UnusableKey(Exception):
    """A private key that cannot be used, and why: "is encrypted and ..."."""


def key_from_file(path: Path, passphrase: str | None) -> paramiko.PKey:
    """Load a private key file.

    Raises:
        UnusableKey: It is missing, unreadable, encrypted or no private key.
    """
    try:
        text = path.read_text()
    except FileNotFoundError:
        raise UnusableKey("does not exist") from None
    except OSError as error:
        raise UnusableKey(f"cannot be read ({error.strerror})") from error
    except UnicodeDecodeError as error:
        raise UnusableKey("is not a private key") from error
    return key_from_text(text, passphrase)


def key_from_text(text: str, passphrase: str | None) -> paramiko.PKey:
    """Load a private key.

    A form field may have eaten the line ends of a pasted key; they are put back.

    Raises:
        UnusableKey: It is encrypted, not a private key, or of an unknown type.
    """
    text = _ONE_LINE.sub(_with_line_ends, text.strip().replace("\r\n", "\n")) + "\n"
    private = _read(text.encode(), passphrase)
    if isinstance(private, rsa.RSAPrivateKey):
        kind: type[paramiko.PKey] = paramiko.RSAKey
    elif isinstance(private, ec.EllipticCurvePrivateKey):
        kind = paramiko.ECDSAKey
    elif isinstance(private, ed25519.Ed25519PrivateKey):
        kind = paramiko.Ed25519Key
    else:
        raise UnusableKey(f"is of an unsupported type ({type(private).__name__})")
    plain = private.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.OpenSSH,
        serialization.NoEncryption(),
    )
    return kind.from_private_key(io.StringIO(plain.decode()))


def public_blob(path: Path) -> bytes | None:
    """Return the public key that a file holds (or the `.pub` beside it), as SSH sends it."""
    for candidate in (path, path.with_name(path.name + ".pub")):
        try:
            fields = candidate.read_text().split()
        except (OSError, UnicodeDecodeError):
            continue
        if len(fields) >= 2 and fields[0].startswith(("ssh-", "ecdsa-", "sk-")):
            try:
                return paramiko.pkey.PublicBlob.from_string(" ".join(fields[:2])).key_blob
            except ValueError:
                continue
    return None


def _read(data: bytes, passphrase: str | None) -> object:
    openssh = b"BEGIN OPENSSH PRIVATE KEY" in data
    load = serialization.load_ssh_private_key if openssh else serialization.load_pem_private_key
    try:
        try:
            return load(data, passphrase.encode() if passphrase else None)
        except TypeError:
            if not passphrase:
                raise UnusableKey("is encrypted and no passphrase was given") from None
            return load(data, None)  # a passphrase for a key that needs none
    except (ValueError, UnsupportedAlgorithm) as error:
        if passphrase:
            raise UnusableKey("cannot be read with this passphrase") from error
        raise UnusableKey("is not a private key") from error


def _with_line_ends(match: re.Match[str]) -> str:
    body = re.sub(r"\s+", "", match[2])
    lines = [body[start : start + 70] for start in range(0, len(body), 70)]
    return "\n".join([match[1], *lines, match[3]])
