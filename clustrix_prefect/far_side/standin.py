"""Stands in for `prefect` and `clustrix_prefect` inside a call.

A call runs where Prefect is not, or is another version without a connection to its API. What
makes sense there works: `get_run_logger`, `prefect.runtime`, a task called as the function it
wraps. Every other name can be imported, and says what to do when it is used.
"""

import contextlib
import functools
import logging
import types
from typing import Any, Callable, Dict, Iterator, List, Optional

from .by_value import REFERENCES
from .importer import TASK_LOGGER
from .tasks import Flow, NotAvailableFarAway, Task


def _refusal(name: str) -> str:
    return (
        "{} is not available inside a task that runs on a cluster; "
        "use it in the flow, or in a task that runs with the flow."
    ).format(name)


class StandInModule(types.ModuleType):
    """A module with a few names of the real one; any other is refused by name."""

    __path__: List[str] = []

    def __getattr__(self, name: str) -> Any:
        # AttributeError is what `hasattr`, pickle and `from ... import` expect.
        raise AttributeError(_refusal("{}.{}".format(self.__name__, name)))

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        # `from prefect.artifacts import create_link_artifact` imports such a module.
        raise NotAvailableFarAway(_refusal(self.__name__))


class RuntimeModule(StandInModule):
    """`prefect.runtime.task_run` and its like: what the client said about this run."""

    def __init__(self, name: str, facts: Dict[str, Any]) -> None:
        super().__init__(name)
        self.__dict__["_facts"] = facts

    def __getattr__(self, name: str) -> Any:
        if name.startswith("_"):
            raise AttributeError(name)
        return self.__dict__["_facts"].get(name)


def _decorator(kind: Any) -> Callable[..., Any]:
    def decorate(fn: Optional[Callable[..., Any]] = None, **options: Any) -> Any:
        if fn is None:
            return lambda wrapped: kind(wrapped, **options)
        return kind(fn, **options)

    return decorate


@contextlib.contextmanager
def _no_tags(*tags: str) -> Iterator[List[str]]:
    yield list(tags)


class _PassThrough:
    """`clustrix_prefect.resources(...)`: a decorator or a context manager without effect."""

    def __init__(self, **fields: Any) -> None:
        self.fields = fields

    def __call__(self, fn: Any) -> Any:
        return fn

    def __enter__(self) -> "_PassThrough":
        return self

    def __exit__(self, *error: Any) -> None:
        return None


class _Inert:
    """A task runner or cluster block: can be made where a flow is defined, and nothing more."""

    _kind: Optional[str] = None
    _block_name: Optional[str] = None

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        pass

    @classmethod
    def load(cls, name: Any = None, *args: Any, **kwargs: Any) -> "_Inert":
        loaded = cls()
        loaded._block_name = "{}/{}".format(cls._kind, name) if cls._kind else None
        return loaded


def _block(kind: str) -> Any:
    """An inert block of this type."""
    return type("_InertBlock", (_Inert,), {"_kind": kind})


class _Annotation:
    """`unmapped`, `allow_failure`, `quote`: a wrapper around a value."""

    def __init__(self, value: Any = None) -> None:
        self.value = value

    def unwrap(self) -> Any:
        return self.value


class State:
    """A state that a task returns; where it is opened again it is Prefect's own."""

    def __init__(self, constructor: Callable[..., Any], fields: Dict[str, Any]) -> None:
        self._constructor = constructor
        self.fields = fields

    def __reduce__(self) -> Any:
        return functools.partial(self._constructor, **self.fields), ()


def _state_constructor(name: str) -> Callable[..., Any]:
    def construct(**fields: Any) -> State:
        return State(construct, fields)

    # So that it is pickled as the name of the real one.
    construct.__module__, construct.__qualname__ = "prefect.states", name
    return construct


def get_run_logger(context: Any = None, **extra: Any) -> Any:
    """The logger whose lines appear under the task run."""
    return logging.LoggerAdapter(logging.getLogger(TASK_LOGGER), extra)


