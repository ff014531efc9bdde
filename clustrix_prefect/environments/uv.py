"""The `uv` that is installed here, where it can run on the cluster, too."""

from __future__ import annotations

import importlib
import platform
from pathlib import Path

from clustrix_prefect.environments.wheels import Target

# What uv's own wheels for Linux are built for.
_OLDEST_GLIBC = (2, 17)


def program_for(target: Target) -> Path | None:
    """Return the program's file, if there is one and the target can run it."""
    if platform.system() != "Linux" or target.platform != f"linux-{platform.machine()}":
        return None
    name, version = target.libc
    if name != "glibc" or tuple(map(int, version.split("."))) < _OLDEST_GLIBC:
        return None
    try:
        return Path(importlib.import_module("uv").find_uv_bin())
    except (ImportError, OSError):
        return None
