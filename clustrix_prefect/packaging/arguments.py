"""A call's arguments as bytes that travel, and a hash that names them in any process."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from clustrix_prefect.packaging import pickling
from clustrix_prefect.packaging.identity import arguments_identity, sha256


@dataclass(frozen=True)
class PackedArguments:
    """The arguments of one call.

    Attributes:
        payload: The pickle of `(args, kwargs)`.
        payload_sha256: The name of the payload in the far side's store.
        identity: The same for equal arguments, in any process.
    """

    payload: bytes
    payload_sha256: str
    identity: str


def pack_arguments(
    args: tuple[Any, ...], kwargs: Mapping[str, Any], python: tuple[int, int], task_name: str
) -> PackedArguments:
    """Pickle the arguments of a call.

    Args:
        args: The positional ones.
        kwargs: Those by name.
        python: The far side's Python version, as (major, minor).
        task_name: Whose arguments they are, for errors.

    Raises:
        NotPortable: Something in them cannot travel.
    """
    arguments = (args, kwargs)
    payload = pickling.dumps(arguments, python, f"an argument of {task_name!r}")
    return PackedArguments(payload, sha256(payload), arguments_identity(payload, arguments))
