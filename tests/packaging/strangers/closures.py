"""Functions and classes made inside functions, and what they hold."""

from __future__ import annotations

import abc
import collections
import dataclasses
import enum
import functools
import itertools
import operator
import types
import typing
from typing import Any


def rule(limit: Any) -> Any:
    class Rule:
        bound = limit

        def ok(self, x: Any) -> Any:
            return limit is not None and x < limit

        def __repr__(self) -> str:
            return f"Rule({limit})"

        class Inner:
            def get(self) -> Any:
                return limit, __class__.__qualname__

    return Rule


Strict, Open = rule(5), rule(None)
Measure = dataclasses.make_dataclass("Measure", [("x", int), ("y", float, 2.5)])
Pair = collections.namedtuple("Row", "x y")
Typed = typing.NamedTuple("Typed", [("a", int), ("b", str)])  # noqa: UP014
Made = type("Made", (), {"x": 5, "twice": lambda self: self.x * 2})
Level = enum.Enum("Level", "LOW HIGH")


def counter() -> Any:
    total = 100

    def add(n: int) -> int:
        nonlocal total
        total += n
        return total

    def look() -> int:
        return total

    class Adder:
        def add(self, n: int) -> int:
            return total + n

    return add, look, Adder


add, look, Adder = counter()


def recursive() -> Any:
    def fact(n: int) -> int:
        return 1 if n < 2 else n * fact(n - 1)

    def even(n: int) -> bool:
        return n == 0 or odd(n - 1)

    def odd(n: int) -> bool:
        return n != 0 and even(n - 1)

    return fact, even


fact, even = recursive()


def unfilled() -> Any:
    def early(defined: bool) -> Any:
        return later if defined else "not asked"

    if not early:
        later = 1
    return early


early = unfilled()


def base_and_child() -> Any:
    class Base(abc.ABC):
        def __init__(self, x: int) -> None:
            self.x = x

        @abc.abstractmethod
        def area(self) -> int: ...

        @property
        def doubled(self) -> int:
            return self.area() * 2

        @staticmethod
        def fixed() -> str:
            return "fixed"

        @classmethod
        def make(cls, x: int) -> Any:
            return cls(x)

    class Child(Base):
        def __init__(self, x: int) -> None:
            super().__init__(x + 1)

        def area(self) -> int:
            return self.x**2

    return Base, Child


Base, Child = base_and_child()


def slotted() -> Any:
    class Slotted:
        __slots__ = ("__hidden", "x")

        def __init__(self, x: int) -> None:
            self.x, self.__hidden = x, x * 2

        def both(self) -> Any:
            return self.x, self.__hidden, hasattr(self, "__dict__")

    return Slotted


Slotted = slotted()


def enumerated() -> Any:
    class Planet(enum.Enum):
        EARTH = (5, 6)
        MARS = (6, 3)
        TERRA = (5, 6)

        def __init__(self, mass: int, radius: int) -> None:
            self.mass, self.radius = mass, radius

        @property
        def gravity(self) -> float:
            return self.mass / self.radius

    class Rights(enum.Flag):
        READ = 1
        WRITE = 2

    return Planet, Rights


Planet, Rights = enumerated()


def described() -> Any:
    class Positive:
        def __set_name__(self, owner: Any, name: str) -> None:
            self.name = "_" + name

        def __get__(self, instance: Any, owner: Any = None) -> Any:
            return self if instance is None else getattr(instance, self.name, 0)

        def __set__(self, instance: Any, value: Any) -> None:
            if value < 0:
                raise ValueError(f"{self.name}: {value}")
            setattr(instance, self.name, value)

    class Account:
        balance = Positive()

        @functools.cached_property
        def costly(self) -> int:
            return self.balance * 10

    return Account


Account = described()


def account(value: int) -> Any:
    made = Account()
    made.balance = value
    return made.balance, made.costly


def mixed() -> Any:
    class Meta(type):
        seen: typing.ClassVar[list[str]] = []

        def __new__(cls, name: str, bases: Any, space: Any) -> Any:
            made = super().__new__(cls, name, bases, space)
            cls.seen.append(name)
            return made

        def __call__(cls, *args: Any) -> Any:
            return "made", super().__call__(*args)

    class Thing(metaclass=Meta):
        def __eq__(self, other: Any) -> bool:
            return type(self).__name__ == type(other).__name__

        __hash__ = None  # type: ignore[assignment]

    return Meta, Thing


