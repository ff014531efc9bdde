"""Signatures of calls and results (HMAC-SHA256 with the key of the call)."""

from .fast_stdlib import compare_digest, hmac_sha256, sha256

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Tuple

__all__ = [
    "call_is_signed",
    "parts_of_call",
    "parts_of_result",
    "sha256",
    "sign",
    "sign_result",
]


def sign(key: bytes, *parts: str) -> str:
    """Return the signature over these parts, in hexadecimal."""
    return hmac_sha256(key, "\n".join(parts).encode("ascii"))


def parts_of_call(call: "Dict[str, Any]") -> "Tuple[str, ...]":
    """Return what of a call is signed, in order."""
    return (
        "clustrix-call/1",
        call["id"],
        str(call["attempt"]),
        call["bundle"],
        call["captured"] or "",
        call["payload_sha256"],
    )


def parts_of_result(call_id: str, attempt: int, status: str, digest: str) -> "Tuple[str, ...]":
    """Return what of a result is signed, in order.

    Args:
        call_id: The call's id.
        attempt: Which attempt of it.
        status: How it ended, such as "ok".
        digest: The SHA-256 of the body, in hexadecimal.
    """
    return "clustrix-result/1", call_id, str(attempt), "result", status, digest


def call_is_signed(call: "Dict[str, Any]") -> bool:
    """Return whether a call's signature fits what it says it runs."""
    expected = sign(bytes.fromhex(call["key"]), *parts_of_call(call))
    return compare_digest(expected, str(call.get("mac", "")))


def sign_result(call: "Dict[str, Any]", status: str, body_sha256: str) -> str:
    """Return the signature of a call's result."""
    signed = parts_of_result(call["id"], call["attempt"], status, body_sha256)
    return sign(bytes.fromhex(call["key"]), *signed)
