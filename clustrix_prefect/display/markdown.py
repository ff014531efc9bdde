"""Texts that markdown shows as they are, tables of them, and times as pages show them."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterable, Sequence
from datetime import datetime, timezone

_MEANS_SOMETHING = re.compile(
    r"""[\\`*_{}\[\]<>|#!~&@]
    | :(?=//)  # the UI makes links of whatever looks like one
    | (?<=www)\.""",
    re.VERBOSE | re.IGNORECASE,
)
_CODE = re.compile(r"`([^`\n]+)`")
_CELL_WIDTH = 48
_NO_BREAK = "\0"  # `_seen` leaves none


def escape(text: str) -> str:
    """Return a text in one line that means nothing to markdown, whatever a file name holds."""
    return _MEANS_SOMETHING.sub(r"\\\g<0>", _seen(text))


def prose(text: str) -> str:
    """A sentence of ours in one line: what is between backticks is code, and nothing else means."""
    parts = _CODE.split(_seen(text))
    return "".join(
        f"`{part.replace('|', chr(92) + '|')}`" if odd % 2 else escape(part)
        for odd, part in enumerate(parts)
    )


def cell(text: str) -> str:
    """Escape a text for a cell that may be long: the UI's own cells never break their lines."""
    return "<br>".join(map(escape, _lines(_seen(text))))


def prose_cell(text: str) -> str:
    """Write a sentence of ours for a cell that may be long; see `prose`."""
    # A line does not end within code.
    whole = _CODE.sub(lambda code: code[0].replace(" ", _NO_BREAK), _seen(text))
    return "<br>".join(prose(line.replace(_NO_BREAK, " ")) for line in _lines(whole))


def _lines(text: str) -> list[str]:
    return textwrap.wrap(text, _CELL_WIDTH, break_long_words=False, break_on_hyphens=False)


def _seen(text: str) -> str:
    return "".join(letter if letter.isprintable() else _named(letter) for letter in text)


def _named(letter: str) -> str:
    r"""Return a letter that would not show: "\n", or "\xff" for a byte that is no text."""
    if "\udc80" <= letter <= "\udcff":
        return f"\\x{ord(letter) - 0xDC00:02x}"
    return letter.encode("unicode_escape").decode()


def table(header: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table; the cells are markdown, so other people's texts come escaped.

    Args:
        header: The names of the columns; one that ends with ":" is aligned to the right.
        rows: The cells.
    """
    names = [name.rstrip(":") for name in header]
    rules = ["--:" if name.endswith(":") else "---" for name in header]
    return [f"| {' | '.join(cells)} |" for cells in (names, rules, *rows)]


def utc(at: float) -> str:
    """Return a time, given in seconds since 1970, as ISO 8601 in UTC."""
    return datetime.fromtimestamp(at, timezone.utc).strftime("%Y-%m-%dT%H:%M:%SZ")
