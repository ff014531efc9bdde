"""Keys and signatures of calls and results.

A secret that never leaves this machine gives each flow run a key (HKDF, RFC 5869) and each
call a key of its own. Only the call's key travels, in a file that nobody but the user can
read. A result that does not carry a signature made with it is refused before it is
unpickled. This guards against other users of the cluster and against stale or swapped
files; it cannot guard against root there, or against a stolen account.
"""

from __future__ import annotations

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF, HKDFExpand
from prefect.settings import get_current_settings

from clustrix_prefect.errors import ConfigurationError

_KEY_BYTES = 32


def client_secret(path: Path | None = None) -> bytes:
    """This user's secret, made on first use.

    It lies in Prefect's home directory (`PREFECT_HOME`), so that a flow run that is started
    again on this machine can verify what its first process submitted.

    Raises:
        ConfigurationError: The file cannot be made, or others can read it.
    """
    path = path or get_current_settings().home / "clustrix-prefect" / "secret"
    try:
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Written under another name and linked: a second process never reads half a secret.
        fresh = path.with_name(f".{path.name}.{os.getpid()}.{secrets.token_hex(4)}")
        if not path.exists():
            descriptor = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            try:
                os.write(descriptor, secrets.token_bytes(_KEY_BYTES))
            finally:
                os.close(descriptor)
            try:
                os.link(fresh, path)
            except FileExistsError:
                pass
            finally:
                os.unlink(fresh)
        if path.stat().st_mode & 0o077:
            raise ConfigurationError(
                f"Others can read the signing secret {path}.",
                f"Run `chmod 600 {path}`, or delete the file to get a new one.",
            )
        secret = path.read_bytes()
    except OSError as error:
        raise ConfigurationError(
            f"The signing secret {path} cannot be used: {error}.",
            "Set PREFECT_HOME to a directory that you can write to.",
        ) from error
    if len(secret) < _KEY_BYTES:
        raise ConfigurationError(
            f"The signing secret {path} is too short.", "Delete the file to get a new one."
        )
    return secret


def run_key(secret: bytes, run_id: str) -> bytes:
    """Return the key of one flow run."""
    info = b"clustrix-run/1\n" + run_id.encode()
    return HKDF(SHA256(), _KEY_BYTES, salt=None, info=info).derive(secret)


def call_key(key_of_run: bytes, call_id: str) -> bytes:
    """Return the key of one call, the only one that leaves this machine."""
    info = b"clustrix-call/1\n" + call_id.encode()
    return HKDFExpand(SHA256(), _KEY_BYTES, info=info).derive(key_of_run)


def sign(key: bytes, *parts: str) -> str:
    """Return the signature over these parts, in hexadecimal."""
    return hmac.new(key, _encoded("\n".join(parts)), hashlib.sha256).hexdigest()


def verify(key: bytes, signature: str, *parts: str) -> bool:
    """Return whether the signature fits, compared in constant time."""
    return hmac.compare_digest(_encoded(sign(key, *parts)), _encoded(signature))


def _encoded(text: str) -> bytes:
    """Return the bytes of a text that may be anything."""
    return text.encode(errors="backslashreplace")
