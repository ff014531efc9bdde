"""Ages as people write them."""

from __future__ import annotations

import re

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 7 * 86400}
_AGE = re.compile(r"(\d+)\s*([smhdw])\Z")


def seconds_of(text: str) -> float:
    """Return the seconds that a text such as "30d" stands for.

    Raises:
        ValueError: It is no age.
    """
    match = _AGE.match(text.strip())
    if match is None:
        raise ValueError(f"{text!r} is not an age; write for example 12h or 30d")
    return float(match[1]) * _SECONDS[match[2]]
