"""Classes whose statement is inside a function, and what they have from that function."""

from __future__ import annotations

import abc
import asyncio
import collections
import enum
import functools
import typing
from typing import Any

LIMIT = 3


def failing(code: int) -> Any:
    class Failed(ValueError):
        """Raised by `fail`."""

        def __init__(self, what: str, where: str) -> None:
            super().__init__(f"{what} at {where}")
            self.what, self.where, self.code = what, where, code

    def fail() -> None:
        raise Failed("lost", "sea")

    return Failed, fail


Failed, fail = failing(7)


def caught() -> Any:
    try:
        fail()
    except Failed as error:
        return str(error), error.code, type(error).__qualname__, Failed.__doc__


def computed(limit: int, names: list[str]) -> Any:
    twice = limit * 2

    class Computed:
        bound = twice
        table = dict.fromkeys(names, limit)
        text = f"""line
    two {limit}
"""

        def get(self, by: int = LIMIT) -> Any:
            return self.bound, sorted(self.table), self.text, limit + by

    return Computed


Computed = computed(2, ["a", "b"])


def bound_now(limit: int) -> Any:
    class Changed:
        bound = 1

        def get(self) -> Any:
            return self.bound, self.later(limit)

    Changed.bound = limit + 5
    Changed.later = lambda self, x: x * 2  # type: ignore[attr-defined]
    return Changed


Changed = bound_now(4)


def family() -> Any:
    class Parent:
        made = 0

        def __init__(self, name: str) -> None:
            type(self).made += 1
            self.__name = name

        @property
        def name(self) -> str:
            return self.__name

        @name.setter
        def name(self, value: str) -> None:
            self.__name = value.upper()

        def friend(self) -> Any:
            return Child(self.name + "+")

    class Child(Parent):
        def __init__(self, name: str) -> None:
            super().__init__(name * 2)

        def friend(self) -> Any:
            return Parent(super().name)

        @classmethod
        def make(cls) -> Any:
            return cls("x")

        @staticmethod
        def kind() -> str:
            return Child.__name__ + Parent.__name__

    return Parent, Child


Parent, Child = family()


def visited() -> Any:
    child = Child.make()
    child.name = child.friend().name
    return child.name, Child.kind(), type(child.friend()).__qualname__, Parent("q").friend().name


def shared() -> Any:
    count = 0

    class Up:
        def go(self) -> int:
            nonlocal count
            count += 1
            return count

    class Down:
        def go(self) -> int:
            nonlocal count
            count -= 10
            return count

    return Up(), Down(), lambda: count


up, down, counted = shared()


def kinds() -> Any:
    class Colour(enum.Enum):
        RED, BLUE = 1, 2

        def next(self) -> Any:
            return Colour.BLUE if self is Colour.RED else Colour.RED

    class Point(typing.NamedTuple):
        x: int
        y: int = 5

    @functools.total_ordering
    class Version:
        def __init__(self, n: int) -> None:
            self.n = n

        def __eq__(self, other: Any) -> bool:
            return bool(self.n == other.n)

        def __lt__(self, other: Any) -> bool:
            return bool(self.n < other.n)

        __hash__ = None  # type: ignore[assignment]

    T = typing.TypeVar("T")

    class Box(typing.Generic[T]):
        def __init__(self, value: T) -> None:
            self.value = value

    class Shape(abc.ABC):
        @abc.abstractmethod
        def area(self) -> int: ...

    class Square(Shape):
        def area(self) -> int:
            return 4

    class Bag(collections.UserDict):  # type: ignore[type-arg]
        def __missing__(self, key: str) -> int:
            return len(key)

    return Colour, Point, Version, Box, Square, Bag


Colour, Point, Version, Box, Square, Bag = kinds()


def later() -> Any:
    class Async:
        async def __aenter__(self) -> str:
            return "in"

        async def __aexit__(self, *error: Any) -> None:
            pass

        async def __aiter__(self) -> Any:
            for n in range(3):
                yield n

    return Async


Async = later()


async def all_of_it() -> Any:
    async with Async() as text:
        return text, [n async for n in Async()]


def ran() -> Any:
    loop = asyncio.new_event_loop()
    try:
        return loop.run_until_complete(all_of_it())
    finally:
        loop.close()


def nested() -> Any:
    def inner(step: int) -> Any:
        if step:

            class Deep:
                class Part:
                    def get(self) -> Any:
                        return step, type(self).__qualname__

                def part(self) -> Any:
                    return self.Part().get()

        return Deep

    return inner(2)


Deep = nested()


def registered() -> Any:
    seen = []

    class Plugin:
        def __init_subclass__(cls) -> None:
            seen.append(cls.__name__)

    class One(Plugin):
        pass

    return seen, Plugin, One


seen, Plugin, One = registered()


CASES: list[Any] = [
    (fail,),
    (caught,),
    lambda: Computed().get(),
    lambda: Changed().get(),
    (visited,),
    lambda: (up.go(), down.go(), up.go(), counted()),
    lambda: (Colour.RED.next().name, Colour(2) is Colour.BLUE),
    lambda: (Point(1)._asdict()["y"], Point(1) == (1, 5)),
    lambda: (Version(1) >= Version(0), Version(1) <= Version(0)),
    lambda: Box(4).value,
    lambda: Square().area(),
    lambda: (Bag(a=1)["a"], Bag()["four"]),
    (ran,),
    lambda: Deep().part(),
    (lambda made, kind: (isinstance(made, kind), isinstance(made, Child)), Child("a"), Child),
    (lambda value: value, Point(2)),
    (lambda value: value, Colour.BLUE),
    lambda: (seen, One.__name__),
    (lambda error: (type(error) is Failed, str(error)), Failed("a", "b")),
    lambda: [cls.__name__ for cls in (Failed, Computed, Parent)],
]
