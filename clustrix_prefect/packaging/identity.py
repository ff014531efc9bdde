"""Hashes that say the same of the same code and data, in any process.

A call is found again by its id after the flow's process died and was started anew, so ids
must not depend on hash seeds, memory addresses or the order of sets, as the bytes of a
pickle do.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

from clustrix_prefect.packaging.pickling import ordered_digest

# Opcodes of pickle protocol 4 that announce a set or a frozenset (PEP 3154).
_SET_OPCODES = (b"\x8f", b"\x91")


def sha256(data: bytes | memoryview) -> str:
    """The digest by which the far side's store names these bytes."""
    return hashlib.sha256(data).hexdigest()


def digest(*parts: str) -> str:
    """One digest of several texts, unambiguous about where each ends."""
    return sha256("\n".join(f"{len(part)}:{part}" for part in parts).encode())


def arguments_identity(
    pickled: bytes,
    arguments: Any,
    refer: Callable[[Any], Any] | None = None,
    in_order: bool = False,
) -> str:
    """A hash of a call's arguments.

    Args:
        pickled: Their pickle.
        arguments: What it was made of, for the case that it holds sets, whose order in a
            pickle differs between processes.
        refer: Gives a reference to what is not in the pickle, the same in any process.
        in_order: Whether what it refers to holds sets.
    """
    if not in_order and not any(opcode in pickled for opcode in _SET_OPCODES):
        return sha256(pickled)
    try:
        return ordered_digest(arguments, refer)
    except Exception:  # only plain pickle can be ordered; what needs more keeps its own bytes
        return sha256(pickled)
