"""A call's arguments as bytes that travel, the same in any process."""

from __future__ import annotations

import io
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from clustrix_prefect.packaging.blobs import (
    LARGE,
    Blob,
    BlobReferences,
    Carry,
    is_long,
    may_be_large,
)
from clustrix_prefect.packaging.by_source import SourcePickler
from clustrix_prefect.packaging.by_value import ValuePickler, namespaces_of
from clustrix_prefect.packaging.essence import holds_more_than_atoms, identity_of, may_hold_sets
from clustrix_prefect.packaging.identity import sha256
from clustrix_prefect.packaging.pickling import HERE, CallPickler, Met
from clustrix_prefect.transfer.digests import FileDigests


@dataclass(frozen=True)
class PackedArguments:
    """The arguments of one call.

    Attributes:
        payload: The pickle of `(args, kwargs)`.
        payload_sha256: The name of the payload in the far side's store.
        identity: The same for equal arguments, in any process.
        blobs: What has to be on the cluster: large values, files, folders.
        refers: Whether the payload refers to anything outside it.
        met: The user's code that the payload names, and that has to travel with it.
    """

    payload: bytes
    payload_sha256: str
    identity: str
    blobs: tuple[Blob, ...] = ()
    refers: bool = False
    met: frozenset[Met] = frozenset()


def pack_arguments(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    python: tuple[int, int],
    task_name: str,
    store: str = "",
    carry: Carry | None = None,
    home: str | None = None,
) -> PackedArguments:
    """Pickle the arguments of a call.

    Args:
        args: The positional ones.
        kwargs: Those by name.
        python: The far side's Python version, as (major, minor).
        task_name: Whose arguments they are, for errors.
        store: The id of the store of the cluster that they go to.
        carry: Gives the blobs of what is in another one; None: that is refused.
        home: The user's module in which the task's function was written.

    Raises:
        NotPortable: Something in them cannot travel.
    """
    name = f"an argument of {task_name!r}"
    namespaces = namespaces_of(home)
    is_canonical = True

    def pickle_value(value: Any, blobs: BlobReferences, buffer: io.BytesIO | None = None) -> bytes:
        nonlocal is_canonical
        buffer = io.BytesIO() if buffer is None else buffer
        if python == HERE:
            pickler: CallPickler = ValuePickler(buffer, namespaces, blobs.refer)
        else:
            pickler = SourcePickler(buffer, python, blobs.refer)
        pickler.dump_named(value, name)
        blobs.met.update(pickler.met)
        data = buffer.getvalue()
        is_canonical &= getattr(pickler, "is_canonical", True)
        is_canonical &= not (may_hold_sets(data) and holds_more_than_atoms(value))
        return data

    blobs = BlobReferences(pickle_value, _file_digests(), store, carry)
    if not any(map(may_be_large, (*args, *kwargs.values()))):
        payload = pickle_value((args, dict(kwargs)), blobs)
    else:
        try:
            payload = pickle_value(blobs.apart(args, kwargs, is_long), blobs, _Bounded())
        except _TooLarge:
            payload = pickle_value(blobs.apart(args, kwargs, may_be_large), blobs)
    found = tuple(blobs.found.values())
    payload_sha256 = sha256(payload)
    identity = payload_sha256 if is_canonical else identity_of((args, dict(kwargs)), namespaces)
    return PackedArguments(
        payload, payload_sha256, identity, found, blobs.refers, frozenset(blobs.met)
    )


class _TooLarge(BaseException):
    """There is more than fits; no error, so it is none that pickling a value describes."""


class _Bounded(io.BytesIO):
    """Takes what is not worth looking for large values in."""

    def write(self, data: Any) -> int:
        if self.tell() + memoryview(data).nbytes >= LARGE:
            raise _TooLarge
        return super().write(data)


@cache
def _file_digests() -> FileDigests:
    return FileDigests()
