"""What the fields of several blocks have in common."""

from __future__ import annotations

from typing import Any


def unset_if_empty(value: Any) -> Any:
    """None for an empty text: what the UI's form sends for a field that was cleared."""
    return None if isinstance(value, str) and not value.strip() else value


def one_line(value: str) -> str:
    """The text itself.

    Raises:
        ValueError: It is empty or has line ends in it, which would begin another line of a
            script or another directive.
    """
    if not value.strip() or not value.isprintable():
        raise ValueError("expects one line of printable text")
    return value
