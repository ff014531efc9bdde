"""Prices."""

import importlib.resources
import pkgutil
from pathlib import Path

RATE = 2


def taxed(x: int) -> int:
    from .plug_a import extra

    return x * RATE + extra()


def table() -> list[str]:
    package = __package__ or ""
    return [
        (Path(__file__).parent / "data" / "table.csv").read_text(),
        (importlib.resources.files(package) / "data" / "table.csv").read_text(),
        (pkgutil.get_data(package, "data/table.csv") or b"").decode(),
    ]
