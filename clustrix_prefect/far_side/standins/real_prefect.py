"""Prefect itself inside a call: its blocks and values, without its engine and without an API.

What needs either is replaced when its module is imported: tasks and flows run as they do with the
stand-in (`tasks`), loggers and `prefect.runtime` are the call's, and whoever asks for a client
is told that there is none.
"""

import os
import sys
from importlib.machinery import PathFinder
from typing import Any, Callable, Dict

from . import context, inert

# Whatever this account has set up for Prefect is not the flow's.
_SETTINGS = {
    "PREFECT_SERVER_ALLOW_EPHEMERAL_MODE": "false",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_PROFILES_PATH": os.devnull + ".toml",
}


def is_installed() -> bool:
    """Return whether this interpreter has Prefect."""
    try:
        spec = PathFinder.find_spec("prefect")
        needs = PathFinder.find_spec("pydantic")
    except (ImportError, ValueError):
        return False
    return spec is not None and spec.origin is not None and needs is not None


def find_spec(name: str, path: Any) -> Any:
    """Return the spec of one of Prefect's modules; None for those that are the call's."""
    if name == "prefect.runtime" or name.startswith("prefect.runtime."):
        return None
    if name == "prefect":
        _leave_settings_aside()
    spec = PathFinder.find_spec(name, path)
    replace = _REPLACED.get(name)
    if spec is not None and replace is not None and spec.loader is not None:
        loader: Any = spec.loader
        execute = loader.exec_module

        def execute_and_replace(module: Any) -> None:
            execute(module)
            replace(module)

        loader.exec_module = execute_and_replace
    return spec


def _leave_settings_aside() -> None:
    for name in [name for name in os.environ if name.startswith("PREFECT_")]:
        if name not in ("PREFECT_HOME",):
            del os.environ[name]
    os.environ.update(_SETTINGS)


def _loggers(module: Any) -> None:
    from . import standin

    module.get_run_logger = standin.get_run_logger
    module.disable_run_logger = standin._disable_run_logger


def _tasks(module: Any) -> None:
    from . import tasks

    kind = module.Task
    kind.__call__, kind.submit, kind.map = tasks.call_task, tasks.submit_task, tasks.map_task
    kind.delay = kind.apply_async = kind.serve = _refused("Task.delay")


def _flows(module: Any) -> None:
    from . import tasks

    module.Flow.__call__ = tasks.call_flow
    module.Flow.serve = module.Flow.deploy = _refused("Flow.deploy")


def _futures(module: Any) -> None:
    from . import inner

    module.wait, module.as_completed = inner.wait, inner.as_completed


def _client(module: Any) -> None:
    def get_client(*args: Any, **kwargs: Any) -> Any:
        raise inert.refusal("Prefect's API")

    module.get_client = get_client


def _variables(module: Any) -> None:
    for name in ("get", "aget", "set", "aset", "unset", "aunset"):
        setattr(module.Variable, name, _later("prefect.variables.Variable.{}".format(name)))


def _blocks(module: Any) -> None:
    for name in ("load", "aload", "load_from_ref", "aload_from_ref", "save", "asave"):
        setattr(module.Block, name, _later("prefect.blocks.core.Block.{}".format(name)))


def _artifacts(module: Any) -> None:
    for name in dir(module):
        if "artifact" in name and name.partition("_")[0] in ("create", "acreate", "update"):
            setattr(module, name, _later("prefect.artifacts.{}".format(name)))


def _refused(name: str) -> Callable[..., Any]:
    def refuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        raise inert.refusal("prefect." + name)

    return refuse


def _later(name: str) -> Any:
    def ask(*args: Any, **kwargs: Any) -> Any:
        return inert.inert_or_refused(name)

    return staticmethod(ask) if "artifacts" not in name else ask


_REPLACED: Dict[str, Callable[[Any], None]] = {
    "prefect.artifacts": _artifacts,
    "prefect.blocks.core": _blocks,
    "prefect.client.orchestration": _client,
    "prefect.context": lambda module: set_tags({}),
    "prefect.flows": _flows,
    "prefect.futures": _futures,
    "prefect.logging.loggers": _loggers,
    "prefect.tasks": _tasks,
    "prefect.variables": _variables,
}


def set_tags(_: Dict[str, Any]) -> None:
    """Have Prefect's own context tell the tags of the call that begins."""
    theirs = sys.modules.get("prefect.context")
    if theirs is not None and hasattr(theirs, "TagsContext"):
        variable = theirs.TagsContext.__var__
        variable.set(theirs.TagsContext(current_tags=set(context.tags())))
