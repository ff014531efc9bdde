"""What one call of a task needs: `resources(...)`.

The names are the field's; each scheduler translates them.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Callable
from contextvars import ContextVar
from typing import Any, TypeVar
from weakref import WeakKeyDictionary

from prefect.flows import Flow
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from clustrix_prefect.display.nearest import what_was_meant
from clustrix_prefect.errors import InvalidResources

_F = TypeVar("_F", bound=Callable[..., Any])

_MEMORY_UNITS = {
    "": 1,
    "B": 1,
    "K": 1024,
    "M": 1024**2,
    "G": 1024**3,
    "T": 1024**4,
}
_MEMORY = re.compile(r"^\s*(\d+(?:\.\d+)?)\s*([KMGT]?)(?:I?B)?\s*\Z", re.IGNORECASE)
_CLOCK = re.compile(r"^(?:(\d+)-)?(\d{1,3}):(\d{2})(?::(\d{2}))?\Z")

_EXAMPLES = {
    "cores": "cores=4",
    "memory": 'memory="8GB"',
    "time": 'time="00:30:00"',
    "gpus": 'gpus=1 or gpus="a100:2"',
    "nodes": "nodes=2",
    "tasks_per_node": "tasks_per_node=8",
    "partition": 'partition="short"',
    "account": 'account="lab42"',
    "qos": 'qos="high"',
    "constraint": 'constraint="skylake"',
    "calls_per_job": "calls_per_job=10",
    "max_parallel_jobs": "max_parallel_jobs=50",
    "signal_before_end": "signal_before_end=60",
    "queue_timeout": "queue_timeout=3600",
}


class Resources(BaseModel):
    """What one call needs. Fields left as None are the cluster's defaults.

    Attributes:
        cores: Processor cores for one call.
        memory: Bytes for one call; text such as "8GB" or "512M" is read with 1024-based
            units, as SLURM reads it.
        time: Wall-clock limit in seconds; "HH:MM:SS", "MM:SS" with minutes, "D-HH:MM:SS"
            and numbers of seconds are read.
        gpus: Number of GPUs, or "type:number".
        nodes: Nodes of one job (MPI inside a task).
        tasks_per_node: MPI ranks on each node.
        partition: The scheduler's partition or queue.
        account: Whom to charge.
        qos: Quality of service.
        constraint: Node features.
        calls_per_job: Calls that one job runs one after another.
        max_parallel_jobs: Jobs of one map that may run at once. Its arrays, if it takes several,
            go one after another.
        signal_before_end: Seconds before the time limit at which the job receives SIGUSR1.
        queue_timeout: Seconds a call may wait in the queue before it fails.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    cores: int | None = Field(default=None, ge=1)
    memory: int | None = Field(default=None, ge=1024**2)
    time: int | None = Field(default=None, ge=1)
    gpus: int | str | None = None
    nodes: int | None = Field(default=None, ge=1)
    tasks_per_node: int | None = Field(default=None, ge=1)
    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    constraint: str | None = None
    calls_per_job: int | None = Field(default=None, ge=1)
    max_parallel_jobs: int | None = Field(default=None, ge=1)
    signal_before_end: int | None = Field(default=None, ge=1)
    queue_timeout: float | None = Field(default=None, gt=0)

    @field_validator(
        "cores",
        "nodes",
        "tasks_per_node",
        "calls_per_job",
        "max_parallel_jobs",
        "signal_before_end",
        mode="before",
    )
    @classmethod
    def _whole_number(cls, value: Any) -> Any:
        if isinstance(value, bool) or (value is not None and not isinstance(value, int)):
            raise ValueError("expects a whole number")
        return value

    @field_validator("memory", mode="before")
    @classmethod
    def _read_memory(cls, value: Any) -> Any:
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        match = _MEMORY.match(value) if isinstance(value, str) else None
        if not match:
            raise ValueError("expects a size with a unit, or a number of bytes")
        return int(float(match[1]) * _MEMORY_UNITS[match[2].upper()])

    @field_validator("time", mode="before")
    @classmethod
    def _read_time(cls, value: Any) -> Any:
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        if hasattr(value, "total_seconds"):
            return int(value.total_seconds())
        match = _CLOCK.match(value.strip()) if isinstance(value, str) else None
        if not match:
            raise ValueError("expects hours, minutes and seconds, or a number of seconds")
        days, first, second, third = (int(group or 0) for group in match.groups())
        if match[4] is None and match[1] is None:  # MM:SS, as SLURM reads two numbers
            return first * 60 + second
        return ((days * 24 + first) * 60 + second) * 60 + third

    @field_validator("gpus", mode="before")
    @classmethod
    def _read_gpus(cls, value: Any) -> Any:
        if value is None or (isinstance(value, int) and not isinstance(value, bool) and value >= 0):
            return value
        if isinstance(value, str) and re.match(r"^([A-Za-z0-9_.\-]+:)?[0-9]+\Z", value):
            return int(value) if value.isdigit() else value
        raise ValueError("expects a number, or a type and a number")

    @field_validator("partition", "account", "qos", "constraint")
    @classmethod
    def _one_line(cls, value: str | None) -> str | None:
        # These become directive lines of a job script, where a newline would begin another.
        if value is not None and (not value.strip() or not value.isprintable()):
            raise ValueError("expects one line of printable text")
        return value

    @classmethod
    def of(cls, **values: Any) -> Resources:
        """Resources from keyword arguments.

        Raises:
            InvalidResources: A name or a value is wrong; the message names the field and
                shows an example.
        """
        try:
            return cls(**values)
        except ValidationError as error:
            first = error.errors()[0]
            name = str(first["loc"][0]) if first["loc"] else ""
            if first["type"] == "extra_forbidden":
                meant = what_was_meant(name, cls.model_fields)
                what = f"resources() has no field {name!r}{meant}"
                remedy = f"Its fields are {', '.join(cls.model_fields)}."
            else:
                reason = first["msg"].removeprefix("Value error, ")
                given = first["input"]
                what = f"resources({name}={given!r}): {reason[0].lower()}{reason[1:]}."
                remedy = f"Write for example resources({_EXAMPLES.get(name, name)})."
            raise InvalidResources(what, remedy) from None

    def merged(self, over: Resources) -> Resources:
        """These resources with the fields that `over` sets put in their place."""
        return self.model_copy(update=over.model_dump(exclude_none=True))


