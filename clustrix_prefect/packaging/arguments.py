"""A call's arguments as bytes that travel, the same in any process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any

from clustrix_prefect.packaging import pickling
from clustrix_prefect.packaging.identity import sha256
from clustrix_prefect.packaging.parts import Carry, Part, Parts
from clustrix_prefect.packaging.pickling import Met
from clustrix_prefect.transfer.digests import FileDigests


@dataclass(frozen=True)
class PackedArguments:
    """The arguments of one call.

    Attributes:
        payload: The pickle of `(args, kwargs)`.
        payload_sha256: The name of the payload in the far side's store, and of equal arguments
            in any process.
        parts: What has to be on the cluster: large values, files, folders.
        refers: Whether the payload refers to anything outside it.
        met: The user's code that the payload names, and that has to travel with it.
    """

    payload: bytes
    payload_sha256: str
    parts: tuple[Part, ...] = ()
    refers: bool = False
    met: frozenset[Met] = frozenset()


def pack_arguments(
    args: tuple[Any, ...],
    kwargs: Mapping[str, Any],
    python: tuple[int, int],
    task_name: str,
    store: str = "",
    carry: Carry | None = None,
) -> PackedArguments:
    """Pickle the arguments of a call.

    Args:
        args: The positional ones.
        kwargs: Those by name.
        python: The far side's Python version, as (major, minor).
        task_name: Whose arguments they are, for errors.
        store: The id of the store of the cluster that they go to.
        carry: Gives the parts of what is in another one; None: that is refused.

    Raises:
        NotPortable: Something in them cannot travel.
    """
    name = f"an argument of {task_name!r}"

    def pickle_value(value: Any, parts: Parts) -> bytes:
        pickled = pickling.dumps(value, python, name, parts.refer)
        parts.met.update(pickled.met)
        return pickled.data

    arguments = (args, kwargs)
    parts = Parts(pickle_value, _file_digests(), store, carry)
    parts.set_apart(*args, *kwargs.values())
    payload = pickle_value(arguments, parts)
    found = tuple(parts.found.values())
    return PackedArguments(payload, sha256(payload), found, parts.refers, frozenset(parts.met))


@cache
def _file_digests() -> FileDigests:
    return FileDigests()
