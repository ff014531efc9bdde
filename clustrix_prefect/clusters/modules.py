"""Loading environment modules, and noticing that one did not load."""

from __future__ import annotations

from collections.abc import Iterable

from clustrix_prefect.schedulers.scheduler import WORKER_NOT_STARTED

# What was loaded is in LOADEDMODULES, perhaps under another name. Where the status can be trusted,
# in Lmod and in Environment Modules from version 4 on, a variable names their command.
_LOAD_MODULE = f"""\
load_module() {{  # Environment Modules 3 return 0 even if they fail
  loaded_before=":$LOADEDMODULES:"
  module load "$1" && case ":$LOADEDMODULES:" in
    *":$1:"* | *":$1/"*) true ;;
    "$loaded_before") test -n "$LMOD_CMD$MODULES_CMD" || test -z "${{LOADEDMODULES+set}}" ;;
  esac && return
  echo "{WORKER_NOT_STARTED}: $(hostname) cannot load the module $1" >&2
  exit 1
}}"""


def load_if_there(modules: Iterable[str]) -> list[str]:
    """Shell lines that load modules, for a login node, which may lack those of other nodes."""
    return [f"module load {name}" for name in modules]


def load_or_exit(modules: Iterable[str]) -> list[str]:
    """Shell lines that load modules, and end the shell if one cannot be loaded."""
    calls = [f"load_module {name}" for name in modules]
    return [*_LOAD_MODULE.splitlines(), *calls] if calls else []
