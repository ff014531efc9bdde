"""A task's function with all of the user's code that it needs.

A bundle has two parts: a document that says what there is, and pickles. To the same minor version
of Python the function itself is in the pickles (`by_value.py`), to another one its source is in the
document (`by_source.py`).
"""

from __future__ import annotations

import functools
import sys
import types
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from clustrix_prefect.packaging.blobs import Blob, SharedValues, shared_values
from clustrix_prefect.packaging.imports import Imports
from clustrix_prefect.packaging.ownership import is_user_module, plain_function
from clustrix_prefect.packaging.pickling import Met


@dataclass(frozen=True)
class Bundle:
    """What travels of a function.

    Attributes:
        code: The document that the far side reads.
        code_sha256: Its name in the far side's store.
        captured: Pickles of the function, or of the values around it; or None.
        captured_sha256: Their name in the far side's store.
        identity: The same for the same code and values, in any process.
        imports: What the code imports that does not travel with it.
        needs_sha256: Names the code together with what it imports.
        sources: The source in it: the file, the line where it begins, the text.
        met: The user's code that it brings.
        blobs: The user's modules, as files.
    """

    code: bytes
    code_sha256: str
    captured: bytes | None
    captured_sha256: str | None
    identity: str
    imports: Imports
    needs_sha256: str
    sources: tuple[tuple[str, int, str], ...]
    met: frozenset[Met]
    blobs: tuple[Blob, ...] = ()


@dataclass(frozen=True)
class Home:
    """The user's module in which a function was written, and what is in that module."""

    module: str | None
    namespace: dict[str, Any] = field(repr=False, compare=False)

    @classmethod
    def of(cls, function: Any) -> Home:
        """Return where a function was written, below what is around it."""
        while True:
            function = plain_function(function)
            if isinstance(function, functools.partial):
                function = function.func
            elif isinstance(function, types.MethodType):
                function = function.__func__
            elif hasattr(function, "__wrapped__"):
                function = function.__wrapped__
            else:
                break
        namespace = getattr(function, "__globals__", {})
        module = namespace.get("__name__") or getattr(function, "__module__", None)
        if not isinstance(module, str) or not is_user_module(module):
            return cls(None, {})
        return cls(module, namespace or vars(sys.modules[module]))


@dataclass
class Built:
    """A bundle, and whether it still says what is there."""

    bundle: Bundle
    is_current: Callable[[], bool]
    checked_for: SharedValues | None = field(default_factory=shared_values)
