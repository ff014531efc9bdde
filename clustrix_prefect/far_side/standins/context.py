"""The call that this process runs, as the stand-ins know it."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable, Dict, List, Optional

TASK_LOGGER = "prefect.task_runs"

# The user's code in this process: a `Library`, which the worker makes.
library: "Any" = None
# Called with the context of each call that begins.
followers: "List[Callable[[Dict[str, Any]], None]]" = []

_context: "Dict[str, Any]" = {}


def set_context(context: "Dict[str, Any]") -> None:
    """Say which task run the next call is."""
    _context.clear()
    _context.update(context)
    for follow in followers:
        follow(_context)


def follow(follower: "Callable[[Dict[str, Any]], None]") -> None:
    """Call this with the context of the present call, and of each that begins."""
    followers.append(follower)
    follower(_context)


def place() -> "Optional[Dict[str, Any]]":
    """Return the store that this process works with, as `store`, and its flow run, as `run`."""
    return _context if "store" in _context else None


def cluster_name() -> "Optional[str]":
    """Return the cluster of this process as the flow names it: "slurm-cluster/ndoli"."""
    return _context.get("cluster")


def call_cores() -> "Optional[int]":
    """Return how many cores the call was given, if that was said."""
    return _context.get("cores")


def call_id() -> str:
    """Return a name for the call that runs."""
    return str(id(_context.get("task_run"))) + str((_context.get("task_run") or {}).get("id"))


def tags() -> "Any":
    """Return the tags that were in force where the task was submitted."""
    return _context.get("tags") or []
