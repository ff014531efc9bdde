"""Runs the tasks and flows that a task uses, in threads of its call.

As many at once as the call has cores; a thread that waits for another one's result lets
somebody else have its core meanwhile.
"""

import asyncio
import concurrent.futures
import contextlib
import importlib
import inspect
import random
import threading
import time
import uuid
from typing import Any, Callable, Dict, Iterator, List, NamedTuple, Optional, Set, Tuple

from ..wire.cgroup import cores
from . import context as call_context
from .log_capture import run_logger
from .thread_values import inner_run

try:
    contextvars: Any = importlib.import_module("contextvars")
except ImportError:  # Python 3.6
    contextvars = None

_is_said = threading.local()


class MappingLengthMismatch(Exception):
    """The collections that a task is mapped over differ in length."""


class MappingMissingIterable(Exception):
    """There is nothing to map a task over."""


class UnfinishedRun(Exception):
    """The result of a run was asked for that never ran."""


for _kind in (MappingLengthMismatch, MappingMissingIterable, UnfinishedRun):
    _kind.__module__ = "prefect.exceptions"
EXCEPTIONS = {
    kind.__name__: kind for kind in (MappingLengthMismatch, MappingMissingIterable, UnfinishedRun)
}


class InnerState:
    """What became of an inner task."""

    def __init__(self, name: str, value: Any = None, error: Optional[BaseException] = None) -> None:
        self.name = name
        self.type = name.upper()
        self.message = str(error) if error is not None else None
        self.data = error if error is not None else value
        self._value = value
        self._error = error

    def is_completed(self) -> bool:
        return self.name == "Completed"

    def is_failed(self) -> bool:
        return self.name == "Failed"

    def is_pending(self) -> bool:
        return self.name in ("Pending", "NotReady")

    def is_running(self) -> bool:
        return self.name == "Running"

    def is_crashed(self) -> bool:
        return False

    is_cancelled = is_paused = is_crashed

    def is_final(self) -> bool:
        return self.name in ("Completed", "Failed")

    def result(self, raise_on_failure: bool = True, **_: Any) -> Any:
        """Return the value; what was raised is raised, or given back."""
        if self._error is not None:
            if raise_on_failure:
                raise self._error
            return self._error
        if self.is_pending():
            raise UnfinishedRun("Run is in PENDING state, its result is not available.")
        return self._value

    def __repr__(self) -> str:
        return "{}()".format(self.name)


class _Cores:
    """The cores of the call, each for one thread at a time."""

    def __init__(self) -> None:
        self._free = threading.Semaphore(call_context.call_cores() or cores())
        self._mine = threading.local()

    @contextlib.contextmanager
    def one(self) -> Iterator[None]:
        with self._free:
            self._mine.held = True
            try:
                yield
            finally:
                self._mine.held = False

    @contextlib.contextmanager
    def lent(self) -> Iterator[None]:
        """Let another thread have this one's core while it waits."""
        if not getattr(self._mine, "held", False):
            yield
            return
        self._free.release()
        try:
            yield
        finally:
            self._free.acquire()


_cores_of_call: Dict[str, _Cores] = {}


def _call_cores() -> _Cores:
    key = call_context.call_id()
    if key not in _cores_of_call:
        _cores_of_call.clear()
        _cores_of_call[key] = _Cores()
    return _cores_of_call[key]


class Future:
    """The result of an inner task, when it is there."""

    def __init__(self, name: str) -> None:
        self.task_run_id = uuid.uuid4()
        self.task_run_name = name
        self._cores = _call_cores()
        self._done: "concurrent.futures.Future[InnerState]" = concurrent.futures.Future()

    @property
    def state(self) -> InnerState:
        return self._done.result() if self._done.done() else InnerState("Pending")

    def wait(self, timeout: Optional[float] = None) -> None:
        """Wait until it has ended, as long as that takes no longer than this."""
        with self._cores.lent():
            concurrent.futures.wait([self._done], timeout)

    def wait_for_state(self) -> InnerState:
        """Return what became of it."""
        self.wait()
        return self.state

    def result(self, timeout: Optional[float] = None, raise_on_failure: bool = True) -> Any:
        """Its value; what it raised is raised, or given back."""
        self.wait(timeout)
        if not self._done.done():
            raise TimeoutError("Task run {} did not complete in time".format(self.task_run_id))
        return self.state.result(raise_on_failure=raise_on_failure)

    def add_done_callback(self, fn: Callable[["Future"], None]) -> None:
        """Call this with the future when it has ended."""
        self._done.add_done_callback(lambda _: fn(self))

    def end(self, state: InnerState) -> None:
        """It has ended."""
        self._done.set_result(state)

    def __await__(self) -> Any:
        return asyncio.wrap_future(self._done).__await__()


