"""What a task or flow is far away: the function that it wraps."""

import types

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Callable


class NotAvailableFarAway(RuntimeError):
    """Something of Prefect that only works in the flow's process was used."""


class _Callable:
    """A task or flow: the function it wraps, and nothing more."""

    def __init__(self, fn: "Callable[..., Any]", **options: "Any") -> None:
        self.fn = fn
        self.name = options.get("name") or getattr(fn, "__name__", "")
        self.__doc__ = fn.__doc__
        self.__wrapped__ = fn

    def __call__(self, *args: "Any", **kwargs: "Any") -> "Any":
        return self.fn(*args, **kwargs)

    def __get__(self, instance: "Any", owner: "Any" = None) -> "Any":
        return self if instance is None else types.MethodType(self, instance)

    def with_options(self, **options: "Any") -> "Any":
        return type(self)(self.fn, **options)

    def _refuse(self, *args: "Any", **kwargs: "Any") -> "Any":
        raise NotAvailableFarAway(
            "{}.submit, .map and .delay are not available inside a task that runs on a cluster; "
            "call {} directly, or submit it from the flow.".format(self.name, self.name)
        )

    submit = map = delay = serve = deploy = apply_async = _refuse


class Task(_Callable):
    """`prefect.Task`, far away."""


class Flow(_Callable):
    """`prefect.Flow`, far away."""
