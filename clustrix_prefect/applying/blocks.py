"""Block documents from files.

    block: slurm-cluster/ndoli
    fields:
      host: ndoli.example.edu
      credentials: ssh-credentials/ndoli     # another block, by type and name
      partition: standard

Several documents of a file are separated by `---`. Secrets are references (`op://...`,
`env:...`, `prefect:...`); a secret itself is refused.
"""

from __future__ import annotations

import hashlib
import hmac
import re
import typing
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from prefect.blocks.core import Block
from prefect.exceptions import ObjectNotFound
from prefect.variables import Variable
from pydantic import BaseModel, SecretBytes, SecretStr, ValidationError

from clustrix_prefect.applying.files import Document, Mistake, WrongFiles, read_documents
from clustrix_prefect.applying.secret_shapes import holds_secret, is_secret_value
from clustrix_prefect.block_types import BLOCK_TYPES
from clustrix_prefect.credentials.references import is_reference, shown_of
from clustrix_prefect.display.nearest import what_was_meant

KINDS: dict[str, type[Block]] = {kind.get_block_type_slug(): kind for kind in BLOCK_TYPES}
"""The types of blocks that files can describe."""

# The Prefect variable in which it is noted.
_MADE_FROM_FILES = "clustrix_blocks_made_from_files"

NOT_SHOWN = "a value that is not shown"

_NAME = re.compile(r"[a-z0-9]+(-[a-z0-9]+)*\Z")
_WRITE_A_REFERENCE = (
    "This is a secret: write a reference instead, op://vault/item/field, env:NAME or "
    "prefect:block-name."
)
# References are resolved in fields that are made for secrets, and nowhere else.
_KEEP_IT_AWAY = (
    "This is a secret, and neither it nor a reference to one belongs here: it is taken as it "
    "stands, and written into job scripts. Keep it in a file on the cluster that only you can "
    'read, and let calls have it with `setup: [". ~/secrets.sh"]`; on Kubernetes, name a Secret '
    "with `env_from`, or with `valueFrom` in `pod_template`."
)


@dataclass
class PlannedBlock:
    """A block as a file describes it, beside the one on the server.

    Attributes:
        name: Its type and name: "slurm-cluster/ndoli".
        document: Where it is described.
        wanted: The block.
        nested: The blocks within it: field to type and name.
        existing: The one on the server, if there is one.
        differences: What would change, in words; empty if nothing would.
    """

    name: str
    document: Document
    wanted: Block
    nested: Mapping[str, str]
    existing: Block | None = None
    differences: list[str] = field(default_factory=list)

    @property
    def is_new(self) -> bool:
        """Whether there is none of this name on the server."""
        return self.existing is None


def plan_blocks(paths: Sequence[Path]) -> list[PlannedBlock]:
    """Read files, and compare them with what is on the server; nothing is changed.

    Returns:
        The blocks, each after those within it.

    Raises:
        WrongFiles: Something is wrong with the files.
    """
    described = _described(read_documents(paths))
    planned: dict[str, PlannedBlock] = {}
    mistakes: list[Mistake] = []
    for name in _inner_first(described):
        try:
            planned[name] = _plan(name, described[name], planned)
        except WrongFiles as error:
            mistakes += error.mistakes
    if mistakes:
        raise WrongFiles(mistakes)
    return list(planned.values())


def apply_blocks(planned: Sequence[PlannedBlock]) -> list[str]:
    """Save those that differ.

    Returns:
        The names of those that were saved.
    """
    there: dict[str, Block] = {}
    saved = []
    made: set[str] = set()
    for one in planned:
        if not one.is_new and not one.differences:
            assert one.existing is not None
            there[one.name] = one.existing
            continue
        for inner, name in one.nested.items():
            # A block that the server knows is kept as a reference to it, not as a copy.
            setattr(one.wanted, inner, there.get(name) or _load(name))
        one.wanted.save(one.name.partition("/")[2], overwrite=True, _sync=True)  # type: ignore[call-arg]
        there[one.name] = one.wanted
        saved.append(one.name)
        made.add(str(one.wanted._block_document_id))
    if made - (before := _made_from_files()):
        Variable.set(_MADE_FROM_FILES, sorted(made | before), overwrite=True, _sync=True)  # type: ignore[call-arg]
    return saved


def made_by_others(planned: Sequence[PlannedBlock]) -> list[str]:
    """Return which of the blocks that would be replaced were not made from a file."""
    changed = [one for one in planned if one.existing is not None and one.differences]
    made = _made_from_files() if changed else set()
    return [
        one.name
        for one in changed
        if one.existing is not None and str(one.existing._block_document_id) not in made
    ]


