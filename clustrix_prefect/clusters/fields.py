"""What the fields of several blocks have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator


def unset_if_empty(value: Any) -> Any:
    """None for an empty text: what the UI's form sends for a field that was cleared."""
    return None if isinstance(value, str) and not value.strip() else value


def one_line(value: str) -> str:
    """Return the text itself.

    Raises:
        ValueError: It is empty or has line ends in it, which would begin another line of a
            script or another directive.
    """
    if not value.strip() or not value.isprintable():
        raise ValueError("expects one line of printable text")
    return value


def _one_line_or_unset(value: str | None) -> str | None:
    return None if value is None else one_line(value)


OptionalLine = Annotated[
    str | None, BeforeValidator(unset_if_empty), AfterValidator(_one_line_or_unset)
]
"""One line of text that goes into a script or a command, or nothing."""


def _request(value: str) -> str:
    if one_line(value).startswith("-"):
        raise ValueError(f'{value!r} is not a request; write "NAME=VALUE", without -l')
    return value


Request = Annotated[str, AfterValidator(_request)]
"""What a job asks for with `-l`, without that."""
