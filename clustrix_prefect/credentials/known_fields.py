"""Fields that are misspelt: refused where a block is made, with the name that was meant."""

from __future__ import annotations

import json
import sys
from abc import ABC
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any
from weakref import WeakKeyDictionary

from prefect.blocks.core import Block
from prefect.client.schemas.objects import BlockDocument
from pydantic import HttpUrl, model_validator
from typing_extensions import Self

from clustrix_prefect.display.nearest import what_was_meant
from clustrix_prefect.errors import DOCUMENTATION

# What Prefect writes among a block's fields itself.
_OF_PREFECT = frozenset({"block_type_slug"})

_LOADS_BY_BASE_CLASS = Block._from_block_document.__func__.__code__  # type: ignore[attr-defined]

_loading: ContextVar[bool] = ContextVar("loading", default=False)
_schemas: WeakKeyDictionary[type[Block], str] = WeakKeyDictionary()


class KnownFields(Block, ABC):
    """A block that is not made with fields it does not have.

    One that was saved with such fields, by another version or by hand, is loaded all the same;
    `unknown_fields` tells of them.
    """

    def __init_subclass__(cls, **options: Any) -> None:
        super().__init_subclass__(**options)
        page = f"{DOCUMENTATION}reference/blocks/"
        cls._documentation_url = HttpUrl(f"{page}#{cls.__name__.lower()}")

    @classmethod
    def model_json_schema(cls, *args: Any, **kwargs: Any) -> dict[str, Any]:
        """As Prefect's, made once: Prefect asks for it with each field of a block that it saves."""
        if args or kwargs:
            return super().model_json_schema(*args, **kwargs)
        if cls not in _schemas:
            _schemas[cls] = json.dumps(super().model_json_schema())
        schema: dict[str, Any] = json.loads(_schemas[cls])  # the caller's own
        return schema

    @model_validator(mode="before")
    @classmethod
    def _no_other_fields(cls, values: Any) -> Any:
        if isinstance(values, dict) and not _loading.get():
            for name in values:
                if name not in cls.model_fields and name not in _OF_PREFECT:
                    meant = what_was_meant(str(name), cls.model_fields)
                    raise ValueError(f"{cls.__name__} has no field {name!r}{meant}")
        return values

    @classmethod
    def _from_block_document(cls, block_document: BlockDocument) -> Self:
        with _as_saved():
            return super()._from_block_document(block_document)

    @classmethod
    def model_validate(cls, obj: Any, *args: Any, **kwargs: Any) -> Self:
        """As pydantic's; the data of a saved block is taken as it was saved."""
        # For `Block.load("slurm-cluster/ndoli")` Prefect finds the class only in the middle of its
        # own `_from_block_document`, and calls nothing else of it.
        if sys._getframe(1).f_code is _LOADS_BY_BASE_CLASS:
            with _as_saved():
                return super().model_validate(obj, *args, **kwargs)
        return super().model_validate(obj, *args, **kwargs)

    @property
    def unknown_fields(self) -> tuple[str, ...]:
        """What the block was saved with and does not have."""
        return tuple(sorted(set(self.model_extra or ()) - _OF_PREFECT))


@contextmanager
def _as_saved() -> Iterator[None]:
    token = _loading.set(True)
    try:
        yield
    finally:
        _loading.reset(token)
