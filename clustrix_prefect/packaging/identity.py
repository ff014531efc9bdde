"""Hashes that say the same of the same code and data, in any process.

A call is found again by its id after the flow's process died and was started anew, so ids
must not depend on hash seeds, memory addresses or the order of sets, as the bytes of a
pickle usually do; those of `pickling.CallPickler` do not.
"""

from __future__ import annotations

import hashlib


def sha256(data: bytes | memoryview) -> str:
    """Return the digest by which the far side's store names these bytes."""
    return hashlib.sha256(data).hexdigest()


def digest(*parts: str) -> str:
    """Return one digest of several texts, unambiguous about where each ends."""
    return sha256("\n".join(f"{len(part)}:{part}" for part in parts).encode())
