"""From a reference to the secret."""

from __future__ import annotations

from pydantic import SecretStr

from clustrix_prefect.credentials.cache import SecretCache, current_cache
from clustrix_prefect.credentials.onepassword import OnePasswordBlock
from clustrix_prefect.credentials.plain import find_plain, reference_in
from clustrix_prefect.credentials.references import OnePasswordReference, Reference
from clustrix_prefect.credentials.store_selection import choose_store
from clustrix_prefect.credentials.stores import FoundSecret


def resolve(
    value: SecretStr | str | None, *, store: OnePasswordBlock | str | None = None
) -> str | None:
    """Return the secret that a reference leads to; a plain value is the secret itself.

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
    text, reference = reference_in(value)
    return (text or None) if reference is None else find(reference, store=store).value


def find(reference: Reference, *, store: OnePasswordBlock | str | None = None) -> FoundSecret:
    """Return what a reference leads to, and what may be told of it.

    Raises:
        CredentialError: It cannot be resolved.
    """
    if isinstance(reference, OnePasswordReference):
        return _from_onepassword(reference, store, current_cache())
    return find_plain(reference)


def _from_onepassword(
    reference: OnePasswordReference, store: OnePasswordBlock | str | None, memory: SecretCache
) -> FoundSecret:
    name = store if isinstance(store, str) else None
    block = (
        store
        if isinstance(store, OnePasswordBlock)
        else memory.once(("store", name), lambda: choose_store(name, str(reference)))
    )
    return block.opened().find(reference, memory)