_current: ContextVar[Resources] = ContextVar("clustrix_prefect_resources", default=Resources())  # noqa: B039 (frozen)

# Not an attribute of the function: that would travel to the cluster with it.
_declared: WeakKeyDictionary[Callable[..., Any], Resources] = WeakKeyDictionary()


class resources:
    """Say what calls need: around `submit` and `map`, or with `@task`, over or under it.

    The innermost wins, over a decorator's, over the cluster's `default_resources`.

    Args:
        **values: The fields of `Resources`.

    Raises:
        InvalidResources: At once, naming the field and an example.

    Examples:
        ```python
        with resources(cores=4, memory="8GB", time="00:30:00"):
            futures = fit.map(range(100))

        @task
        @resources(gpus=1)
        def train(path): ...
        ```
    """

    def __init__(self, **values: Any) -> None:
        self._resources = Resources.of(**values)
        self._tokens: list[Any] = []

    def __call__(self, function: _F) -> _F:
        if isinstance(function, Flow):
            raise InvalidResources(
                f"The flow {function.name!r} is given resources, which belong to calls of tasks.",
                "Put the decorator on its tasks, or `with resources(...)` into the flow.",
            )
        # A task leads to its function, and so does the same task with other options.
        innermost = inspect.unwrap(function)
        _declared[innermost] = _declared_for(innermost).merged(self._resources)
        return function

    def __enter__(self) -> Resources:
        merged = _current.get().merged(self._resources)
        self._tokens.append(_current.set(merged))
        return merged

    def __exit__(self, *exc_info: object) -> None:
        _current.reset(self._tokens.pop())


def current_resources(task: Callable[..., Any], defaults: Resources) -> Resources:
    """Return what a call of this task gets, submitted here and now."""
    return defaults.merged(_declared_for(inspect.unwrap(task))).merged(_current.get())


def _declared_for(function: Callable[..., Any]) -> Resources:
    return _declared.get(function, Resources())
