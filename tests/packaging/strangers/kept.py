"""What decorators keep for themselves, after what they decorated was used."""

from __future__ import annotations

import abc
import asyncio
import collections
import contextlib
import dataclasses
import enum
import functools
import itertools
import types
from collections.abc import Callable
from typing import Any, ClassVar

from tests.packaging.strangers.helper import counted_elsewhere


def counted(function: Any) -> Any:
    """A number that is bound anew."""
    calls = 0

    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return calls, function(*args, **kwargs)

    return wrapper


def unnamed(function: Any) -> Any:
    """Without `wraps`."""
    seen: list[Any] = []

    def wrapper(*args: Any) -> Any:
        seen.append(args)
        return len(seen), function(*args)

    return wrapper


def limited(most: int, registry: Any = None) -> Any:
    """With arguments, and perhaps a place for what it has seen."""
    left = most

    def around(function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            nonlocal left
            if not left:
                raise RuntimeError(f"no more than {most}")
            left -= 1
            if registry is not None:
                registry[function.__name__] = left
            return function(*args), left

        return wrapper

    return around


SHARED: dict[str, int] = {}
NAMES: list[str] = []
TOTAL = 0


def named(function: Any) -> Any:
    """Gives back what it was given, and notes its name."""
    global TOTAL
    TOTAL += 1
    NAMES.append(function.__name__)
    function.number = TOTAL
    return function


class Registry:
    def __init__(self) -> None:
        self.names: list[str] = []

    def register(self, function: Any) -> Any:
        self.names.append(function.__name__)
        return function


registry = Registry()


class Counter:
    """A class as a decorator."""

    def __init__(self, function: Any) -> None:
        functools.update_wrapper(self, function)
        self.function = function
        self.calls = 0
        self.seen: list[Any] = []

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        self.seen.append(args)
        return self.calls, self.seen, self.function(*args)

    def __get__(self, instance: Any, owner: Any = None) -> Any:
        return self if instance is None else functools.partial(self, instance)


class Slim:
    """With slots, and without the function's name."""

    __slots__ = ("calls", "function")

    def __init__(self, function: Any) -> None:
        self.function, self.calls = function, 0

    def __call__(self, *args: Any) -> Any:
        self.calls += 1
        return self.calls, self.function(*args)


class Stats:
    def __init__(self) -> None:
        self.total = 0


def measured(function: Any) -> Any:
    """Keeps an object."""
    stats = Stats()
    by_name: collections.Counter[str] = collections.Counter()

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        stats.total += sum(args)
        by_name[function.__name__] += 1
        return stats.total, dict(by_name), function(*args)

    wrapper.stats = stats  # type: ignore[attr-defined]
    return wrapper


def with_helper(function: Any) -> Any:
    """Its wrapper's state is that of another function in it."""
    state = {"n": 0}

    def advance() -> int:
        state["n"] += 1
        return state["n"]

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return advance(), function(*args)

    wrapper.state = state  # type: ignore[attr-defined]
    return wrapper


@counted
def once(x: int) -> int:
    return x + 1


@unnamed
def seen(x: int) -> int:
    return x + 2


@limited(5)
def few(x: int) -> int:
    return x + 3


@limited(3, SHARED)
def noted(x: int) -> int:
    return x + 4


@counted
@unnamed
@measured
def nested(x: int) -> int:
    return x + 5


@functools.lru_cache(maxsize=None)  # noqa: UP033
@counted
def cached(x: int) -> int:
    return x + 6


@counted
@functools.lru_cache(maxsize=None)  # noqa: UP033
def over_a_cache(x: int) -> int:
    return x + 7


@Counter
def instance(x: int) -> int:
    return x + 8


@Slim
@counted
def slim(x: int) -> int:
    return x + 9


@with_helper
def helped(x: int) -> int:
    return x + 10


@measured
def summed(x: int) -> int:
    return x + 11


@counted_elsewhere
def elsewhere(x: int) -> int:
    return x + 12


@named
def one() -> int:
    return 1


@named
def two() -> int:
    return 2


@registry.register
def three() -> int:
    return 3


@counted
def growing(x: int, items: list[int] = [], *, more: dict[str, int] = {}) -> Any:  # noqa: B006
    items.append(x)
    more[str(x)] = x
    return items, more


def bare(x: int, items: list[int] = [], *, more: dict[str, int] = {}) -> Any:  # noqa: B006
    items.append(x)
    more[str(x)] = x
    return items, more


@counted
@contextlib.contextmanager
def managed(x: int) -> Any:
    yield x


@functools.lru_cache(maxsize=8)
def with_attributes(x: int) -> int:
    return x


with_attributes.hits = 3  # type: ignore[attr-defined]


class Service:
    made: ClassVar[int] = 0

    @counted
    def method(self, x: int) -> int:
        return x

    @classmethod
    @counted
    def of_class(cls, x: int) -> int:
        return x * 2

    @staticmethod
    @counted
    def still(x: int) -> int:
        return x * 3

    @property
    @counted
    def size(self) -> int:
        return 4

    @Counter
    def instance(self, x: int) -> int:
        return x * 5

    def growing(self, x: int, items: list[int] = [], *, k: list[int] = []) -> Any:  # noqa: B006
        items.append(x)
        k.append(-x)
        return items, k

    @counted
    def more(self, x: int) -> int:
        return x * 6

    def growing_more(self, x: int, items: list[int] = [], *, k: list[int] = []) -> Any:  # noqa: B006
        items.append(x)
        k.append(-x)
        return items, k


def stateful(cls: Any) -> Any:
    """Decorates a class, whose objects it counts."""
    made = 0
    before = cls.__init__

    def __init__(self: Any, *args: Any) -> None:
        nonlocal made
        made += 1
        before(self, *args)
        self.number = made

    cls.__init__ = __init__
    return cls


@stateful
class Numbered:
    def __init__(self, x: int) -> None:
        self.x = x


def single(cls: Any) -> Any:
    """The class's name stands for a function from here on."""
    made: dict[str, Any] = {}

    @functools.wraps(cls, updated=())
    def get(*args: Any) -> Any:
        if "it" not in made:
            made["it"] = cls(*args)
        return made["it"]

    return get


@single
class Settings:
    def __init__(self, x: int) -> None:
        self.x = x


@functools.singledispatch
def kind(value: Any) -> str:
    return "any"


kind.register(float, lambda value: "float")


@kind.register(int)
@counted
def _(value: int) -> str:
    return "int"


def rate_now(x: int) -> int:
    return x * 100


rate_now = counted(rate_now)
RATE = 2


@counted
def rated(x: int, by: int = RATE) -> int:
    return x * by


RATE = 3
BY_NAME: dict[str, Any] = {}


def by_name(function: Any) -> Any:
    """Keeps its wrapper, without a name of its own, elsewhere, too."""
    calls = 0

    def wrapper(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        return calls, function(*args)

    BY_NAME[function.__name__] = wrapper
    return wrapper


@by_name
def handled(x: int) -> int:
    return x


def generating(function: Any) -> Any:
    """Its wrapper is a generator."""
    rounds = [0]

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        rounds[0] += 1
        yield rounds[0]
        yield from function(*args)

    return wrapper


@generating
def squares(n: int) -> Any:
    yield from (each * each for each in range(n))


def local(start: int) -> Any:
    """Classes and functions made in a function, with decorators in them."""
    stats = Stats()

    class Local:
        seen: ClassVar[list[int]] = []
        stats = Stats()

        @counted
        def method(self, x: int) -> int:
            return x + start

        @staticmethod
        @measured
        def still(x: int) -> int:
            return x

        def growing(self, x: int, items: list[int] = []) -> Any:  # noqa: B006
            items.append(x)
            self.seen.append(x)
            self.stats.total += x
            return items, self.seen, self.stats.total

    @counted
    def inner(x: int) -> int:
        stats.total += x
        return stats.total

    return Local, inner


Local, inner = local(100)


class Holder:
    """Holds an object that is used."""

    stats = Stats()
    limits: ClassVar[Any] = types.SimpleNamespace(most=3)


@dataclasses.dataclass
class Config:
    rate: int = 1
    names: list[str] = dataclasses.field(default_factory=list)


class Level(enum.Enum):
    LOW = 1
    HIGH = 2


class Shape(abc.ABC):
    @abc.abstractmethod
    def area(self) -> int: ...


class Square:
    def area(self) -> int:
        return 4


def numbered(function: Any) -> Any:
    """Counts with an iterator."""
    numbers = itertools.count(1)

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return next(numbers), function(*args)

    return wrapper


@numbered
def ordered(x: int) -> int:
    return x


def by_hand(function: Any) -> Any:
    """A cache with its methods at hand, as `functools` has it."""
    cache: dict[Any, Any] = {}
    cache_get = cache.get

    @functools.wraps(function)
    def wrapper(x: int) -> Any:
        found = cache_get(x)
        if found is None:
            found = cache[x] = function(x)
        return found, len(cache)

    return wrapper


@by_hand
def looked_up(x: int) -> int:
    return x * 7


def doubling(x: int) -> int:
    return x * 2


def switched(function: Any) -> Any:
    """What it calls is changed later."""
    target = function

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return target(*args)

    def switch(to: Any) -> None:
        nonlocal target
        target = to

    wrapper.switch = switch  # type: ignore[attr-defined]
    return wrapper


@switched
def changing(x: int) -> int:
    return x


@counted
async def waited(x: int) -> int:
    await asyncio.sleep(0)
    return x


def in_parts(function: Any) -> Any:
    """Keeps a part of a function, and its state in it."""
    log: list[Any] = []
    call = functools.partial(_logged, log, function)

    @functools.wraps(function)
    def wrapper(*args: Any) -> Any:
        return call(*args), len(log)

    return wrapper


def _logged(log: list[Any], function: Any, *args: Any) -> Any:
    log.append(args)
    return function(*args)


@in_parts
def parted(x: int) -> int:
    return x


@functools.singledispatch
def shape(value: Any) -> str:
    return "any"


@shape.register(int)
@counted
def _(value: int) -> str:  # type: ignore[misc]
    return "int"


@shape.register(str)
@counted
def _(value: str) -> str:  # type: ignore[misc]
    return "str"


def register_more() -> None:
    shape.register(list, lambda value: "list")
    Shape.register(Square)


def passing(function: Any) -> Any:
    """Its state is in the defaults of its wrapper."""

    def wrapper(x: int, _seen: list[int] = [], *, _n: dict[str, int] = {}) -> Any:  # noqa: B006
        _seen.append(x)
        _n["n"] = len(_seen)
        return function(x), _seen, _n

    return wrapper


@passing
def passed(x: int) -> int:
    return x


class Chain:
    """A decorator with arguments that is an object, and gives functions of its own."""

    def __init__(self, step: int) -> None:
        self.step, self.total = step, 0

    def __call__(self, function: Any) -> Any:
        @functools.wraps(function)
        def wrapper(*args: Any) -> Any:
            self.total += self.step
            return self.total, function(*args)

        return wrapper


@Chain(5)
def stepping(x: int) -> int:
    return x


chain = Chain(7)


@chain
def linked(x: int) -> int:
    return x


ids = itertools.count(3)


class Memo(dict):  # type: ignore[type-arg]
    """A decorator that is a dictionary."""

    def __init__(self, function: Any) -> None:
        self.function = function

    def __call__(self, x: int) -> Any:
        return self[x]

    def __missing__(self, x: int) -> Any:
        self[x] = self.function(x), len(self)
        return self[x]


@Memo
def kept_in_itself(x: int) -> int:
    return x


STORE: dict[str, int] = {}


def throttled(key: str, store: dict[str, int] = STORE) -> Any:
    """Its state is in a default that is a variable."""

    def around(function: Any) -> Any:
        store[key] = 0

        def wrapper(*args: Any) -> Any:
            store[key] += 1
            return store[key], function(*args)

        return wrapper

    return around


@throttled("a")
def slowed(x: int) -> int:
    return x


def with_first(function: Any) -> Any:
    return functools.partial(function, 10, [])


@with_first
def given_first(a: int, own: list[int], b: list[int] = []) -> Any:  # noqa: B006
    own.append(a)
    b.append(a)
    return own, b


class Event:
    def __init__(self) -> None:
        self.handlers: list[Any] = []

    def __iadd__(self, handler: Any) -> Any:
        self.handlers.append(handler)
        return self

    def on(self, function: Any) -> Any:
        self.handlers.append(function)
        return function

    def fire(self) -> list[Any]:
        return [handler() for handler in self.handlers]


event = Event()


@event.on
def first_handler() -> int:
    return 1


event += lambda: 2


class Hits:
    """A descriptor that counts."""

    def __init__(self) -> None:
        self.hits = 0

    def __get__(self, instance: Any, owner: Any = None) -> int:
        self.hits += 1
        return self.hits


class Watched:
    seen = Hits()


# What is passed to a call, each to one.
@counted
def given(x: int) -> int:
    return x


@counted
def given_growing(x: int, items: list[int] = []) -> Any:  # noqa: B006
    items.append(x)
    return items


@counted
def given_counted(x: int) -> int:
    return x


@unnamed
def given_seen(x: int) -> int:
    return x


@Counter
def given_instance(x: int) -> int:
    return x


@Slim
def given_slim(x: int) -> int:
    return x


@unnamed
@measured
@counted
def given_nested(x: int) -> int:
    return x


GIVEN = [given_counted, given_seen, given_instance, given_slim, given_nested, Service().more]


def used() -> None:
    """What a flow does before it submits anything."""
    for each in (once, seen, few, noted, nested, cached, over_a_cache, instance, slim, helped):
        each(1)
        each(2)
    for each in (summed, elsewhere, growing, bare, rate_now, rated, handled):
        each(1)
    with managed(1)[1]:
        pass
    service = Service()
    for method in (service.method, service.of_class, service.still, service.instance):
        method(1)
    service.growing(1)
    assert service.size == (1, 4)
    Numbered(1)
    Settings(7)
    kind(1)
    list(squares(2))
    made = Local()
    made.method(1)
    Local.still(2)
    made.growing(3)
    inner(4)
    Holder.stats.total = 5
    Holder.limits.most = 6
    Config.rate = 7
    Level.HIGH.note = "high"  # type: ignore[attr-defined]
    Level.LOW._hidden = "low"  # type: ignore[attr-defined]
    kept_in_itself(1)
    slowed(1)
    given_first()
    assert Watched.seen == 1
    service.growing_more(1)
    for call in (*GIVEN, given, given_growing):
        call(1)
    for call in (ordered, looked_up, parted, passed, stepping, linked):
        call(1)
    changing.switch(doubling)  # type: ignore[attr-defined]
    asyncio.run(waited(1)[1])
    register_more()
    shape(1)
    shape("a")
    shape("b")
    next(ids)


used()


def in_context(x: int) -> Any:
    number, context = managed(x)
    with context as value:
        return number, value


def through(call: Callable[..., Any], x: int) -> Any:
    return call(x)


CASES: list[Any] = [
    lambda: once(5),
    lambda: seen(5),
    lambda: few(5),
    lambda: (noted(5), SHARED),
    lambda: nested(5),
    lambda: cached.__wrapped__(5),
    lambda: over_a_cache(5),
    lambda: instance(5),
    lambda: slim(5),
    lambda: (helped(5), helped.state),
    lambda: (summed(5), summed.stats.total),
    lambda: elsewhere(5),
    lambda: (one(), two(), NAMES, TOTAL),
    lambda: (two.number, one.number),  # type: ignore[attr-defined]
    lambda: (three(), registry.names),
    lambda: growing(5),
    lambda: bare(5),
    (in_context, 5),
    lambda: (with_attributes(5), with_attributes.hits),  # type: ignore[attr-defined]
    lambda: Service().method(5),
    lambda: Service.of_class(5),
    lambda: Service.still(5),
    lambda: Service().size,
    lambda: Service().instance(5)[:2],
    lambda: Service().growing(5),
    lambda: Numbered(5).number,
    lambda: Settings(8).x,
    lambda: (kind(1.0), kind(1), kind("a")),
    lambda: rate_now(5),
    lambda: (rated(5), RATE),
    lambda: (handled(5), BY_NAME["handled"](5), BY_NAME["handled"] is handled),
    lambda: list(squares(3)),
    lambda: Local().method(5),
    lambda: Local.still(5),
    lambda: Local().growing(5),
    lambda: inner(5),
    lambda: (Holder.stats.total, Holder.limits.most),
    lambda: (Config.rate, Config().rate),
    lambda: getattr(Level.HIGH, "note", None),
    lambda: (isinstance(Square(), Shape), issubclass(Level, Shape)),
    lambda: ordered(5),
    lambda: (looked_up(5), looked_up(1)),
    lambda: changing(5),
    lambda: asyncio.run(waited(5)[1]) + waited.__closure__[0].cell_contents,  # type: ignore[operator]
    lambda: parted(5),
    lambda: (shape(1), shape("a"), shape([]), shape(1.5)),
    lambda: passed(5),
    lambda: stepping(5),
    lambda: (linked(5), chain.total),
    lambda: next(ids),
    lambda: getattr(Level.LOW, "_hidden", None),
    lambda: (kept_in_itself(5), kept_in_itself(1)),
    lambda: (slowed(5), STORE),
    lambda: given_first(),
    lambda: event.fire(),
    lambda: Watched.seen,
    *((through, each, 6) for each in GIVEN),
    (given, 9),
    (given_growing, 9),
    (Service().growing_more, 9),
]
