"""A package with data, relative imports, and plugins that are found by their names."""

import importlib

from . import prices


def plugin(name: str) -> str:
    return str(importlib.import_module(f"{__name__}.plug_{name}").NAME)


__all__ = ["plugin", "prices"]
