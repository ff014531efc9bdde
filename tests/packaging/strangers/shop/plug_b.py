"""A plugin."""

from . import prices

NAME = "b"


def extra() -> int:
    return prices.RATE + 1
