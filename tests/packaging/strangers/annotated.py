"""Code that looks at annotations while it runs."""

import dataclasses
import functools
import inspect
import typing
from typing import Any, Generic, TypedDict, TypeVar

T = TypeVar("T")
UserId = typing.NewType("UserId", int)


class Unit:
    def __init__(self, name: str = "m") -> None:
        self.name = name


class Options(TypedDict, total=False):
    a: int
    b: str


class Shop:
    price: int
    names: "list[str]"

    def label(self, unit: Unit, *, big: bool = False) -> str:
        return unit.name * (2 if big else 1)


class Speaker:
    @functools.singledispatchmethod
    def say(self, x):  # type: ignore[no-untyped-def]
        return "thing"

    @say.register
    def _(self, x: int) -> str:
        return "int"

    @say.register
    def _(self, x: list) -> str:  # type: ignore[type-arg]
        return "list"


@functools.singledispatch
def by_type(x):  # type: ignore[no-untyped-def]
    return "any"


@by_type.register
def _(x: dict) -> str:  # type: ignore[type-arg]
    return "dict"


class Stack(Generic[T]):
    def __init__(self, items: list[T]) -> None:
        self.items = items

    def top(self) -> T:
        return self.items[-1]


class Ints(Stack[int]):
    pass


class Sized(typing.Protocol):
    def size(self) -> int: ...


@typing.runtime_checkable
class Named(typing.Protocol):
    name: str


@dataclasses.dataclass(frozen=True)
class Point:
    x: int
    y: "float" = 0.5
    tags: list[str] = dataclasses.field(default_factory=list, compare=False)
    LIMIT: typing.ClassVar[int] = 3


def convert(count: int, flag: bool = False) -> str:
    return f"{type(count).__name__} {flag!r}"


def coerced(function: Any) -> Any:
    hints = {n: p.annotation for n, p in inspect.signature(function).parameters.items()}

    @functools.wraps(function)
    def wrapper(**kwargs: Any) -> Any:
        return function(**{name: hints[name](value) for name, value in kwargs.items()})

    return wrapper


@coerced
def total(a: int, b: float) -> Any:
    return a + b, type(a).__name__, type(b).__name__


CASES: list[Any] = [
    lambda: (Speaker().say(1), Speaker().say(""), Speaker().say([])),
    lambda: (by_type({}), by_type(1)),
    lambda: sorted(typing.get_type_hints(Shop.label)),
    lambda: sorted(map(str, typing.get_type_hints(convert).values())),
    lambda: {n: p.annotation() for n, p in inspect.signature(convert).parameters.items()},
    lambda: total(a="3", b="2.5"),
    lambda: [f.name for f in dataclasses.fields(Point)],
    lambda: (Point(1), dataclasses.replace(Point(1), y=2.0), Point(1) == Point(1, tags=["a"])),
    lambda: (Stack[int]([1, 2]).top(), Ints([3]).top(), Ints.__orig_bases__[0].__args__[0]),
    lambda: (isinstance(Unit(), Named), isinstance(3, Named)),
    lambda: (Options(a=1), sorted(Options.__annotations__), Options.__total__),
    lambda: (UserId(5), UserId.__name__),
    lambda: str(T),
    lambda: sorted(Shop.__annotations__),
    lambda: str(inspect.signature(Shop.label)).count("big"),
    (lambda p: (p, p.LIMIT), Point(4)),
    (lambda s: s.top(), Stack([1, "b"])),
]
