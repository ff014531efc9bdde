"""Sets of array indices, as schedulers write them: "0-2,5,8-20:4%3"."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

_PIECE = re.compile(r"^(\d+)(?:-(\d+)(?::(\d+))?)?$")


def parse_indices(text: str) -> list[range]:
    """The ranges of an index expression, without its throttle ("%3").

    An expression that was cut short ("1,4,7,...") may go on without end: so does the last of
    its ranges.
    """
    ranges: list[range] = []
    for piece in text.partition("%")[0].split(","):
        if match := _PIECE.match(piece):
            first, last, step = (int(group) if group else None for group in match.groups())
            assert first is not None
            ranges.append(range(first, (first if last is None else last) + 1, step or 1))
        elif piece.endswith("..."):
            beyond = ranges[-1].stop if ranges else 0
            ranges.append(range(beyond, sys.maxsize))
    return ranges


def format_indices(indices: Iterable[int]) -> str:
    """An index expression, as short as ranges make it: "0-2,5"."""
    pieces: list[list[int]] = []
    for index in sorted(set(indices)):
        if pieces and index == pieces[-1][1] + 1:
            pieces[-1][1] = index
        else:
            pieces.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in pieces)
