"""What every store of secrets answers with, and finding one secret in it."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Protocol

from clustrix_prefect.credentials.cache import SecretCache
from clustrix_prefect.credentials.references import OnePasswordReference, same_name, spellings
from clustrix_prefect.errors import CredentialNotFound, CredentialStoreUnavailable

_DECIMALS = re.compile(r"\.\d+")


@dataclass(frozen=True)
class FoundSecret:
    """One secret, and what may be told of it.

    Attributes:
        value: The secret.
        store: Where it was found, for people.
        fields: The names of what lies beside it, its own included.
        changed: When it was last changed, if the store says.
    """

    value: str = field(repr=False)
    store: str
    fields: tuple[str, ...] = ()
    changed: datetime | None = None


class OnePasswordStore(Protocol):
    """A way to 1Password."""

    @property
    def description(self) -> str:
        """The store for people; no secret in it."""

    def find(self, reference: OnePasswordReference, memory: SecretCache) -> FoundSecret:
        """Read one field. What was read already is taken from the memory.

        Raises:
            CredentialError: It cannot be read.
        """

    def vaults(self) -> list[str]:
        """Return the names of the vaults that can be read.

        Raises:
            CredentialError: The store cannot be asked.
        """


def field_of(item: Any, reference: OnePasswordReference, store: str) -> FoundSecret:
    """Return the field that a reference names in an item, as 1Password writes items in JSON.

    Raises:
        CredentialNotFound: There is no such field, it is empty, or there are several.
        CredentialStoreUnavailable: This is no item.
    """
    if not isinstance(item, Mapping) or not isinstance(item.get("fields", []), Sequence):
        raise CredentialStoreUnavailable(
            f"{reference}: {store} answered with something that is not an item.",
            "Check that a 1Password Connect server, or 1Password's own op, answers there.",
            reference=str(reference),
            store=store,
        )
    fields = [one for one in item.get("fields") or [] if isinstance(one, Mapping)]
    sections = {
        one.get("id"): one.get("label")
        for one in item.get("sections") or []
        if isinstance(one, Mapping)
    }
    labels = tuple(dict.fromkeys(_shown(one, sections) for one in fields))
    named = _matching(fields, reference.field, lambda one: (one.get("id"), one.get("label")))
    if reference.section is not None:
        named = _matching(named, reference.section, lambda one: _section(one, sections))
    elif len(named) > 1:
        # Outside of every section is where a reference without one points to.
        named = [one for one in named if not any(_section(one, sections))] or named

    def refusal(what: str, remedy: str) -> CredentialNotFound:
        return CredentialNotFound(
            f"{reference}: {what} ({store}).", remedy, reference=str(reference), store=store
        )

    if not named:
        files = [one.get("name") for one in item.get("files") or [] if isinstance(one, Mapping)]
        if any(same_name(str(name), reference.field) for name in files):
            raise refusal("is an attached file, which is not read", "Put its content into a field.")
        has = ", ".join(labels) or "no fields"
        raise refusal(f"the item has no such field; it has {has}", "Correct the reference.")
    if len(named) > 1:
        raise refusal(
            f"{len(named)} fields of the item have this name",
            "Write the section into the reference, op://vault/item/section/field, or the field's "
            "id instead of its name.",
        )
    value = named[0].get("value")
    if reference.attribute == "otp":
        # Both 1Password's op and its Connect server work the code out when they are asked.
        value = named[0].get("totp")
        if value is None or value == "":
            raise refusal(
                "the field is no one-time password, and has no code",
                "Name the one-time password's field, or leave out ?attribute=otp.",
            )
    if value is None or value == "":
        raise refusal("the field is empty", "Fill it in, or correct the reference.")
    return FoundSecret(
        value=str(value),
        store=store,
        fields=labels,
        changed=_time(item.get("updatedAt") or item.get("updated_at")),
    )


def _matching(
    fields: list[Mapping[str, Any]],
    name: str,
    names_of: Callable[[Mapping[str, Any]], tuple[Any, Any]],
) -> list[Mapping[str, Any]]:
    """Return the fields of this name: by id, else by label, else by label in any case."""

    def by_id(one: Mapping[str, Any]) -> bool:
        return bool(names_of(one)[0] == name)

    def by_label(one: Mapping[str, Any]) -> bool:
        return str(names_of(one)[1]) in spellings(name)

    def in_any_case(one: Mapping[str, Any]) -> bool:
        return any(same_name(str(text), name) for text in names_of(one) if text)

    for matches in (by_id, by_label, in_any_case):
        if found := [one for one in fields if matches(one)]:
            return found
    return []


def _section(one: Mapping[str, Any], sections: Mapping[Any, Any]) -> tuple[Any, Any]:
    """Return the id and the label of a field's section; None twice where it is in none."""
    section = one.get("section")
    if not isinstance(section, Mapping):
        return (None, None)
    identifier = section.get("id")
    return (identifier, section.get("label") or sections.get(identifier))


def _shown(one: Mapping[str, Any], sections: Mapping[Any, Any]) -> str:
    name = one.get("label") or one.get("id")
    section = next((text for text in reversed(_section(one, sections)) if text), None)
    return f"{section}/{name}" if section else str(name)


def _time(text: Any) -> datetime | None:
    try:  # Python 3.10 reads neither Z nor any number of decimals
        return datetime.fromisoformat(_DECIMALS.sub("", str(text)).replace("Z", "+00:00"))
    except ValueError:
        return None
