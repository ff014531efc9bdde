"""From a reference to the secret."""

from __future__ import annotations

import os

from pydantic import SecretStr

from clustrix_prefect.credentials import prefect_blocks
from clustrix_prefect.credentials.cache import SecretCache, current_cache
from clustrix_prefect.credentials.onepassword import OnePasswordBlock
from clustrix_prefect.credentials.references import (
    BlockReference,
    EnvironmentReference,
    OnePasswordReference,
    Reference,
    parse,
)
from clustrix_prefect.credentials.store_selection import choose_store
from clustrix_prefect.credentials.stores import Found
from clustrix_prefect.errors import CredentialError, CredentialNotFound

# What the Prefect API shows in the place of a secret.
_MASK = "********"


def resolve(
    value: SecretStr | str | None, *, store: OnePasswordBlock | str | None = None
) -> str | None:
    """The secret that a reference leads to; a plain value is the secret itself.

    In a flow run each reference is resolved once, and forgotten with the run. What a reference
    leads to is never taken for another reference.

    Args:
        value: A reference or a secret.
        store: The block that `op://` references are read from, or its name, such as
            "onepassword-connect/team". Default: what the environment says, or else the only
            such block that is saved.

    Raises:
        CredentialError: It cannot be resolved. The message names the reference and the store.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else value
    if not text:
        return None
    reference = parse(text)
    if reference is not None:
        return find(reference, store=store).value
    if text == _MASK:
        raise CredentialError(
            f"A secret is {_MASK!r}, which the Prefect API shows in the place of secrets.",
            "Save the block again with the secret, or with a reference to it.",
        )
    return text


def find(reference: Reference, *, store: OnePasswordBlock | str | None = None) -> Found:
    """What a reference leads to, and what may be told of it.

    Raises:
        CredentialError: It cannot be resolved.
    """
    memory = current_cache()
    if isinstance(reference, EnvironmentReference):
        return memory.once(reference, lambda: _from_environment(reference))
    if isinstance(reference, BlockReference):
        return prefect_blocks.find(reference, memory)
    return _from_onepassword(reference, store, memory)


def _from_environment(reference: EnvironmentReference) -> Found:
    value = os.environ.get(reference.name)
    if not value:
        is_empty = "is empty" if value == "" else "is not set"
        raise CredentialNotFound(
            f"{reference}: the variable {reference.name} {is_empty} in the flow's environment.",
            "Set it where the flow runs, in its shell, container or worker.",
            reference=str(reference),
            store="the flow's environment",
        )
    return Found(value=value, store="the flow's environment")


def _from_onepassword(
    reference: OnePasswordReference, store: OnePasswordBlock | str | None, memory: SecretCache
) -> Found:
    name = store if isinstance(store, str) else None
    block = (
        store
        if isinstance(store, OnePasswordBlock)
        else memory.once(("store", name), lambda: choose_store(name, str(reference)))
    )
    return block.opened().find(reference, memory)
