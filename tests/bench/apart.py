"""Measuring in a process of its own, so that one measurement leaves nothing to the next."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import ParamSpec, TypeVar

P = ParamSpec("P")
T = TypeVar("T")


def apart(log: Path, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
    """Run a function in a new interpreter, and wait until that has ended.

    Args:
        log: Where its standard output and error go, as they would to a terminal.
        function: A function that can be imported.
        *args: What it gets.
        **kwargs: What else it gets.
    """
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_logged, log, function, args, kwargs).result()


def _logged(log: Path, function: Callable[..., T], args: tuple, kwargs: dict) -> T:
    with log.open("ab") as file:
        for stream in (sys.stdout, sys.stderr):
            os.dup2(file.fileno(), stream.fileno())
    return function(*args, **kwargs)


def peak_memory() -> int:
    """The most memory that this process has had resident, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * int(status.partition("VmHWM:")[2].split()[0])