def _made_from_files() -> set[str]:
    """Return the ids of the blocks on the server that were made from files."""
    ids = Variable.get(_MADE_FROM_FILES, _sync=True)  # type: ignore[call-overload]
    return set(map(str, ids)) if isinstance(ids, list) else set()


# --- reading ------------------------------------------------------------------------------


def _described(documents: Sequence[Document]) -> dict[str, Document]:
    found: dict[str, Document] = {}
    mistakes: list[Mistake] = []
    for document in documents:
        data = document.data
        if not isinstance(data, dict) or not isinstance(data.get("block"), str):
            mistakes.append(document.mistake("Write `block: TYPE/NAME`, and its `fields:`."))
            continue
        name = data["block"]
        slug, _, title = name.partition("/")
        if slug not in KINDS:
            types = ", ".join(KINDS)
            mistakes.append(
                document.mistake(f"{slug!r} is not a type of block; there are {types}.", "block")
            )
        elif not _NAME.match(title):
            mistakes.append(
                document.mistake(
                    f"{title!r} is not a block's name: small letters, digits and single dashes.",
                    "block",
                )
            )
        elif name in found:
            first = found[name].mistake("", "block")
            mistakes.append(
                document.mistake(f"{name} is also at {first.file}:{first.line}.", "block")
            )
        else:
            found[name] = document
        mistakes += [
            document.mistake(f"{key!r} is unknown here; put it below `fields`.", key)
            for key in map(str, data)
            if key not in ("block", "fields")
        ]
        if not isinstance(data.get("fields") or {}, dict):
            mistakes.append(document.mistake("`fields` has no names.", "fields"))
    if mistakes:
        raise WrongFiles(mistakes)
    return found


def _inner_first(described: Mapping[str, Document]) -> list[str]:
    ordered: dict[str, None] = {}

    def put(name: str, around: tuple[str, ...]) -> None:
        if name in ordered or name in around or name not in described:
            return
        fields = described[name].data.get("fields") or {}
        for key, kind in _nested_kinds(KINDS[name.partition("/")[0]]).items():
            inner = fields.get(key)
            if isinstance(inner, str):
                put(_full_name(inner, kind), (*around, name))
        ordered[name] = None

    for name in described:
        put(name, ())
    return list(ordered)


def _plan(name: str, document: Document, planned: Mapping[str, PlannedBlock]) -> PlannedBlock:
    kind = KINDS[name.partition("/")[0]]
    fields = dict(document.data.get("fields") or {})
    mistakes = list(_unknown_fields(kind, fields, document))
    for place, told in _literal_secrets(kind, fields, ("fields",)):
        mistakes.append(document.mistake(told, *place))
    nested: dict[str, str] = {}
    for key, inner_kind in _nested_kinds(kind).items():
        if fields.get(key) is None:
            continue
        inner_slug = inner_kind.get_block_type_slug()
        if not isinstance(fields[key], str):
            told = f"{key} is a block: name it, such as {inner_slug}/NAME."
            mistakes.append(document.mistake(told, "fields", key))
            fields.pop(key)
            continue
        nested[key] = _full_name(fields[key], inner_kind)
        inner = planned[nested[key]].wanted if nested[key] in planned else _load(nested[key])
        if isinstance(inner, inner_kind):
            fields[key] = inner
        else:
            told = f"There is no block {nested[key]}, neither in the files nor on the server."
            mistakes.append(document.mistake(told, "fields", key))
            fields.pop(key)
    if mistakes:
        raise WrongFiles(mistakes)
    try:
        wanted = kind(**fields)
    except ValidationError as error:
        # Without the input: it may be a secret.
        raise WrongFiles(
            document.mistake(
                f"{'.'.join(map(str, one['loc'])) or name}: {one['msg']}", "fields", *one["loc"]
            )
            for one in error.errors(include_input=False, include_url=False)
        ) from None
    one = PlannedBlock(name, document, wanted, nested, _load(name))
    one.differences = list(_differences(one))
    return one


def _unknown_fields(
    kind: type[Block], fields: Mapping[str, Any], document: Document
) -> Iterator[Mistake]:
    for key in map(str, fields):
        if key not in kind.model_fields:
            slug = kind.get_block_type_slug()
            meant = what_was_meant(key, kind.model_fields)
            yield document.mistake(f"{slug} has no field {key!r}{meant}", "fields", key)


