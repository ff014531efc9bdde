"""JSON, pickles and digests, by the C functions that the standard library wraps.

A job starts an interpreter for each call. Importing `json`, `pickle`, `hashlib` and what they
need takes longer than that start, and most calls do with what is here. Where an interpreter
lacks one of the C modules, the library's own takes its place.

What a job's worker imports leaves out `typing`, too: hence the quoted annotations.
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

try:
    from _pickle import Unpickler, dumps, loads
except ImportError:
    from pickle import Unpickler, dumps, loads

try:
    from _operator import _compare_digest as compare_digest
except ImportError:
    from hmac import compare_digest  # type: ignore[no-redef]

try:
    from _sha2 import sha256 as _sha256  # type: ignore[import-not-found]  # from 3.12 on
except ImportError:
    try:
        from _sha256 import sha256 as _sha256  # type: ignore[import-not-found]
    except ImportError:
        from hashlib import sha256 as _sha256

__all__ = [
    "Unpickler",
    "compare_digest",
    "dumps",
    "from_json",
    "hmac_sha256",
    "loads",
    "sha256",
    "to_json",
]

# OpenSSL, which `hashlib` loads, is several times as fast.
_LARGE = 1024 * 1024
_BLOCK = 64
_INNER = bytes(byte ^ 0x36 for byte in range(256))
_OUTER = bytes(byte ^ 0x5C for byte in range(256))


def sha256(data: "Any") -> str:
    """Return the hexadecimal digest that names these bytes."""
    if len(data) > _LARGE:
        import hashlib

        return hashlib.sha256(data).hexdigest()
    return str(_sha256(data).hexdigest())


def hmac_sha256(key: bytes, message: bytes) -> str:
    """HMAC-SHA256 (RFC 2104) in hexadecimal; the key is no longer than a block."""
    padded = key.ljust(_BLOCK, b"\0")
    inner = _sha256(padded.translate(_INNER) + message).digest()
    return str(_sha256(padded.translate(_OUTER) + inner).hexdigest())


class _JSONOptions:
    strict = True
    object_hook = None
    object_pairs_hook = None
    parse_float = float
    parse_int = int
    parse_constant = float
    memo = {}  # type: dict[str, str]


def _refuse(value: "Any") -> "Any":
    raise TypeError("{} cannot be written as JSON".format(type(value).__name__))


try:
    from _json import encode_basestring_ascii, make_encoder, make_scanner
except ImportError:
    import json

    def to_json(value: "Any") -> str:
        """Return the value as one line of JSON."""
        return json.dumps(value, separators=(",", ":"))

    def from_json(text: str) -> "Any":
        """Return the value of a JSON text without blanks around it."""
        return json.loads(text)
else:
    _scan = make_scanner(_JSONOptions)  # type: ignore[arg-type]  # any object will do
    _encode = make_encoder(
        None, _refuse, encode_basestring_ascii, None, ":", ",", False, False, True
    )

    def to_json(value: "Any") -> str:
        """Return the value as one line of JSON."""
        return "".join(_encode(value, 0))

    def from_json(text: str) -> "Any":
        """Return the value of a JSON text without blanks around it."""
        try:
            return _scan(text, 0)[0]
        except StopIteration as error:
            raise ValueError("not JSON: {!r}".format(text[:80])) from error
