"""Asking `op`, 1Password's command line, with nobody there to answer its questions."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import re
import signal
import subprocess
import threading
from itertools import product
from typing import IO, Any

from clustrix_prefect.credentials.cache import SecretCache
from clustrix_prefect.credentials.references import OnePasswordReference, spellings
from clustrix_prefect.credentials.stores import FoundSecret, field_of
from clustrix_prefect.errors import (
    CredentialError,
    CredentialForbidden,
    CredentialNotFound,
    CredentialStoreUnavailable,
)

_LARGEST_ANSWER = 16 * 2**20
# Settings that would lead op elsewhere than to the service account, or have it ask somebody.
_NOT_INHERITED = re.compile(r"OP_(?!CONFIG_DIR)|PREFECT_|CLUSTRIX_")
_QUIET = {"OP_BIOMETRIC_UNLOCK_ENABLED": "false", "OP_LOAD_DESKTOP_APP_SETTINGS": "false"}
_TIME = re.compile(r"^\[ERROR\] \d{4}/\d\d/\d\d \d\d:\d\d:\d\d ")

# Names that people chose may hold any word.
_QUOTED = re.compile(r'"[^"]*"')

# What op 2 says on its standard error, what that is, and what to do about it. Words of its known
# messages: the digits 401, 403 and 429 are also in ports, times and request ids. What comes from
# the network or the disk is first, as Go quotes whatever a proxy or a path has in it.
_SAYINGS: tuple[tuple[re.Pattern[str], type[CredentialError], str], ...] = (
    (
        re.compile(
            r"\b(dial|read|write|proxyconnect|lookup) (tcp|udp)\b|\blookup \S+: |no such host"
            r"|connection (refused|reset)|network is unreachable|no route to host|i/o timeout"
            r"|timeout exceeded|deadline exceeded|TLS handshake|\bx509:|\bEOF$",
            re.I,
        ),
        CredentialStoreUnavailable,
        "Check that 1Password can be reached from here; `op vault list` with the same "
        "OP_SERVICE_ACCOUNT_TOKEN shows more.",
    ),
    (
        re.compile(r"\b(open|mkdir|l?stat|fork/exec|rename|chmod|unlink|connect) /[^:]*: ", re.I),
        CredentialStoreUnavailable,
        "Let op have its own directory (OP_CONFIG_DIR, by default ~/.config/op), only for you.",
    ),
    (
        re.compile(
            r"\bisn't an? (vault|item|field|section)\b|\bno (item|vault)s? (found|matches)\b"
            r"|\b(item|vault) (was |is )?not found\b|\(Not Found\)|\bdoesn't exist\b"
            r"|\b(could not|couldn't|cannot|can't) find (the |an? )?(item|vault)\b",
            re.I,
        ),
        CredentialNotFound,
        "Correct the reference, or give the service account access to the vault.",
    ),
    (
        re.compile(r"\bmore than one (item|vault)\b", re.I),
        CredentialNotFound,
        "Write the id into the reference instead of the name.",
    ),
    (
        re.compile(r"\btoo many requests\b|\brate.?limit(s|ed)?\b", re.I),
        CredentialStoreUnavailable,
        "The service account's quota is used up: ask less often, or wait.",
    ),
    (
        re.compile(
            r"\bunauthori[sz]ed\b|\baren't authori[sz]ed to perform\b"
            r"|\b(invalid|expired|revoked|deleted) (service account |access |auth )?token\b"
            r"|\btoken (is |was |has |has been |was been )?(invalid|expired|revoked|deleted)\b"
            r"|\bDecodeSACredentials\b|\bdeserialization failed\b|\bsign.?in credentials\b"
            r"|\bnot (currently )?signed in\b",
            re.I,
        ),
        CredentialForbidden,
        "The service account's token is wrong or has expired: make a new one.",
    ),
    (
        re.compile(
            r"\bforbidden\b|\baccess denied\b|\binsufficient permissions?\b"
            r"|\b(don't|doesn't|do not|does not) have (the )?((required|necessary) )?"
            r"(permissions?|access)\b",
            re.I,
        ),
        CredentialForbidden,
        "Give the service account access to the vault.",
    ),
)
_UNKNOWN = (
    CredentialStoreUnavailable,
    "Run `op vault list` with the same OP_SERVICE_ACCOUNT_TOKEN to see more.",
)


class OpProgram:
    """The `op` program with a service account.

    Args:
        executable: Its name or path.
        token: The service account's token; it reaches op in its environment.
        seconds: How long one run of it may take.
    """

    def __init__(self, executable: str, token: str, seconds: float) -> None:
        self.description = f"1Password through {executable}"
        self._executable = executable
        self._token = token
        self._seconds = seconds
        self._key = ("op", executable, hashlib.sha256(token.encode()).hexdigest())

    def find(self, reference: OnePasswordReference, memory: SecretCache) -> FoundSecret:
        """Read one field; op is run once for all fields of an item."""
        if reference.attribute is not None:  # a code holds for seconds
            return field_of(self._item(reference), reference, self.description)
        key = (*self._key, reference.vault, reference.item)
        item = memory.once(key, lambda: self._item(reference))
        return field_of(item, reference, self.description)

    def _item(self, reference: OnePasswordReference) -> Any:
        """The item. Letters with marks have two spellings, which op tells from each other."""
        refused = None
        for vault, item in product(spellings(reference.vault), spellings(reference.item)):
            command = ["item", "get", f"--vault={vault}", "--format=json", "--", item]
            try:
                return self._json(str(reference), command)
            except CredentialNotFound as error:
                refused = refused or error
        assert refused is not None
        raise refused

    def vaults(self) -> list[str]:
        """Return the names of the vaults that the service account may see."""
        found = self._json("the list of vaults", ["vault", "list", "--format=json"])
        return [str(vault.get("name")) for vault in found if isinstance(vault, dict)]

    def _json(self, reference: str, arguments: list[str]) -> Any:
        status, output, said = self._run(reference, arguments)
        if status != 0:
            raise self._refusal(reference, status, said)
        try:
            return json.loads(output)
        except ValueError:
            # Not chained: the error holds what could not be read, secrets included.
            raise self._error(
                CredentialStoreUnavailable,
                reference,
                "printed something that is not JSON",
                "Check that op is 1Password's own, version 2 (`op --version`).",
            ) from None

    def _refusal(self, reference: str, status: int, said: str) -> CredentialError:
        lines = [_TIME.sub("", line) for line in said.splitlines() if line.startswith("[ERROR]")]
        line = (lines or said.splitlines() or [""])[0].strip()
        said_so = f" and says: {line:.200}" if line else ""
        told = _QUOTED.sub('""', line)
        known = (saying[1:] for saying in _SAYINGS if saying[0].search(told))
        kind, remedy = next(known, _UNKNOWN)
        return self._error(kind, reference, f"ends with status {status}{said_so}", remedy)

    def _run(self, reference: str, arguments: list[str]) -> tuple[int, bytes, str]:
        """Run op: without a terminal, in a session of its own, which has to end in time."""
        try:
            process = subprocess.Popen(
                [self._executable, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                env=self._environment(),
                start_new_session=True,
            )
        except OSError as error:
            raise self._error(
                CredentialStoreUnavailable,
                reference,
                f"cannot be run ({error.strerror})",
                "Install 1Password's command line, version 2, or set the block's `executable`.",
            ) from error
        assert process.stdout is not None
        assert process.stderr is not None
        output, said = _Output(process.stdout, _LARGEST_ANSWER), _Output(process.stderr, 65536)
        try:
            status = process.wait(self._seconds)
        except subprocess.TimeoutExpired:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            raise self._error(
                CredentialStoreUnavailable,
                reference,
                f"did not end within {self._seconds:g} seconds and was killed",
                "If it waits for somebody to unlock 1Password, give it a service account's token; "
                "else check that 1Password can be reached from here.",
            ) from None
        # What it leaves running (its cache) may keep the pipes open for longer.
        for stream in (output, said):
            stream.ended.wait(0.5)
        if len(output.data) > _LARGEST_ANSWER:
            raise self._error(
                CredentialStoreUnavailable,
                reference,
                f"printed more than {_LARGEST_ANSWER >> 20} MiB",
                "Check that op is 1Password's own, version 2 (`op --version`).",
            )
        return status, bytes(output.data), bytes(said.data).decode(errors="replace")

    def _environment(self) -> dict[str, str]:
        inherited = {k: v for k, v in os.environ.items() if not _NOT_INHERITED.match(k)}
        return {**inherited, **_QUIET, "OP_SERVICE_ACCOUNT_TOKEN": self._token, "NO_COLOR": "1"}

    def _error(
        self, kind: type[CredentialError], reference: str, what: str, remedy: str
    ) -> CredentialError:
        what = f"{reference}: {self._executable} {what}.".replace(self._token, "(the token)")
        return kind(what, remedy, reference=reference, store=self.description)


class _Output:
    """What a program writes, read aside so that neither of two pipes blocks it."""

    def __init__(self, stream: IO[bytes], largest: int) -> None:
        self.data = bytearray()
        self.ended = threading.Event()
        self._stream, self._largest = stream, largest
        threading.Thread(target=self._read, name="clustrix-op", daemon=True).start()

    def _read(self) -> None:
        with self._stream, contextlib.suppress(OSError, ValueError):
            while chunk := os.read(self._stream.fileno(), 65536):
                self.data += chunk
                if len(self.data) > self._largest:
                    break
        self.ended.set()
