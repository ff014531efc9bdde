"""Stands in for `prefect` and `clustrix_prefect` inside a call.

A call runs where Prefect is not, or is another version without a connection to its API. What
makes sense there works: `get_run_logger`, `prefect.runtime`, tasks, which run in the call's own
threads. Every other name is inert: see `inert`.
"""

import contextlib
import datetime
import functools
import importlib
import logging
import types
from typing import Any, Callable, Dict, Iterator, List, Optional

from . import context, inert
from .by_value import REFERENCES
from .log_capture import run_logger
from .tasks import Flow, Task
from .thread_values import inner_runs
from .thread_values import tags as tags_here


class StandInModule(types.ModuleType):
    """A module with a few names of the real one; any other is inert."""

    __path__: List[str] = []

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        whole = "{}.{}".format(self.__name__, name)
        if is_module(whole):
            return importlib.import_module(whole)
        if self.__name__ == "prefect.exceptions":
            made: Any = type(name, (PrefectException,), {"__module__": self.__name__})
        else:
            made = inert.Inert(whole)
        setattr(self, name, made)
        return made


class PrefectException(Exception):
    """`prefect.exceptions.PrefectException`, far away."""


PrefectException.__module__ = "prefect.exceptions"


class RuntimeModule(StandInModule):
    """`prefect.runtime.task_run` and its like: what the client said about this run."""

    def __init__(self, name: str, facts: Dict[str, Any]) -> None:
        super().__init__(name)
        self.__dict__["_facts"] = facts

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        facts = self.__dict__["_facts"]
        inner = inner_runs.get() if facts is _task_run else None
        if inner is not None and name in inner:
            return inner[name]
        if name not in facts:
            raise AttributeError("{} has no attribute {!r}".format(self.__name__, name))
        value = facts[name]
        if name == "scheduled_start_time" and isinstance(value, str):
            return _time(value)
        return value


def _time(text: str) -> Any:
    """Return a time in ISO 8601, in UTC."""
    found = datetime.datetime.strptime(text[:19], "%Y-%m-%dT%H:%M:%S")
    fraction = text[20:26] if text[19:20] == "." else ""
    return found.replace(
        microsecond=int(fraction.ljust(6, "0")) if fraction.isdigit() else 0,
        tzinfo=datetime.timezone.utc,
    )


def _decorator(kind: Any) -> Callable[..., Any]:
    def decorate(fn: Optional[Callable[..., Any]] = None, **options: Any) -> Any:
        if fn is None:
            return lambda wrapped: kind(wrapped, **options)
        return kind(fn, **options)

    return decorate


@contextlib.contextmanager
def tags_in_force(*tags: str) -> Iterator[Any]:
    """`prefect.tags`: what is submitted within has these tags."""
    token = tags_here.set(TagsContext.get().current_tags | set(tags))
    try:
        yield tags_here.get()
    finally:
        tags_here.reset(token)


class TagsContext:
    """The tags that are in force."""

    def __init__(self, current_tags: Any = ()) -> None:
        self.current_tags = set(current_tags)

    @classmethod
    def get(cls) -> "TagsContext":
        current = tags_here.get()
        return cls(context.tags() if current is None else current)


class _PassThrough:
    """`clustrix_prefect.task_resources(...)`: a decorator or a context manager without effect."""

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
    """Return an inert block of this type."""
    return type("_InertBlock", (_Inert,), {"_kind": kind})


def _annotation(name: str) -> Any:
    """`unmapped`, `allow_failure`, `quote`: a wrapper around a value."""

    class Annotation:
        def __init__(self, value: Any = None) -> None:
            self.value = value

        def unwrap(self) -> Any:
            return self.value

        def __reduce__(self) -> Any:
            return type(self), (self.value,)

    Annotation.__name__ = Annotation.__qualname__ = name
    Annotation.__module__ = "prefect.utilities.annotations"
    return Annotation


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
    """Return the logger whose lines appear under the task run."""
    return logging.LoggerAdapter(run_logger(), extra)


def get_logger(name: Optional[str] = None) -> logging.Logger:
    """Return a logger below `prefect`."""
    if name and name != "prefect" and not name.startswith("prefect."):
        name = "prefect." + name
    return logging.getLogger(name or "prefect")


@contextlib.contextmanager
def _disable_run_logger() -> Iterator[None]:
    logger = run_logger()
    before, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = before


