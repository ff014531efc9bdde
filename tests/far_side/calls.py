"""Signed calls of functions given as source, which every Python version can run."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import pickle
import secrets
import sys
import textwrap
from dataclasses import dataclass, field
from typing import Any

CONTEXT = {
    "flow_run": {"id": "flow-1", "name": "brave-owl", "parameters": {"n": 3}},
    "task_run": {"id": "task-1", "name": "fit-0", "tags": ["slow"], "run_count": 1},
    "log_prints": True,
    "log_level": 20,
}
INLINE_BYTES = 16 * 1024


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def bundle(source: str, **changes: Any) -> bytes:
    """A bundle of a function `f` that is defined by this source."""
    piece = {
        "path": "user_code.py",
        "line": 1,
        "source": textwrap.dedent(source),
        "annotations": False,
        "wrapped": {},
    }
    document = {
        "python": list(sys.version_info[:2]),
        "entry": {"module": "user_code", "name": "f"},
        "modules": [],
        "slices": [{"name": "user_code", "package": "", "path": "", "pieces": [piece]}],
        "inner": [],
        **changes,
    }
    return json.dumps(document).encode()


def sign(key: bytes, *parts: str) -> str:
    return hmac.new(key, "\n".join(parts).encode(), "sha256").hexdigest()


@dataclass
class Call:
    """A call of `f`, and the blobs that it needs."""

    source: str
    args: tuple[Any, ...] = ()
    context: dict[str, Any] = field(default_factory=dict)
    key: bytes = field(default_factory=lambda: secrets.token_bytes(32))
    id: str = field(default_factory=lambda: secrets.token_hex(32))

    def __post_init__(self) -> None:
        self.bundle = bundle(self.source)
        self.captured: bytes | None = None
        self.payload = pickle.dumps((self.args, {}), 4)

    @property
    def blobs(self) -> list[bytes]:
        large = len(self.payload) > INLINE_BYTES
        blobs = [self.bundle, self.payload] if large else [self.bundle]
        return blobs if self.captured is None else [*blobs, self.captured]

    def manifest(self, **changes: Any) -> dict[str, Any]:
        inline = len(self.payload) <= INLINE_BYTES
        captured = None if self.captured is None else sha256(self.captured)
        parts = (
            *("clustrix-call/1", self.id, "0"),
            *(sha256(self.bundle), captured or "", sha256(self.payload)),
        )
        return {
            "id": self.id,
            "key": self.key.hex(),
            "attempt": 0,
            "bundle": sha256(self.bundle),
            "captured": captured,
            "payload_sha256": sha256(self.payload),
            "inline": base64.b64encode(self.payload).decode() if inline else None,
            "mac": sign(self.key, *parts),
            "context": {**CONTEXT, **self.context},
            **changes,
        }

    def is_signed(self, header: dict[str, Any], body: bytes) -> bool:
        """Whether a result is this call's, and has not been changed."""
        parts = ("clustrix-result/1", self.id, "0", "result", header["status"], sha256(body))
        return hmac.compare_digest(sign(self.key, *parts), header["mac"])
