"""Sets of array indices, as schedulers write them: "0-2,5,8-20:4%3"."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

_PIECE = re.compile(r"^(\d+)(?:-(\d+)(?::(\d+))?)?\Z")


def parse_indices(text: str) -> list[range]:
    """Return the ranges of an index expression, without its throttle ("%3").

    An expression that was cut short ("1,4,7,...") may go on without end: so does the last of
    its ranges.
    """
    text = text.partition("%")[0]
    whole = text.removesuffix("...")
    ranges: list[range] = []
    for piece in whole.split(","):
        if match := _PIECE.match(piece):
            first, last, step = (int(group) if group else None for group in match.groups())
            assert first is not None
            ranges.append(range(first, (first if last is None else last) + 1, step or 1))
    if whole != text and ranges:
        ranges.append(range(ranges[-1].stop, sys.maxsize))
    return ranges


def format_indices(indices: Iterable[int]) -> str:
    """Return an index expression, as short as ranges make it: "0-2,5"."""
    pieces: list[list[int]] = []
    for index in sorted(set(indices)):
        if pieces and index == pieces[-1][1] + 1:
            pieces[-1][1] = index
        else:
            pieces.append([index, index])
    return ",".join(str(a) if a == b else f"{a}-{b}" for a, b in pieces)
