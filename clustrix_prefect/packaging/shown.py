"""Parameters as `prefect.runtime` shows them far away."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

# They travel with every call, beside its arguments: enough to be recognised by.
_LONGEST = 1024


def shown_parameters(parameters: Mapping[str, Any]) -> dict[str, Any]:
    """Each value as it is if JSON can say it shortly, else the name of its type."""
    return {name: _shown(value) for name, value in parameters.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, (bool, int, float, type(None))):
        return value
    # Exactly these: a subclass may not want to be looked into.
    if type(value) in (str, list, tuple, dict) and len(value) <= _LONGEST:
        try:
            fits = len(json.dumps(value)) <= _LONGEST
        except Exception:  # something in it is beyond JSON, or refuses to be looked into
            fits = False
        if fits:
            return value
    return f"<{type(value).__qualname__}>"
