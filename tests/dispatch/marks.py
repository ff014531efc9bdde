"""Files by which far bodies say that they began, so that tests can count how often each did."""

from __future__ import annotations

import json
import os
import time
import uuid
from collections import Counter
from pathlib import Path
from typing import Any


def mark(directory: str, name: str) -> int:
    """Called by a body: it began. How often this one has by now."""
    variables = os.environ.get
    pairs = (
        ("SLURM_ARRAY_JOB_ID", "_", "SLURM_ARRAY_TASK_ID"),
        ("JOB_ID", ".", "SGE_TASK_ID"),
    )
    job = variables("SLURM_JOB_ID") or variables("PBS_JOBID") or variables("JOB_ID")
    for whole, separator, part in pairs:
        if variables(whole) and variables(part, "undefined") != "undefined":
            job = separator.join((os.environ[whole], os.environ[part]))
    path = os.path.join(directory, f"{name}.{uuid.uuid4().hex}")
    with open(path + ".tmp", "w") as file:
        json.dump({"job": job, "pid": os.getpid(), "time": time.time()}, file)
    os.rename(path + ".tmp", path)
    return sum(other.startswith(name + ".") for other in os.listdir(directory))


def marks(directory: Path) -> Counter[str]:
    """How often each body began."""
    return Counter(path.stem for path in directory.iterdir() if _is_mark(path))


def _is_mark(path: Path) -> bool:
    return path.is_file() and path.suffix != ".tmp"


def wait_for_marks(directory: Path, count: int, within: float = 60.0) -> Counter[str]:
    """Wait until so many bodies have begun."""
    deadline = time.monotonic() + within
    while len(found := marks(directory)) < count:
        assert time.monotonic() < deadline, f"only {len(found)} of {count} bodies began"
        time.sleep(0.05)
    return found


def left_by(directory: Path, name: str, within: float = 60.0) -> dict[str, Any]:
    """What a body said when it began: its job, its process, the time."""
    deadline = time.monotonic() + within
    while not (found := list(filter(_is_mark, directory.glob(f"{name}.*")))):
        assert time.monotonic() < deadline, f"{name} did not begin"
        time.sleep(0.05)
    said: dict[str, Any] = json.loads(found[0].read_text())
    return said
