"""Secrets by reference: `op://vault/item/field`, `env:NAME`, `prefect:block-name`.

A field of a block that takes a secret takes a reference to one as well. `resolve` turns it into
the secret where it is needed: in the flow's process, in memory, once per flow run. Nothing here
knows what the secrets are for.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from clustrix_prefect.credentials.references import is_reference

if TYPE_CHECKING:
    from clustrix_prefect.credentials.onepassword import OnePasswordCLI, OnePasswordConnect
    from clustrix_prefect.credentials.resolving import resolve

__all__ = ["OnePasswordCLI", "OnePasswordConnect", "is_reference", "resolve"]

# Loaded where first used: whoever only wants to know what a reference is does without Prefect.
_HOMES = {
    "OnePasswordCLI": "clustrix_prefect.credentials.onepassword",
    "OnePasswordConnect": "clustrix_prefect.credentials.onepassword",
    "resolve": "clustrix_prefect.credentials.resolving",
}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(_HOMES[name]), name)
