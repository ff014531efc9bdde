"""What tasks and flows are far away: they run in threads of the call that uses them.

There is no engine here and no API: an inner task has no task run of its own. What can be had
without them works as it does at home: futures, `map`, `wait_for`, retries, time limits.
"""

import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable

# What a task or flow is given that is honoured here, and what it is without.
_OPTIONS = {
    "task_run_name": None,
    "flow_run_name": None,
    "retries": 0,
    "retry_delay_seconds": 0,
    "retry_jitter_factor": None,
    "retry_condition_fn": None,
    "timeout_seconds": None,
    "log_prints": None,
}


class NotAvailableFarAway(RuntimeError):
    """Something of Prefect that only works in the flow's process was used."""


class _Callable:
    """A task or flow: the function it wraps, and how it is to be run."""

    def __init__(self, fn: "Callable[..., Any]", **options: "Any") -> None:
        self.fn = fn
        self.name = options.get("name") or getattr(fn, "__name__", "")
        for option, default in _OPTIONS.items():
            value = options.get(option)
            setattr(self, option, default if value is None else value)
        self.tags = set(options.get("tags") or ())
        self.description = options.get("description")
        self.version = options.get("version")
        self.__doc__ = fn.__doc__
        self.__name__ = getattr(fn, "__name__", self.name)
        self.__qualname__ = getattr(fn, "__qualname__", self.name)
        self.__module__ = getattr(fn, "__module__", "")
        self.__wrapped__ = fn

    def __get__(self, instance: "Any", owner: "Any" = None) -> "Any":
        function = self  # type: Any
        return self if instance is None else types.MethodType(function, instance)

    def with_options(self, **options: "Any") -> "Any":
        given = {name: getattr(self, name) for name in ("name",) + tuple(_OPTIONS)}
        given.update(options)
        return type(self)(self.fn, **given)

    def _hook(self, fn: "Any") -> "Any":
        return fn

    on_completion = on_failure = on_running = on_cancellation = on_crashed = _hook
    on_rollback = on_commit = _hook

    def _refuse(self, *args: "Any", **kwargs: "Any") -> "Any":
        raise NotAvailableFarAway(
            "{}.delay, .serve and .deploy are not available inside a task that runs on a cluster; "
            "use .submit or call {} directly, or do that from the flow.".format(
                self.name, self.name
            )
        )

    delay = serve = deploy = apply_async = _refuse


class Task(_Callable):
    """`prefect.Task`, far away."""

    def __call__(self, *args: "Any", **kwargs: "Any") -> "Any":
        return call_task(self, *args, **kwargs)

    def submit(self, *args: "Any", **kwargs: "Any") -> "Any":
        return submit_task(self, *args, **kwargs)

    def map(self, *args: "Any", **kwargs: "Any") -> "Any":
        return map_task(self, *args, **kwargs)


class Flow(_Callable):
    """`prefect.Flow`, far away."""

    def __call__(self, *args: "Any", **kwargs: "Any") -> "Any":
        return call_flow(self, *args, **kwargs)


# These are methods of Prefect's own classes, too, where those are used: see `real_prefect`.


def call_task(
    self: "Any",
    *args: "Any",
    return_state: bool = False,
    wait_for: "Any" = None,
    **kwargs: "Any",
) -> "Any":
    """Run a task where it is called."""
    is_plain = not (self.retries or self.timeout_seconds or return_state or wait_for)
    if is_plain and not _may_be_futures(args, kwargs):
        return self.fn(*args, **kwargs)
    from . import inner

    return inner.call(self, args, kwargs, wait_for, return_state)


def submit_task(
    self: "Any",
    *args: "Any",
    return_state: bool = False,
    wait_for: "Any" = None,
    **kwargs: "Any",
) -> "Any":
    """Run a task in a thread of this call."""
    from . import inner

    future = inner.submit(self, args, kwargs, wait_for)
    return future.wait_for_state() if return_state else future


def map_task(
    self: "Any",
    *args: "Any",
    return_state: bool = False,
    wait_for: "Any" = None,
    deferred: "Any" = None,
    **kwargs: "Any",
) -> "Any":
    """Run a task once for each element, in threads of this call."""
    from . import inner

    futures = inner.map_over(self, args, kwargs, wait_for)
    return [future.wait_for_state() for future in futures] if return_state else futures


def call_flow(
    self: "Any",
    *args: "Any",
    return_state: bool = False,
    wait_for: "Any" = None,
    **kwargs: "Any",
) -> "Any":
    """Run a flow where it is called."""
    from . import inner

    return inner.call_flow(self, args, kwargs, wait_for, return_state)


def _may_be_futures(args: "Any", kwargs: "Any") -> bool:
    """Return whether there can be futures among the arguments: only if any task was submitted."""
    import sys

    return __name__.rpartition(".")[0] + ".inner" in sys.modules
