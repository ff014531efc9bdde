"""A plugin."""

from . import prices

NAME = "a"


def extra() -> int:
    return prices.RATE + 1