class FutureList(List[Any]):
    """The futures of a map."""

    def wait(self, timeout: Optional[float] = None) -> None:
        """Wait until all have ended."""
        wait(self, timeout)

    def result(self, timeout: Optional[float] = None, raise_on_failure: bool = True) -> List[Any]:
        """Return the values of all, in order."""
        ends = None if timeout is None else time.monotonic() + timeout
        return [
            each.result(
                None if ends is None else max(0.0, ends - time.monotonic()), raise_on_failure
            )
            for each in self
        ]


class DoneAndNotDoneFutures(NamedTuple):
    """The futures that have ended, and the others."""

    done: Set[Any]
    not_done: Set[Any]


def wait(futures: Any, timeout: Optional[float] = None) -> DoneAndNotDoneFutures:
    """Wait for futures."""
    futures = list(futures)
    with _call_cores().lent():
        concurrent.futures.wait([each._done for each in futures], timeout)
    done = {each for each in futures if each._done.done()}
    return DoneAndNotDoneFutures(done, set(futures) - done)


def as_completed(futures: Any, timeout: Optional[float] = None) -> Iterator[Any]:
    """Yield each future as it ends."""
    by_done = {each._done: each for each in futures}
    ended = concurrent.futures.as_completed(list(by_done), timeout)
    while True:
        with _call_cores().lent():
            done = next(ended, None)
        if done is None:
            return
        yield by_done[done]


# --- running ------------------------------------------------------------------------------------


def call(task: Any, args: Any, kwargs: Any, wait_for: Any, return_state: bool) -> Any:
    """Run a task here and now."""
    name = _run_name(task, args, kwargs)
    if inspect.iscoroutinefunction(task.fn):
        return _call_async(task, args, kwargs, wait_for, return_state, name)
    state = _run(task, args, kwargs, wait_for, name)
    return state if return_state else state.result()


async def _call_async(
    task: Any, args: Any, kwargs: Any, wait_for: Any, return_state: bool, name: str
) -> Any:
    error: Optional[BaseException] = None
    for attempt in range(task.retries + 1):
        try:
            waiting = task.fn(*_resolve(args), **_resolve(kwargs))
            value = await asyncio.wait_for(waiting, task.timeout_seconds)
            return InnerState("Completed", value) if return_state else value
        except Exception as raised:
            error = raised
            if not _is_tried_again(task, attempt, raised, name):
                break
            await asyncio.sleep(_delay(task, attempt))
    if return_state:
        return InnerState("Failed", error=error)
    assert error is not None
    raise error


def submit(task: Any, args: Any, kwargs: Any, wait_for: Any) -> Future:
    """Run a task in a thread."""
    _say_once()
    name = _run_name(task, args, kwargs)
    future = Future(name)
    available = _call_cores()

    def run() -> None:
        try:
            state = _not_ready([args, kwargs, wait_for])
            if state is None:
                with available.one():
                    run_logger().info("Task run %r began", name)
                    state = _run(task, args, kwargs, wait_for, name)
                    _say_end("Task run", name, state)
            future.end(state)
        except BaseException as error:
            future.end(InnerState("Failed", error=error))

    if contextvars is not None:
        context = contextvars.copy_context()
        target: Callable[[], None] = lambda: context.run(run)  # noqa: E731
    else:
        target = run
    threading.Thread(target=target, name=name, daemon=True).start()
    return future


