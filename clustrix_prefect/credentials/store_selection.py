"""Which way to 1Password a reference is read by."""

from __future__ import annotations

import os
from typing import cast

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError

from clustrix_prefect.credentials.onepassword import (
    STORES,
    OnePasswordBlock,
    OnePasswordCLI,
    OnePasswordConnect,
    store_name,
)
from clustrix_prefect.errors import CredentialStoreUnavailable

_REMEDY = (
    "Set OP_CONNECT_HOST and OP_CONNECT_TOKEN, or OP_SERVICE_ACCOUNT_TOKEN, or save a block: "
    'OnePasswordConnect(host=..., token=...).save("team").'
)


def choose_store(name: str | None, reference: str) -> OnePasswordBlock:
    """Return the block of this name; else what the environment says; else the only one saved.

    Raises:
        CredentialError: There is none, or it cannot be told which.
    """
    if name is not None:
        try:
            name = store_name(name)
        except ValueError as error:
            raise CredentialStoreUnavailable(
                f"{reference}: {error}.", reference=reference
            ) from None
    if name is None:
        if os.environ.get("OP_CONNECT_HOST") and os.environ.get("OP_CONNECT_TOKEN"):
            return OnePasswordConnect()
        if os.environ.get("OP_SERVICE_ACCOUNT_TOKEN"):
            return OnePasswordCLI()
        name = _only_saved(reference)
    slug, _, document = name.partition("/")
    try:
        # _sync: without it, a coroutine comes back wherever a loop is running.
        return cast("OnePasswordBlock", STORES[slug].load(document, _sync=True))  # type: ignore[call-arg]
    except ValueError as error:
        if not isinstance(error.__cause__, ObjectNotFound):
            raise
        raise CredentialStoreUnavailable(
            f"{reference}: there is no block {name!r} to read it with.",
            _REMEDY,
            reference=reference,
            store=name,
        ) from error
    except httpx.HTTPError as error:
        raise _prefect_is_away(reference, error) from error


def _only_saved(reference: str) -> str:
    try:
        with get_client(sync_client=True) as client:
            names = [f"{slug}/{name}" for slug in STORES for name in _saved(client, slug)]
    except (httpx.HTTPError, RuntimeError, ValueError) as error:
        raise _prefect_is_away(reference, error) from error
    if len(names) == 1:
        return names[0]
    if names:
        raise CredentialStoreUnavailable(
            f"{reference}: there are several ways to 1Password: {', '.join(names)}.",
            "Say which in the block that holds the reference (its field `secret_store`), or with "
            "resolve(..., store=...).",
            reference=reference,
        )
    raise CredentialStoreUnavailable(
        f"{reference}: nothing says how 1Password is to be asked.", _REMEDY, reference=reference
    )


def _saved(client: SyncPrefectClient, slug: str) -> list[str]:
    try:
        documents = client.read_block_documents_by_type(slug, include_secrets=False)
    except (ObjectNotFound, PrefectHTTPStatusError):  # no block of this type was ever saved
        return []
    return [document.name for document in documents if document.name and not document.is_anonymous]


def _prefect_is_away(reference: str, error: Exception) -> CredentialStoreUnavailable:
    return CredentialStoreUnavailable(
        f"{reference}: the Prefect API cannot be asked for the way to 1Password ({error}).",
        _REMEDY,
        reference=reference,
    )
