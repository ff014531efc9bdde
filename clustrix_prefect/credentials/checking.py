"""Whether the references in saved blocks resolve; no value is in what is reported."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timezone
from functools import partial
from typing import Any

import httpx
from prefect.client.orchestration import SyncPrefectClient, get_client
from prefect.client.schemas.objects import BlockDocument
from prefect.exceptions import ObjectNotFound, PrefectHTTPStatusError
from prefect.settings import PREFECT_API_URL

from clustrix_prefect.credentials.onepassword import STORES
from clustrix_prefect.credentials.prefect_blocks import secret_fields, value_at
from clustrix_prefect.credentials.references import is_reference, parse, shown_of
from clustrix_prefect.credentials.resolving import find
from clustrix_prefect.errors import (
    ConfigurationError,
    CredentialError,
    CredentialForbidden,
    CredentialNotFound,
    CredentialStoreUnavailable,
)

_PAGE = 200
_STORE_FIELD = "secret_store"
_FAILURES: tuple[tuple[type[CredentialError], str], ...] = (
    (CredentialNotFound, "not found"),
    (CredentialForbidden, "refused"),
    (CredentialStoreUnavailable, "unavailable"),
    (CredentialError, "malformed"),
)


@dataclass(frozen=True)
class Checked:
    """What came of one reference, or of one way to 1Password.

    Attributes:
        block: The block, as "ssh-credentials/ndoli".
        field: The field that holds the reference.
        reference: The reference, or what there is instead.
        store: Where it was looked for.
        result: "found", "plain" for a value without a reference, or how it fails.
        fields: The names of what lies beside it.
        changed: When the item was last changed, if the store says.
        permission: "read", "refused", or empty if it did not come to that.
        seconds: How long it took; next to nothing for an item that was read already.
        problem: What is wrong, if anything is.
        remedy: What to do about it.
    """

    block: str
    field: str
    reference: str
    store: str = ""
    result: str = "found"
    fields: tuple[str, ...] = ()
    changed: datetime | None = None
    permission: str = ""
    seconds: float = 0.0
    problem: str = ""
    remedy: str = ""

    @property
    def is_ok(self) -> bool:
        """Whether it can be used."""
        return self.result in ("found", "plain")

    @property
    def age(self) -> str:
        """How long ago the item was changed, for people."""
        if self.changed is None:
            return ""
        days = (datetime.now(timezone.utc) - self.changed).days
        return "today" if days <= 0 else f"{days} day{'s' * (days != 1)}"


def saved_blocks() -> list[str]:
    """Return the blocks on the Prefect server that hold references or lead to 1Password.

    Raises:
        ConfigurationError: The Prefect API cannot be asked.
    """
    found: list[str] = []
    with _prefect("its blocks") as client:
        offset = 0
        while True:
            documents = client.read_block_documents(
                offset=offset, limit=_PAGE, include_secrets=True
            )
            found += [
                name
                for document in documents
                if (name := _name(document))
                and (name.partition("/")[0] in STORES or any(_references(document.data)))
            ]
            if len(documents) < _PAGE:
                return sorted(found)
            offset += _PAGE


def check_block(name: str) -> list[Checked]:
    """Resolve every reference in a saved block, and forget what it leads to.

    Args:
        name: The block's type and name: "ssh-credentials/ndoli".

    Raises:
        ConfigurationError: The Prefect API cannot be asked.
    """
    slug, _, document_name = name.partition("/")
    try:
        with _prefect(name) as client:
            document = client.read_block_document_by_name(document_name, slug, include_secrets=True)
    except ObjectNotFound:
        return [
            Checked(
                name,
                "",
                "",
                result="not found",
                problem="There is no such block.",
                remedy="Save it, or correct its name; `prefect block ls` lists those there are.",
            )
        ]
    checked = [
        _checked(name, field, shown_of(text), partial(_look, text, store))
        for field, text, store in _references(document.data)
    ]
    checked += [
        Checked(name, field, "a plain value", result="plain")
        for field in secret_fields(document)
        if isinstance(text := value_at(document.data, field), str)
        and text
        and not is_reference(text)
    ]
    if slug in STORES:
        checked.append(
            _checked(name, "", "the vaults it may read", partial(_vaults, slug, document.data))
        )
    return checked


def _checked(block: str, field: str, reference: str, look: Callable[[], dict[str, Any]]) -> Checked:
    began = time.monotonic()
    try:
        facts = {"permission": "read", **look()}
    except CredentialError as error:
        facts = {
            "store": error.store,
            "result": next(word for kind, word in _FAILURES if isinstance(error, kind)),
            "permission": "refused" if isinstance(error, CredentialForbidden) else "",
            "problem": error.what,
            "remedy": error.remedy,
        }
    return Checked(block, field, reference, seconds=time.monotonic() - began, **facts)


def _look(text: str, store: str | None) -> dict[str, Any]:
    reference = parse(text)
    assert reference is not None
    found = find(reference, store=store)
    return {"store": found.store, "fields": found.fields, "changed": found.changed}


def _vaults(slug: str, data: Mapping[str, Any]) -> dict[str, Any]:
    """Ask a way to 1Password for something that needs its token."""
    try:
        block = STORES[slug](**data)
    except ValueError as error:  # saved by another version; its message repeats no value
        raise CredentialError(f"The block cannot be used: {error}.", "Save it again.") from error
    store = block.opened()
    vaults = store.vaults()
    if not vaults:
        raise CredentialNotFound(
            f"The token for {store.description} may read no vault.",
            "Give it access to one.",
            store=store.description,
        )
    return {"store": store.description, "fields": tuple(vaults)}


@contextmanager
def _prefect(what: str) -> Iterator[SyncPrefectClient]:
    """The Prefect API, with its failures in words."""
    try:
        with get_client(sync_client=True) as client:
            yield client
    except PrefectHTTPStatusError as error:
        raise ConfigurationError(
            f"The Prefect API answered with status {error.response.status_code} when asked for "
            f"{what}.",
            "Check PREFECT_API_URL and PREFECT_API_KEY.",
        ) from error
    except httpx.HTTPError as error:
        raise ConfigurationError(
            f"The Prefect API at {PREFECT_API_URL.value()} cannot be asked for {what}: {error}.",
            "Start the server, or correct PREFECT_API_URL (`prefect config view` shows it).",
        ) from error


def _references(data: Any, path: str = "") -> Iterator[tuple[str, str, str | None]]:
    """Every reference in a block: its field, its text, and the store that is named beside it."""
    if isinstance(data, Mapping):
        named = data.get(_STORE_FIELD)
        for key, value in data.items():
            field = f"{path}.{key}" if path else str(key)
            if isinstance(value, str):
                if is_reference(value):
                    yield field, value.strip(), named if isinstance(named, str) else None
            else:
                yield from _references(value, field)
    elif isinstance(data, (list, tuple)):
        for number, value in enumerate(data):
            if isinstance(value, str) and is_reference(value):
                yield f"{path}[{number}]", value.strip(), None
            else:
                yield from _references(value, f"{path}[{number}]")


def _name(document: BlockDocument) -> str | None:
    if document.is_anonymous or not document.name or document.block_type is None:
        return None
    return f"{document.block_type.slug}/{document.name}"
