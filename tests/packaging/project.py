"""Modules as a user writes them, imported from a directory of their own."""

from __future__ import annotations

import sys
import textwrap
from pathlib import Path
from typing import Any


def write(path: Path, text: str) -> None:
    """Write a module; its indentation is that of the test."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(text), encoding="utf-8", newline="")


def load(name: str) -> Any:
    """Import a module."""
    __import__(name)
    return sys.modules[name]
