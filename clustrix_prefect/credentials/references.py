"""What a reference to a secret looks like.

    op://vault/item/field            a field of a 1Password item
    op://vault/item/section/field    the same, in a section of the item
    op://.../field?attribute=otp     the code of a one-time password that holds at the moment
    env:NAME                         a variable of the flow's environment
    prefect:name                     a Prefect block of type Secret
    prefect:type/name                a Prefect block of another type, with one secret
    prefect:type/name/field          one field of a Prefect block

Anything else is the secret itself.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Literal, TypeAlias

from pydantic import SecretStr

from clustrix_prefect.credentials.env_filter import withhold
from clustrix_prefect.errors import CredentialError

# "op:/" is an op:// with a slash lost. Schemes are told in any case, and written in lower case.
_SCHEME = re.compile(r"\s*(op:/|env:|prefect:)", re.IGNORECASE)
_VARIABLE = re.compile(r"[A-Za-z_][A-Za-z0-9_]*\Z")
_BLOCK_NAME = re.compile(r"[a-z0-9-]+\Z")
_SHORT = 120


@dataclass(frozen=True)
class OnePasswordReference:
    """`op://vault/item[/section]/field`; each part is a name or an id.

    With the attribute `otp` it is the code of a one-time password, not what that is made of.
    """

    vault: str
    item: str
    section: str | None
    field: str
    attribute: Literal["otp"] | None = None

    def __str__(self) -> str:
        section = f"{self.section}/" if self.section is not None else ""
        query = f"?attribute={self.attribute}" if self.attribute else ""
        return f"op://{self.vault}/{self.item}/{section}{self.field}{query}"


@dataclass(frozen=True)
class EnvironmentReference:
    """`env:NAME`."""

    name: str

    def __str__(self) -> str:
        return f"env:{self.name}"


@dataclass(frozen=True)
class BlockReference:
    """`prefect:[type/]name[/field]`."""

    type: str
    name: str
    field: str | None = None

    def __str__(self) -> str:
        if self.field is None and self.type == "secret":
            return f"prefect:{self.name}"
        return "/".join([f"prefect:{self.type}", self.name, *([self.field] if self.field else [])])


Reference: TypeAlias = OnePasswordReference | EnvironmentReference | BlockReference


def is_reference(text: str) -> bool:
    """Return whether a text is meant as a reference; it may still be a wrong one."""
    return _SCHEME.match(text) is not None


def is_code(text: str) -> bool:
    """Return whether a text refers to a one-time code, which holds for seconds."""
    reference = parse(text)
    return isinstance(reference, OnePasswordReference) and reference.attribute == "otp"


def parse(text: str) -> Reference | None:
    """Return the reference that a text is, or None if it is a secret itself.

    Raises:
        CredentialError: It is meant as a reference and is not one; the message shows it.
    """
    if not is_reference(text):
        return None
    text = text.strip()
    if not text.isprintable() or len(text) > 1000:
        raise _malformed(text, "is more than one short line")
    if text.startswith("op://"):
        return _onepassword(text)
    if text.startswith("env:"):
        return _environment(text)
    if text.startswith("prefect:"):
        return _block(text)
    raise _malformed(text, "begins with neither op://, env: nor prefect:")


def check(value: SecretStr | None) -> SecretStr | None:
    """The value itself, for fields of blocks: refuses a malformed reference when it is given.

    Raises:
        ValueError: The reference is malformed. Pydantic makes a ValidationError of it.
    """
    if value is not None:
        try:
            parse(value.get_secret_value())
        except CredentialError as error:
            # It may be a password that happens to begin like one, and errors end in logs.
            begins = _SCHEME.match(value.get_secret_value())
            shown = f"{begins[0].strip() if begins else ''}..."
            raise ValueError(error.message.replace(repr(error.reference), repr(shown))) from None
    return value


def same_name(one: str, other: str) -> bool:
    """Return whether two texts are one name: in any case, however letters with marks are spelt."""
    return _spelt(one).casefold() == _spelt(other).casefold()


def spellings(name: str) -> tuple[str, ...]:
    """Return a name as it is, and in the other spellings of its letters with marks.

    A Mac writes them apart (NFD), most else writes them as one (NFC); they look the same.
    """
    forms = (name, _spelt(name), unicodedata.normalize("NFD", name))
    return tuple(dict.fromkeys(forms))


def _spelt(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def shown_of(text: str) -> str:
    """Return a reference as it may be shown: what only begins like one may be a secret."""
    if text.isprintable() and len(text) <= _SHORT:
        return text
    begins = _SCHEME.match(text)
    return f"{begins[0].strip()}..." if begins else "..."


def _onepassword(text: str) -> OnePasswordReference:
    path, mark, query = text.partition("?")
    is_code = query.casefold() == "attribute=otp"
    if mark and not is_code:
        raise _malformed(
            text,
            "has a query that is not supported",
            "Of queries only ?attribute=otp is known, for the code of a one-time password. Leave "
            "out any other: the field's value is read, and private keys are understood in every "
            "format.",
        )
    parts = path.removeprefix("op://").split("/")
    if len(parts) not in (3, 4):
        raise _malformed(text, f"has {len(parts)} part{'s' * (len(parts) != 1)}, not 3 or 4")
    if not all(part and part == part.strip() for part in parts):
        raise _malformed(text, "has an empty part, or spaces around one")
    section = parts[2] if len(parts) == 4 else None
    attribute: Literal["otp"] | None = "otp" if is_code else None
    return OnePasswordReference(parts[0], parts[1], section, parts[-1], attribute)


def _environment(text: str) -> EnvironmentReference:
    name = text.removeprefix("env:")
    if not _VARIABLE.match(name):
        raise _malformed(text, "does not name an environment variable", "Write env:NAME.")
    withhold(name)
    return EnvironmentReference(name)


def _block(text: str) -> BlockReference:
    parts = text.removeprefix("prefect:").split("/", 2)
    names = parts[:2]
    if not all(_BLOCK_NAME.match(name) for name in names) or "" in parts:
        raise _malformed(
            text,
            "does not name a Prefect block",
            "Write prefect:name for a Secret block, or prefect:type/name/field.",
        )
    if len(parts) == 1:
        return BlockReference("secret", parts[0])
    return BlockReference(*parts)


def _malformed(text: str, why: str, remedy: str = "") -> CredentialError:
    shown = shown_of(text)
    return CredentialError(
        f"The reference {shown!r} {why}.",
        remedy
        or "Write op://vault/item/field or op://vault/item/section/field, env:NAME or prefect:name;"
        " names with a / in them are written as ids.",
        reference=shown,
    )