def get_logger(name: Optional[str] = None) -> logging.Logger:
    """A logger below `prefect`."""
    if name and name != "prefect" and not name.startswith("prefect."):
        name = "prefect." + name
    return logging.getLogger(name or "prefect")


@contextlib.contextmanager
def _disable_run_logger() -> Iterator[None]:
    logger = logging.getLogger(TASK_LOGGER)
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


_flow_run: Dict[str, Any] = {}
_task_run: Dict[str, Any] = {}
_deployment: Dict[str, Any] = {}


def set_context(context: Dict[str, Any]) -> None:
    """Say which task run the next call is."""
    for facts, key in (
        (_flow_run, "flow_run"),
        (_task_run, "task_run"),
        (_deployment, "deployment"),
    ):
        facts.clear()
        facts.update({"parameters": {}})
        if key != "deployment":
            facts.update({"tags": [], "run_count": 0})
        facts.update(context.get(key) or {})


_task, _flow = _decorator(Task), _decorator(Flow)
_annotations = {"unmapped": _Annotation, "allow_failure": _Annotation, "quote": _Annotation}
_logging = {
    "get_run_logger": get_run_logger,
    "get_logger": get_logger,
    "disable_run_logger": _disable_run_logger,
}
_states = {
    name: _state_constructor(name)
    for name in ("Cancelled", "Completed", "Crashed", "Failed", "Paused", "Pending", "Running")
}
# What the stand-ins offer, by module.
_OFFERED: Dict[str, Dict[str, Any]] = {
    "prefect": dict(
        _annotations,
        task=_task,
        flow=_flow,
        Task=Task,
        Flow=Flow,
        tags=_no_tags,
        get_run_logger=get_run_logger,
    ),
    "prefect.context": {"tags": _no_tags},
    "prefect.flows": {"flow": _flow, "Flow": Flow},
    "prefect.logging": _logging,
    "prefect.logging.loggers": _logging,
    "prefect.states": dict(_states, State=State),
    "prefect.tasks": {"task": _task, "Task": Task},
    "prefect.utilities.annotations": _annotations,
    "prefect.task_runners": dict.fromkeys(
        ("TaskRunner", "ThreadPoolTaskRunner", "ProcessPoolTaskRunner"), _Inert
    ),
    "clustrix_prefect": dict(
        dict.fromkeys(("ClusterTaskRunner", "SSHCredentials"), _Inert),
        LocalCluster=_block("local-cluster"),
        SSHCluster=_block("ssh-cluster"),
        SlurmCluster=_block("slurm-cluster"),
        SGECluster=_block("sge-cluster"),
        PBSCluster=_block("pbs-cluster"),
        resources=_PassThrough,
    ),
    "clustrix_prefect.task_resources": {"resources": _PassThrough},
}
_RUNTIME = {"flow_run": _flow_run, "task_run": _task_run, "deployment": _deployment}


def make_module(name: str) -> StandInModule:
    """The stand-in for a module of this name."""
    parent, _, leaf = name.rpartition(".")
    if parent == "prefect.runtime" and leaf in _RUNTIME:
        return RuntimeModule(name, _RUNTIME[leaf])
    module = StandInModule(name)
    module.__dict__.update(_OFFERED.get(name, {}))
    if name in ("clustrix_prefect", "clustrix_prefect.data"):
        # It brings much that few calls need.
        from . import outputs

        module.__dict__.update(outputs.OFFERED)
    if name == REFERENCES:
        from . import at_home

        module.__dict__.update(at_home.OFFERED)
    if name in ("clustrix_prefect", "clustrix_prefect.filesystem.functions"):
        from . import shim

        module.__dict__.update(shim.OFFERED)
    return module


def parts_of(name: str) -> List[str]:
    """The modules that are there as soon as the named one is."""
    if name == "prefect":
        return ["prefect.runtime"]
    if name == "prefect.runtime":
        return ["prefect.runtime." + leaf for leaf in _RUNTIME]
    return []
