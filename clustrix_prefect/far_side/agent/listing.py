"""What there is of jobs that flows have submitted, for people who look from outside."""

import json
import os
import time
from typing import Any, Dict, Iterable, List, Optional

from ..jobs.batch import BatchDirectory, read_trace
from ..wire.failures import Failure
from ..wire.files import read_optional
from ..wire.protocol import LogPiece
from .workdir import WorkDir, plain_name

# So much of a log is sent at once, bytes.
_PIECE = 64 * 1024


def about(calls: List[Dict[str, Any]]) -> bytes:
    """Return what stays written of a batch: whose calls it has, and their names.

    The manifest, which has it, too, holds the calls' keys, and goes when they are over.
    """
    context = calls[0].get("context") or {} if calls else {}
    flow_run = context.get("flow_run") or {}
    told = {
        "at": time.time(),
        "flow": flow_run.get("flow_name"),
        "flow_run": flow_run.get("name"),
        "task": (context.get("task_run") or {}).get("task_name"),
        "calls": [_named(call) for call in calls],
    }
    return json.dumps(told).encode("ascii")


def _named(call: Dict[str, Any]) -> List[Any]:
    """Return a call's name, its element of the array, and its id."""
    context = call.get("context") or {}
    name = (context.get("task_run") or {}).get("name")
    return [name, context.get("index") or 0, call["id"]]


def submitted(work_dir: WorkDir, named: Iterable[str]) -> List[Dict[str, Any]]:
    """Return every batch that was submitted as a job.

    Args:
        work_dir: The work directory.
        named: Names of calls to look for: where their logs are is told with their batches.
    """
    wanted = set(named)
    found = []
    for run in sorted(_listed(work_dir.runs)):
        try:
            batches = work_dir.batches(run)
        except (Failure, OSError):  # no run of ours
            continue
        for directory in batches:
            job = read_optional(directory.job)
            if not job:
                continue
            facts = json.loads(read_optional(directory.about) or "{}")
            calls = facts.pop("calls", [])
            facts.update(run=run, batch=os.path.basename(directory.path), job=job.strip())
            facts["calls"] = [call for call in calls if call[0] in wanted]
            found.append(facts)
    return found


def read_log(
    directory: BatchDirectory, index: int, call: Optional[str], read: Dict[str, int], to_end: bool
) -> LogPiece:
    """Read on in the output of one element of an array, and in the log of one call.

    Args:
        directory: Their batch.
        index: The element.
        call: The call's id.
        read: How far was read of each, bytes.
        to_end: Whether the last line is taken that has no end yet.
    """
    at = dict(read)
    found: Dict[str, str] = {}
    for ending in ("out", "err"):
        path = os.path.join(directory.logs, "{}.{}".format(index, ending))
        data = _read(path, at.get(ending, 0))
        if not to_end or len(data) == _PIECE:
            whole_lines = data.rfind(b"\n") + 1
            if whole_lines or len(data) < _PIECE:
                data = data[:whole_lines]
        at[ending] = at.get(ending, 0) + len(data)
        found[ending] = data.decode("utf-8", "replace")
    logged: List[List[Any]] = []
    if call:
        path = directory.event_file(plain_name(call))
        lines, at["lines"] = read_trace(path, at.get("lines", 0))
        logged = [line for line in lines if isinstance(line, list)]
    return {"out": found["out"], "err": found["err"], "lines": logged, "at": at}


def _read(path: str, start: int) -> bytes:
    try:
        # As in `files.tail`: it may be a link that the scheduler made.
        with os.fdopen(os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC), "rb") as file:
            file.seek(start)
            return file.read(_PIECE)
    except OSError:
        return b""


def _listed(path: str) -> List[str]:
    try:
        return os.listdir(path)
    except OSError:
        return []