def _materialize(*assets: Any, by: Any = None, **options: Any) -> Any:
    return lambda fn: Task(fn, **options)


# What the modules of `prefect.runtime` have.
_FIELDS = {
    "flow_run": (
        *("id", "tags", "scheduled_start_time", "name", "flow_name", "flow_version"),
        *("parameters", "parent_flow_run_id", "parent_deployment_id", "root_flow_run_id"),
        *("run_count", "api_url", "ui_url", "job_variables"),
    ),
    "task_run": (
        *("id", "tags", "name", "parameters", "run_count", "task_name", "api_url", "ui_url"),
    ),
    "deployment": ("id", "name", "parameters", "version", "flow_run_id"),
}
_flow_run: Dict[str, Any] = {}
_task_run: Dict[str, Any] = {}
_deployment: Dict[str, Any] = {}


def _set_context(context: Dict[str, Any]) -> None:
    """Tell of this task run from now on."""
    for facts, key in (
        (_flow_run, "flow_run"),
        (_task_run, "task_run"),
        (_deployment, "deployment"),
    ):
        facts.clear()
        facts.update(dict.fromkeys(_FIELDS[key]))
        facts.update({"parameters": {}})
        if key != "deployment":
            facts.update({"tags": [], "run_count": 0})
        facts.update(context.get(key) or {})


_task, _flow = _decorator(Task), _decorator(Flow)
_annotations = {name: _annotation(name) for name in ("unmapped", "allow_failure", "quote")}
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
        tags=tags_in_force,
        get_run_logger=get_run_logger,
    ),
    "prefect.assets": {"materialize": _materialize},
    "prefect.context": {"tags": tags_in_force, "TagsContext": TagsContext},
    "prefect.exceptions": {"PrefectException": PrefectException},
    "prefect.futures": {},
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
_SUBMODULES = {name.rpartition(".")[0] for name in _OFFERED}
_RUNTIME = {"flow_run": _flow_run, "task_run": _task_run, "deployment": _deployment}


def is_module(name: str) -> bool:
    """Return whether a stand-in of this name is a module, rather than something in one."""
    return name in _OFFERED or name in _SUBMODULES or _in_runtime(name)


def _in_runtime(name: str) -> bool:
    return name == "prefect.runtime" or name.rpartition(".")[0] == "prefect.runtime"


def offers(module: str, name: str) -> bool:
    """Return whether the stand-in of a module has something of this name, other than an inert one.

    Args:
        module: The module, below `prefect`.
        name: A name in it; empty for the module alone.
    """
    if _in_runtime(module) or not name or is_module("{}.{}".format(module, name)):
        return True
    if module == "prefect.exceptions":
        return True
    return name in _OFFERED.get(module, {}) or (module == "prefect.futures" and name in _FUTURES)


_FUTURES = ("wait", "as_completed")
_WITH_FILES = (
    "clustrix_prefect",
    "clustrix_prefect.files",
    "clustrix_prefect.sessions.remote_files",
)


def make_module(name: str) -> StandInModule:
    """Return the stand-in for a module of this name."""
    parent, _, leaf = name.rpartition(".")
    if parent == "prefect.runtime" and leaf in _RUNTIME:
        return RuntimeModule(name, _RUNTIME[leaf])
    module = StandInModule(name)
    module.__dict__.update(_OFFERED.get(name, {}))
    if name == "prefect.futures":
        from . import inner

        module.__dict__.update({each: getattr(inner, each) for each in _FUTURES})
    if name == "prefect.exceptions":
        from . import inner

        module.__dict__.update(inner.EXCEPTIONS)
    if name in _WITH_FILES:
        # It brings much that few calls need.
        from . import returned_files as outputs

        module.__dict__.update(outputs.OFFERED)
    if name == REFERENCES:
        from . import at_home

        module.__dict__.update(at_home.OFFERED)
    if name in ("clustrix_prefect", "clustrix_prefect.filesystem.functions"):
        from . import cluster_functions as shim

        module.__dict__.update(shim.OFFERED)
    return module


def blobs_of(name: str) -> List[str]:
    """Return the modules that are there as soon as the named one is."""
    if name == "prefect":
        return ["prefect.runtime"]
    if name == "prefect.runtime":
        return ["prefect.runtime." + leaf for leaf in _RUNTIME]
    return []


context.follow(_set_context)
