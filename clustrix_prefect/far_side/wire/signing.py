"""Signatures of calls and results (HMAC-SHA256 with the key of the call)."""

from .fast_stdlib import compare_digest, hmac_sha256, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict

__all__ = ["call_is_signed", "sha256", "sign", "sign_result"]


def sign(key: bytes, *parts: str) -> str:
    """The signature over these parts, in hexadecimal."""
    return hmac_sha256(key, "\n".join(parts).encode("ascii"))


def call_is_signed(call: "Dict[str, Any]") -> bool:
    """Whether a call's signature fits what it says it runs."""
    expected = sign(
        bytes.fromhex(call["key"]),
        "clustrix-call/1",
        call["id"],
        str(call["attempt"]),
        call["bundle"],
        call["captured"] or "",
        call["payload_sha256"],
    )
    return compare_digest(expected, str(call.get("mac", "")))


def sign_result(call: "Dict[str, Any]", status: str, body_sha256: str) -> str:
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
