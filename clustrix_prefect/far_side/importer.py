"""Finds the stand-ins for `prefect` and `clustrix_prefect` before any installed package.

The stand-ins themselves are loaded when a call first imports one: most calls do not.
"""

import sys
from importlib.machinery import ModuleSpec

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Optional

TASK_LOGGER = "prefect.task_runs"
_NAMES = ("prefect", "clustrix_prefect")

_context = {}  # type: Dict[str, Any]


class StandInImporter:
    """A finder and loader without their abstract parents, which take long to import."""

    def find_spec(self, name: str, path: "Any" = None, target: "Any" = None) -> "Any":
        if name.partition(".")[0] not in _NAMES:
            return None
        loader = self  # type: Any
        return ModuleSpec(name, loader, is_package=True)

    def create_module(self, spec: "Any") -> "Any":
        from . import standin

        standin.set_context(_context)
        return standin.make_module(spec.name)

    def exec_module(self, module: "Any") -> None:
        from . import standin

        for name in standin.parts_of(module.__name__):
            __import__(name)


def install() -> None:
    """Put the stand-ins in place for this process."""
    importer = StandInImporter()  # type: Any
    sys.meta_path.insert(0, importer)


def place() -> "Optional[Dict[str, Any]]":
    """The store that this process works with, as `store`, and its flow run, as `run`."""
    return _context if "store" in _context else None


def cluster_name() -> "Optional[str]":
    """The cluster that this process runs on, as the flow names it: "slurm-cluster/ndoli"."""
    return _context.get("cluster")


def set_context(context: "Dict[str, Any]") -> None:
    """Say which task run the next call is."""
    _context.clear()
    _context.update(context)
    standin = sys.modules.get(__name__.rpartition(".")[0] + ".standin")
    if standin is not None:
        standin.set_context(context)
