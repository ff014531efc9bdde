"""What was meant by a name that there is not."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def what_was_meant(name: str, known: Iterable[str]) -> str:
    """Return the end of a sentence about a name: a question with the nearest, or its full stop."""
    near = get_close_matches(name, list(known), 1)
    return f"; is it {near[0]!r}?" if near else "."
