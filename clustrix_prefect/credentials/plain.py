"""From a reference that needs no store to the secret: variables of the environment, blocks."""

from __future__ import annotations

import os

from pydantic import SecretStr

from clustrix_prefect.credentials import prefect_blocks
from clustrix_prefect.credentials.cache import current_cache
from clustrix_prefect.credentials.references import (
    BlockReference,
    EnvironmentReference,
    OnePasswordReference,
    Reference,
    parse,
)
from clustrix_prefect.credentials.stores import FoundSecret
from clustrix_prefect.errors import CredentialError, CredentialNotFound

# What the Prefect API shows in the place of a secret.
MASK = "********"


def find_plain(reference: EnvironmentReference | BlockReference) -> FoundSecret:
    """Return what a reference leads to, and what may be told of it.

    Raises:
        CredentialError: It cannot be resolved.
    """
    cache = current_cache()
    if isinstance(reference, BlockReference):
        return prefect_blocks.find(reference, cache)
    return cache.once(reference, lambda: _from_environment(reference))


def reference_in(value: SecretStr | str | None) -> tuple[str, Reference | None]:
    """Return the text of a secret or of a reference, and the reference if it is one.

    Raises:
        CredentialError: It is what the Prefect API shows in the place of a secret.
    """
    text = value.get_secret_value() if isinstance(value, SecretStr) else value or ""
    reference = parse(text) if text else None
    if reference is None and text == MASK:
        raise CredentialError(
            f"A secret is {MASK!r}, which the Prefect API shows in the place of secrets.",
            "Save the block again with the secret, or with a reference to it.",
        )
    return text, reference


def resolve_plain(value: SecretStr | None) -> str:
    """Return the secret that opens 1Password, which cannot lie there itself.

    Raises:
        CredentialError: It cannot be resolved.
    """
    text, reference = reference_in(value)
    if reference is None:
        return text
    if isinstance(reference, OnePasswordReference):
        raise CredentialError(
            f"{reference}: what opens 1Password cannot be read from there.",
            "Name a variable of the environment, env:NAME, or a block.",
            reference=str(reference),
            store="1Password",
        )
    return find_plain(reference).value


def _from_environment(reference: EnvironmentReference) -> FoundSecret:
    value = os.environ.get(reference.name)
    if not value:
        is_empty = "is empty" if value == "" else "is not set"
        raise CredentialNotFound(
            f"{reference}: the variable {reference.name} {is_empty} in the flow's environment.",
            "Set it where the flow runs, in its shell, container or worker.",
            reference=str(reference),
            store="the flow's environment",
        )
    return FoundSecret(value=value, store="the flow's environment")