def map_over(task: Any, args: Any, kwargs: Any, wait_for: Any) -> FutureList:
    """Run a task in threads, once for each element."""
    bound = inspect.signature(task.fn).bind(*args, **kwargs)
    parameters = _resolve(dict(bound.arguments), keep=True)
    several: Dict[str, List[Any]] = {}
    for name, value in parameters.items():
        if _is_called(value, "unmapped"):
            continue
        inside = value.unwrap() if _is_called(value, "allow_failure") else value
        if isinstance(inside, Future):
            inside = inside.result()
        if hasattr(inside, "__iter__") and not isinstance(inside, (str, bytes)):
            several[name] = list(inside)
    lengths = {len(values) for values in several.values()}
    if not several:
        raise MappingMissingIterable(
            "No iterable parameters were received. Parameters for map must include at least one "
            "iterable. Parameters: {}".format(parameters)
        )
    if len(lengths) > 1:
        raise MappingLengthMismatch(
            "Expected iterable parameters to be the same length. Parameters: {}".format(
                {name: len(values) for name, values in several.items()}
            )
        )
    futures = FutureList()
    for number in range(lengths.pop()):
        values = {
            name: several[name][number] if name in several else _unwrapped(value, "unmapped")
            for name, value in parameters.items()
        }
        one = inspect.BoundArguments(bound.signature, bound.arguments.__class__(values))
        futures.append(submit(task, one.args, one.kwargs, wait_for))
    return futures


def call_flow(flow: Any, args: Any, kwargs: Any, wait_for: Any, return_state: bool) -> Any:
    """Run a flow here and now."""
    _say_once()
    validate = getattr(flow, "validate_parameters", None)
    if validate is not None and getattr(flow, "should_validate_parameters", True):
        bound = inspect.signature(flow.fn).bind(*_resolve(args), **_resolve(kwargs))
        bound.apply_defaults()
        bound.arguments.update(validate(dict(bound.arguments)))
        args, kwargs = bound.args, bound.kwargs
    name = _run_name(flow, args, kwargs)
    if inspect.iscoroutinefunction(flow.fn):
        return _call_async(flow, args, kwargs, wait_for, return_state, name)
    run_logger().info("Flow run %r began", name)
    state = _run(flow, args, kwargs, wait_for, name)
    _say_end("Flow run", name, state)
    return state if return_state else state.result()


def _run(task: Any, args: Any, kwargs: Any, wait_for: Any, name: str) -> InnerState:
    """Run a function as often as its options say."""
    state = _not_ready([args, kwargs, wait_for])
    if state is not None:
        return state
    args, kwargs = _resolve(args), _resolve(kwargs)
    for attempt in range((task.retries or 0) + 1):
        facts: Dict[str, Any] = {"id": str(uuid.uuid4()), "name": name, "task_name": task.name}
        facts.update(run_count=attempt + 1, parameters=_parameters(task, args, kwargs))
        try:
            with inner_run(facts):
                return InnerState("Completed", _in_time(task, args, kwargs))
        except Exception as error:
            if not _is_tried_again(task, attempt, error, name):
                return InnerState("Failed", error=error)
            time.sleep(_delay(task, attempt))
    raise AssertionError("a loop that always returns")


def _in_time(task: Any, args: Any, kwargs: Any) -> Any:
    def run() -> Any:
        value = task.fn(*args, **kwargs)
        return _run_to_end(value) if inspect.iscoroutine(value) else value

    seconds = task.timeout_seconds
    if not seconds:
        return run()
    done: "concurrent.futures.Future[Any]" = concurrent.futures.Future()

    def run_and_tell() -> None:
        try:
            done.set_result(run())
        except BaseException as error:
            done.set_exception(error)

    context = contextvars.copy_context() if contextvars is not None else None
    target = run_and_tell if context is None else (lambda: context.run(run_and_tell))
    threading.Thread(target=target, daemon=True).start()
    concurrent.futures.wait([done], seconds)
    if not done.done():
        raise TimeoutError("Scope timed out after {} second(s).".format(float(seconds)))
    return done.result()


def _run_to_end(coroutine: Any) -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(coroutine)
    finally:
        loop.close()


