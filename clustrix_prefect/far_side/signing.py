"""Signatures of calls and results (HMAC-SHA256 with the key of the call)."""

import hashlib
import hmac
from typing import Any, Dict


def sha256(data: Any) -> str:
    """The hexadecimal digest that names these bytes."""
    return hashlib.sha256(data).hexdigest()


def sign(key: bytes, *parts: str) -> str:
    """The signature over these parts, in hexadecimal."""
    return hmac.new(key, "\n".join(parts).encode("ascii"), hashlib.sha256).hexdigest()


def call_is_signed(call: Dict[str, Any]) -> bool:
    """Whether a call's signature fits what it says it runs."""
    expected = sign(
        bytes.fromhex(call["key"]),
        "clustrix-call/1",
        call["id"],
        str(call["attempt"]),
        call["bundle"],
        call["payload_sha256"],
    )
    return hmac.compare_digest(expected, str(call.get("mac", "")))


def sign_result(call: Dict[str, Any], status: str, body_sha256: str) -> str:
    """The signature of a call's result."""
    return sign(
        bytes.fromhex(call["key"]),
        "clustrix-result/1",
        call["id"],
        str(call["attempt"]),
        "result",
        status,
        body_sha256,
    )
