"""Reading a secret from a block of the Prefect server."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import httpx
from prefect.client.orchestration import get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from clustrix_prefect.credentials.cache import SecretCache
from clustrix_prefect.credentials.references import BlockReference
from clustrix_prefect.credentials.stores import FoundSecret
from clustrix_prefect.errors import (
    CredentialError,
    CredentialForbidden,
    CredentialNotFound,
    CredentialStoreUnavailable,
)


def find(reference: BlockReference, memory: SecretCache) -> FoundSecret:
    """Read one field of a block; the block is asked for once.

    Raises:
        CredentialError: There is no such block or field, or the API cannot be asked.
    """
    store = f"Prefect at {PREFECT_API_URL.value() or 'its own server'}"
    document = memory.once(
        ("prefect", store, reference.type, reference.name), lambda: _read(reference, store)
    )
    field = reference.field or _only_secret(document, reference, store)
    value = value_at(document.data, field)
    if value is None or value == "":
        raise CredentialNotFound(
            f"{reference}: the block {reference.type}/{reference.name} of {store} has no value "
            f"in {field!r}; it has {', '.join(document.data) or 'no fields'}.",
            "Fill it in, or correct the reference.",
            reference=str(reference),
            store=store,
        )
    return FoundSecret(
        # What is not a text (a service account's key as JSON) is one when it is used.
        value=value if isinstance(value, str) else json.dumps(value),
        store=store,
        fields=tuple(document.data),
        changed=document.updated,
    )


def _read(reference: BlockReference, store: str) -> BlockDocument:
    def error(kind: type[CredentialError], what: str, remedy: str) -> CredentialError:
        return kind(f"{reference}: {what}.", remedy, reference=str(reference), store=store)

    block = f"{reference.type}/{reference.name}"
    try:
        with get_client(sync_client=True) as client:
            return client.read_block_document_by_name(
                reference.name, reference.type, include_secrets=True
            )
    except ObjectNotFound as failure:
        raise error(
            CredentialNotFound,
            f"{store} has no block {block}",
            "Save one, or correct the reference; `prefect block ls` lists those that there are.",
        ) from failure
    except PrefectHTTPStatusError as failure:
        status = failure.response.status_code
        refused = status in (401, 403)
        raise error(
            CredentialForbidden if refused else CredentialStoreUnavailable,
            f"{store} answered with status {status}",
            "Check PREFECT_API_KEY." if refused else "Ask again once the server is well.",
        ) from failure
    except (httpx.HTTPError, RuntimeError, ValueError) as failure:
        raise error(
            CredentialStoreUnavailable,
            f"{store} cannot be asked ({failure or type(failure).__name__})",
            "Start the server, or correct PREFECT_API_URL (`prefect config view` shows it).",
        ) from failure


def _only_secret(document: BlockDocument, reference: BlockReference, store: str) -> str:
    """Return the field that holds the secret of a block, where only one can be meant."""
    fields = secret_fields(document)
    filled = [name for name in fields if value_at(document.data, name) not in (None, "")]
    if len(filled) == 1:
        return filled[0]
    raise CredentialNotFound(
        f"{reference}: the block {reference.type}/{reference.name} of {store} holds "
        f"{len(filled) or 'no'} secrets{': ' if filled else ''}{', '.join(filled)}.",
        f"Name the field: prefect:{reference.type}/{reference.name}/FIELD.",
        reference=str(reference),
        store=store,
    )


def secret_fields(document: BlockDocument) -> list[str]:
    """Return the names of a block's fields that Prefect masks; "a.b" is one within another."""
    schema: Mapping[str, Any] = document.block_schema.fields if document.block_schema else {}
    names = (str(name).removesuffix(".*") for name in schema.get("secret_fields", []))
    return list(dict.fromkeys(names))


def value_at(data: Any, field: str) -> Any:
    """A field's value; "credentials.password" is one within another, and so is "value/user"."""
    for name in field.replace("/", ".").split("."):
        data = data.get(name) if isinstance(data, Mapping) else None
    return data