def _literal_secrets(
    kind: type[BaseModel], value: Any, place: tuple[str | int, ...]
) -> Iterator[tuple[tuple[str | int, ...], str]]:
    """Yield the places of secrets that are written out, and of what looks like one."""
    if isinstance(value, Mapping):
        for key, inner in value.items():
            field_info = kind.model_fields.get(str(key)) if len(place) == 1 else None
            here = (*place, str(key))
            if field_info is not None and _holds_secret(field_info.annotation):
                is_missing = inner is None or inner == ""
                if not is_missing and not (isinstance(inner, str) and is_reference(inner)):
                    yield here, _WRITE_A_REFERENCE
            elif len(place) > 1 and is_secret_value(_name_beside(value, key), inner):
                yield here, _KEEP_IT_AWAY
            else:
                yield from _literal_secrets(kind, inner, here)
    elif isinstance(value, list):
        for number, inner in enumerate(value):
            yield from _literal_secrets(kind, inner, (*place, number))
    elif isinstance(value, str) and holds_secret(value):
        yield place, _KEEP_IT_AWAY


def _name_beside(mapping: Mapping[Any, Any], key: Any) -> str:
    """What a value is called: by its key, or as in Kubernetes, `{name: HF_TOKEN, value: ...}`."""
    return str(mapping["name"] if key == "value" and "name" in mapping else key)


def _holds_secret(annotation: Any) -> bool:
    return annotation in (SecretStr, SecretBytes) or any(
        map(_holds_secret, typing.get_args(annotation))
    )


def _nested_kinds(kind: type[Block]) -> dict[str, type[Block]]:
    """Return the fields of a block that are blocks themselves."""
    found: dict[str, type[Block]] = {}
    for name, info in kind.model_fields.items():
        for one in (info.annotation, *typing.get_args(info.annotation)):
            if isinstance(one, type) and issubclass(one, Block):
                found[name] = one
    return found


def _full_name(text: str, kind: type[Block]) -> str:
    return text if "/" in text else f"{kind.get_block_type_slug()}/{text}"


def _load(name: str) -> Block | None:
    slug, _, title = name.partition("/")
    if slug not in KINDS:
        return None
    try:
        loaded = KINDS[slug].load(title, _sync=True)  # type: ignore[call-arg]
    except ValidationError:  # saved by another version: everything in it differs
        return None
    except ValueError as error:
        if isinstance(error.__cause__, ObjectNotFound):
            return None
        raise
    return cast("Block", loaded)


# --- comparing ----------------------------------------------------------------------------


def _differences(one: PlannedBlock) -> Iterator[str]:
    for name in type(one.wanted).model_fields:
        if name in _INTERNAL:
            continue
        new = one.nested.get(name, getattr(one.wanted, name))
        if one.existing is None:
            if name in one.wanted.model_fields_set:
                yield f"{name}: {_shown(name, new)}"
            continue
        old = getattr(one.existing, name)
        if isinstance(old, Block):
            old = _name_of(old)
        if not hmac.compare_digest(_digest(old), _digest(new)):
            yield f"{name}: {_shown(name, old)} -> {_shown(name, new)}"


_INTERNAL = frozenset(Block.model_fields)


def _name_of(block: Block) -> str:
    title = block._block_document_name
    return f"{block.get_block_type_slug()}/{title}" if title else NOT_SHOWN


def _digest(value: Any) -> bytes:
    return hashlib.sha256(repr(_revealed(value)).encode()).digest()


def _revealed(value: Any) -> Any:
    """Return a value as plain data that is equal for equal values. It stays in memory."""
    if isinstance(value, (SecretStr, SecretBytes)):
        return value.get_secret_value()
    if isinstance(value, BaseModel):
        return {name: _revealed(getattr(value, name)) for name in type(value).model_fields}
    if isinstance(value, Mapping):
        return sorted((str(key), _revealed(inner)) for key, inner in value.items())
    if isinstance(value, (list, tuple)):
        return [_revealed(inner) for inner in value]
    return value


def _shown(name: str, value: Any) -> str:
    if isinstance(value, (SecretStr, SecretBytes)):
        text = value.get_secret_value()
        return shown_of(text) if isinstance(text, str) and is_reference(text) else NOT_SHOWN
    if isinstance(value, BaseModel):
        value = value.model_dump(mode="json", exclude_unset=True)
    if isinstance(value, Mapping):
        inner = (f"{key}: {_shown(_name_beside(value, key), one)}" for key, one in value.items())
        return f"{{{', '.join(inner)}}}"
    if isinstance(value, (list, tuple)):
        return f"[{', '.join(_shown(name, one) for one in value)}]"
    if isinstance(value, str) and is_reference(value):
        return value
    if is_secret_value(name, value) or (isinstance(value, str) and holds_secret(value)):
        return NOT_SHOWN
    if isinstance(value, str):
        return repr(value)
    return "nothing" if value is None else str(value)