def _is_tried_again(task: Any, attempt: int, error: Exception, name: str) -> bool:
    if attempt >= (task.retries or 0):
        return False
    condition = task.retry_condition_fn
    if condition is not None:
        run = InnerRun(name, attempt + 1)
        if not condition(task, run, InnerState("Failed", error=error)):
            return False
    run_logger().info(
        "Task run %r failed (%s: %s); retry %d of %d",
        *(name, type(error).__name__, error, attempt + 1, task.retries),
    )
    return True


class InnerRun:
    """What a retry condition is told of the run."""

    def __init__(self, name: str, run_count: int) -> None:
        self.name = name
        self.run_count = run_count


def _delay(task: Any, attempt: int) -> float:
    delay = task.retry_delay_seconds or 0
    if callable(delay):
        delay = delay(task.retries)
    if isinstance(delay, (list, tuple)):
        delay = delay[min(attempt, len(delay) - 1)] if delay else 0
    factor = task.retry_jitter_factor
    return float(delay) * (1 + random.uniform(-factor, factor) if factor else 1)  # noqa: S311


# --- arguments ----------------------------------------------------------------------------------


def _is_called(value: Any, kind: str) -> bool:
    return type(value).__name__ == kind and hasattr(value, "unwrap")


def _unwrapped(value: Any, kind: str) -> Any:
    return value.unwrap() if _is_called(value, kind) else value


def _not_ready(value: Any) -> Optional[InnerState]:
    """Return what becomes of a run that needs others which failed; None if it can run."""
    for future, may_fail in _futures(value, False):
        if not future.wait_for_state().is_completed() and not may_fail:
            return InnerState("NotReady")
    return None


def _futures(value: Any, may_fail: bool) -> Iterator[Tuple[Future, bool]]:
    if isinstance(value, Future):
        yield value, may_fail
    elif _is_called(value, "allow_failure"):
        yield from _futures(value.unwrap(), True)
    elif _is_called(value, "unmapped"):
        yield from _futures(value.unwrap(), may_fail)
    elif isinstance(value, (list, tuple, set, frozenset)):
        for each in value:
            yield from _futures(each, may_fail)
    elif isinstance(value, dict):
        for each in value.values():
            yield from _futures(each, may_fail)


def _resolve(value: Any, keep: bool = False) -> Any:
    """Return a value with results in the place of futures.

    Args:
        value: The value.
        keep: Whether to leave wrappers around what is not a future.
    """
    if isinstance(value, Future):
        return value.state.result(raise_on_failure=False) if not keep else value.result()
    if not keep and any(_is_called(value, each) for each in ("allow_failure", "quote", "unmapped")):
        inside = value.unwrap()
        return inside if _is_called(value, "quote") else _resolve(inside)
    if type(value) in (list, tuple, set, frozenset, FutureList):
        kind = list if type(value) is FutureList else type(value)
        resolved = [_resolve(each, keep) for each in value]
        changed = any(one is not other for one, other in zip(resolved, value))  # noqa: B905
        return kind(resolved) if changed or kind is not type(value) else value
    if type(value) is dict:
        return {key: _resolve(each, keep) for key, each in value.items()}
    return value


# --- what is said -------------------------------------------------------------------------------


def _run_name(task: Any, args: Any, kwargs: Any) -> str:
    name = getattr(task, "task_run_name", None) or getattr(task, "flow_run_name", None)
    if callable(name):
        try:
            return str(name())
        except TypeError:
            return str(name(_parameters(task, args, kwargs)))
    if name:
        return str(name).format(**_parameters(task, args, kwargs))
    return "{}-{}".format(task.name, uuid.uuid4().hex[:3])


def _parameters(task: Any, args: Any, kwargs: Any) -> Dict[str, Any]:
    bound = inspect.signature(task.fn).bind(*args, **kwargs)
    bound.apply_defaults()
    return dict(bound.arguments)


def _say_once() -> None:
    if getattr(_is_said, "of", None) != call_context.call_id():
        _is_said.of = call_context.call_id()
        run_logger().info(
            "Tasks and flows inside this task run in its own process, and have no runs of their "
            "own in the UI"
        )


def _say_end(what: str, name: str, state: InnerState) -> None:
    if state.is_completed():
        run_logger().info("%s %r ended: Completed()", what, name)
    else:
        run_logger().error("%s %r ended: %s(%s)", what, name, state.name, state.message or "")
