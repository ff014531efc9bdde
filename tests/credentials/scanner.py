"""Looking for secrets: in bytes, files, databases and processes, in every form that they take."""

from __future__ import annotations

import base64
import binascii
import contextlib
import json
import os
import re
import sqlite3
import zlib
from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from urllib.parse import quote, quote_plus

from ahocorasick_rs import BytesAhoCorasick

_BASE64 = re.compile(rb"[A-Za-z0-9+/_-]{24,}={0,2}")
_ZLIB = re.compile(rb"\x78[\x01\x5e\x9c\xda]")
_GZIP = re.compile(rb"\x1f\x8b\x08")
_DEEPEST = 4
_PIECE = 2**14
_MOST = 64 * 2**20
_SHORTEST = 8  # no form of a secret is shorter


def forms_of(secret: bytes) -> dict[bytes, str]:
    """What a secret looks like when it was written by somebody: the bytes, and their name."""
    forms = {secret: "plain", secret.hex().encode(): "hex"}
    for offset in range(3):  # its place within what was encoded decides what it looks like
        encoded = base64.b64encode(b"\0" * offset + secret)
        # The first and last characters also depend on its neighbours.
        inside = encoded[
            (0, 2, 3)[offset] : len(encoded) - (4 if (offset + len(secret)) % 3 else 0)
        ]
        forms[inside] = "base64"
        forms[inside.replace(b"+", b"-").replace(b"/", b"_")] = "base64 for URLs"
    try:
        text = secret.decode()
    except UnicodeDecodeError:
        return forms
    escaped = {json.dumps(text, ensure_ascii=ascii_only)[1:-1] for ascii_only in (True, False)}
    for once in escaped:
        forms.setdefault(once.encode(), "JSON")
        forms.setdefault(json.dumps(once)[1:-1].encode(), "JSON in JSON")
        forms.setdefault(once.replace("/", "\\/").encode(), "JSON")
    for encoded_text in (quote(text), quote(text, safe=""), quote_plus(text)):
        forms.setdefault(encoded_text.encode(), "URL")
    forms.setdefault(repr(text)[1:-1].encode(), "repr")
    forms.setdefault(text.encode("utf-16-le"), "UTF-16")
    return forms


@dataclass
class Scanner:
    """Finds secrets by the names that they are given.

    Args:
        secrets: What to look for.

    Attributes:
        looked_at: How many bytes were scanned.
    """

    secrets: Mapping[str, bytes | str]
    looked_at: int = 0
    _names: list[str] = field(init=False)
    _finder: BytesAhoCorasick = field(init=False)

    def __post_init__(self) -> None:
        forms: dict[bytes, str] = {}
        for name, secret in self.secrets.items():
            raw = secret.encode() if isinstance(secret, str) else secret
            for form, kind in forms_of(raw).items():
                forms.setdefault(form, f"{name} ({kind})")
        self._names = list(forms.values())
        self._finder = BytesAhoCorasick(list(forms))

    def in_bytes(self, data: bytes, deep: int = 0) -> set[str]:
        """The names of the secrets in this, and in what is compressed or encoded in it."""
        self.looked_at += len(data)
        found = self._in_plain(data)
        if deep < _DEEPEST:
            # MIME's base64 is wrapped, and within JSON its line ends are escaped.
            unwrapped = data.replace(b"\\n", b"").replace(b"\r", b"").replace(b"\n", b"")
            found |= self._in_plain(unwrapped)
            for inner in (*_compressed(data), *_encoded(unwrapped)):
                found |= self.in_bytes(inner, deep + 1)
        return found

    def _in_plain(self, data: bytes) -> set[str]:
        matches = self._finder.find_matches_as_indexes(data, overlapping=True)
        return {self._names[number] for number, _, _ in matches}

    def in_files(
        self, *roots: Path, without: Collection[Path] = (), since: float = 0.0
    ) -> dict[str, set[str]]:
        """By path: the names and contents of all files below that changed since a time."""
        found: dict[str, set[str]] = {}
        for root in roots:
            for directory, below, names in os.walk(root):
                below[:] = [name for name in below if Path(directory) / name not in without]
                for name in names:
                    path = Path(directory) / name
                    if path.is_symlink() or not path.is_file():
                        continue
                    try:
                        if path.stat().st_ctime < since:
                            continue
                        content = path.read_bytes()
                    except OSError:  # gone meanwhile
                        continue
                    if here := self.in_bytes(os.fsencode(path)) | self.in_bytes(content):
                        found[str(path)] = here
        return found

    def in_database(self, path: Path) -> dict[str, set[str]]:
        """By table and column: every cell of an SQLite database."""
        found: dict[str, set[str]] = {}
        connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
        connection.text_factory = bytes
        tables = connection.execute("SELECT name FROM sqlite_master WHERE type='table'").fetchall()
        for (table,) in tables:
            rows = connection.execute(f'SELECT * FROM "{table.decode()}"')
            columns = [column[0] for column in rows.description]
            for row in rows:
                for column, value in zip(columns, row, strict=True):
                    if isinstance(value, bytes) and (here := self.in_bytes(value)):
                        found.setdefault(f"{table.decode()}.{column}", set()).update(here)
        connection.close()
        return found

    def in_processes(self, *but: int) -> dict[str, set[str]]:
        """By process and kind: the command line and environment of all processes but these."""
        found: dict[str, set[str]] = {}
        for entry in Path("/proc").iterdir():
            if not entry.name.isdigit() or int(entry.name) in but:
                continue
            for kind in ("environ", "cmdline"):
                try:
                    data = (entry / kind).read_bytes()
                except OSError:  # it has ended
                    continue
                if here := self.in_bytes(data):
                    found[f"{entry.name} {kind}"] = here
        return found


def _compressed(data: bytes) -> Iterator[bytes]:
    """Decompress what is compressed; what comes before an error, or the end, is looked at, too.

    The two bytes that zlib begins with stand in any binary file by chance: where a piece of it
    shows that it is no such thing, nothing is copied and the rest is not touched.
    """
    view = memoryview(data)
    for pattern, bits in ((_ZLIB, 15), (_GZIP, 31)):
        for match in pattern.finditer(data):
            decompressor = zlib.decompressobj(bits)
            plain = bytearray()
            with contextlib.suppress(zlib.error):
                for start in range(match.start(), len(data), _PIECE):
                    plain += decompressor.decompress(view[start : start + _PIECE], _MOST)
                    if decompressor.eof or len(plain) >= _MOST:
                        break
            if len(plain) >= _SHORTEST:
                yield bytes(plain)


def _encoded(data: bytes) -> Iterator[bytes]:
    for match in _BASE64.finditer(data):
        text = match[0].rstrip(b"=").replace(b"-", b"+").replace(b"_", b"/")
        text = text[: len(text) - (len(text) % 4 == 1)]
        try:
            decoded = base64.b64decode(text + b"=" * (-len(text) % 4))
        except (ValueError, binascii.Error):
            continue
        yield decoded