Meta, Thing = mixed()


def generator(n: int) -> Any:
    yield from (x * x for x in range(n))


partial = functools.partial(operator.add, 5)
method = Strict().ok
chained = functools.reduce(lambda f, g: lambda x: g(f(x)), [lambda x: x + 1, lambda x: x * 3])
fib = functools.lru_cache(maxsize=None)(lambda n: n if n < 2 else fib(n - 1) + fib(n - 2))


def wraps(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        wrapper.calls += 1
        return wrapper.calls, function(*args, **kwargs)

    wrapper.calls = 10  # type: ignore[attr-defined]
    return wrapper


@wraps
def wrapped(x: int = 3, *rest: int, key: str = "k", **more: int) -> Any:
    """Doc."""
    return x, rest, key, more


def defaults(x: Any, items: list[int] = [1, 2], *, f: Any = lambda y: y + 1) -> Any:  # noqa: B006
    items.append(x)
    return items, f(x)


def local_in_call() -> Any:
    @dataclasses.dataclass(order=True)
    class Local:
        x: int
        names: list[str] = dataclasses.field(default_factory=list)

    return sorted([Local(3), Local(1, ["a"])])[0].names, dataclasses.asdict(Local(2))


def shared_cells() -> Any:
    before = look()
    add(5)
    return before, look(), Adder().add(1)


def echo(value: Any) -> Any:
    return value


CASES: list[Any] = [
    lambda: (Strict().ok(3), Open().ok(3), repr(Strict()), Strict.bound),
    lambda: Strict.Inner().get(),
    lambda: repr(Measure(1)),
    lambda: (Pair(1, 2)._replace(x=5), Typed(1, "b")._asdict()),
    lambda: (Made().twice(), Made.__name__, Level.HIGH.name, list(Level.__members__)),
    shared_cells,
    lambda: (fact(6), even(10), even(7)),
    lambda: early(False),
    lambda: (Child(2).doubled, Child.make(3).x, Base.fixed(), isinstance(Child(1), Base)),
    lambda: Base(1),
    lambda: Slotted(3).both(),
    lambda: (Planet.EARTH.mass, Planet.MARS.gravity, Planet.TERRA is Planet.EARTH, len(Planet)),
    lambda: (Planet["TERRA"].name, [p.name for p in Planet], Planet((6, 3)).name),
    lambda: ((Rights.READ | Rights.WRITE).value, Rights.READ in (Rights.READ | Rights.WRITE)),
    (account, 4),
    (account, -1),
    lambda: (Thing()[0], Meta.seen, Thing()[1] == Thing()[1]),
    lambda: list(generator(4)),
    lambda: (partial(2), method(3), chained(2)),
    lambda: fib(30),
    (wrapped, 1, 2, 3),
    lambda: (wrapped(key="z", more=1)[1], wrapped.__doc__, wrapped.__wrapped__(9)[0]),
    (defaults, 7),
    local_in_call,
    (lambda v: (v.ok(3), repr(v)), Strict()),
    (lambda v: (v.x, v.y, repr(v)), Measure(3)),
    (lambda v: v, Measure(3)),
    (echo, Pair(1, "b")),
    (echo, Typed(1, "b")),
    (echo, Planet.MARS),
    (echo, Level.LOW),
    (lambda v: (v.both(), type(v).__name__), Slotted(1)),
    (lambda cls: cls.__name__, Strict),
    (lambda cls: cls(3).doubled, Child),
    (lambda f, x: f(x), chained, 4),
    (lambda f: f(3), fact),
    (lambda f: [g(10) for g in f], [lambda x, n=n: x + n for n in range(3)]),
    (lambda fs: [f(1) for f in fs], [partial, operator.neg, abs, str, fact]),
    (echo, types.SimpleNamespace(a=1, b=[2])),
    lambda: list(itertools.chain.from_iterable([[1], [2, 3]])),
    lambda: (Account.balance.name, Account().balance),
]
