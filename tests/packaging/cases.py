"""The acceptance cases: tasks, what they are called with, and where they cannot run.

Each gives the same value here and far away, on every Python, or is refused.
"""

from __future__ import annotations

import collections
import copy
import datetime
import decimal
import enum
import functools
import inspect
import logging
import math as mathematics
import typing
import uuid
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any

import numpy as np
from prefect import get_run_logger, task
from prefect.runtime import task_run

from tests.packaging.sample import Square
from tests.packaging.sample import shapes as the_shapes

BASE = 7
TABLE = {"seven": 7, "eight": [8]}
Pair = collections.namedtuple("Pair", "left right")
logger = logging.getLogger("cases")


class Vector:
    def __init__(self, x: float, y: float) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and (self.x, self.y) == (other.x, other.y)

    def times(self, factor: float) -> Vector:
        return Vector(self.x * factor, self.y * factor)


@dataclass
class Point:
    x: int
    tags: typing.List[str] = field(default_factory=list)  # noqa: UP006


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


ORIGIN = Vector(0, 0)


class TooLarge(Exception):
    def __init__(self, size: int, limit: int) -> None:
        super().__init__(f"{size} is more than {limit}")
        self.size, self.limit = size, limit


def add_base(x: int) -> int:
    return x + BASE


def traced(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(*args: Any, **kwargs: Any) -> Any:
        return "traced", function(*args, **kwargs)

    return wrapper


def bare(function: Any) -> Any:
    return lambda *args: ("bare", function(*args))


def scaler(factor: int) -> Any:
    offsets = [1, 2]

    def scale(x: int) -> int:
        return x * factor + shift(x) if x < 3 else scale(x - 1)

    def shift(x: int) -> int:
        return offsets[0] + factor

    return scale


@task
def module_level_helper(x: int) -> int:
    return add_base(x)


@task
def module_constant() -> Any:
    return BASE, TABLE["eight"], ORIGIN.x


@task
def import_alias(x: float) -> float:
    return mathematics.floor(x)


@task
def local_module(side: int) -> int:
    return the_shapes.Square(side).area()


@task
def local_package(side: int) -> Any:
    from tests.packaging.sample import units

    return Square(side), units.PER_SIDE


@task
def recursion(n: int) -> int:
    return 1 if n < 2 else n * recursion.fn(n - 1)


closure = task(scaler(3), name="closure")
a_lambda = task(lambda x: x * BASE, name="a_lambda")
one_of_two = [task(lambda x: x + 1, name="l1"), task(lambda x: x + 2, name="l2")]


@task(name="decorated", retries=1)
@traced
def decorated(x: int) -> int:
    return add_base(x)


@task
@bare
def decorated_without_wraps(x: int) -> int:
    return add_base(x)


@task
def custom_class(vector: Vector) -> Vector:
    return vector.times(2)


@task
def uses_dataclass(point: Point) -> Point:
    return Point(point.x + 1, [*point.tags, "far"])


@task
def uses_enum(colour: Colour) -> Any:
    return Colour.BLUE, colour is Colour.RED


@task
def defaults(a: int, b: int = BASE, *, c: Vector = ORIGIN) -> Any:
    return a, b, c


@task
def keyword_only(*, a: int, b: int = 2) -> int:
    return a * b


@task
def varargs(*args: int, **kwargs: int) -> Any:
    return args, sorted(kwargs.items())


@task
def generator(n: int) -> int:
    return sum(x * x for x in range(n))


@task
def large_argument(data: bytes, values: list[int]) -> Any:
    return len(data), data[-3:], len(values), values[-1]


@task
def large_result(n: int) -> bytes:
    return b"abc" * n


@task
def numpy_argument(array: Any) -> Any:
    return array * 2


@task
def draws(generator: Any) -> float:
    return float(copy.deepcopy(generator).random())


@task
def echo(value: Any) -> Any:
    return value


@task
def raises(size: int) -> None:
    raise TooLarge(size, BASE)


@task(log_prints=True)
def prints_and_logs(x: int) -> int:
    print("printed", x)
    if task_run.id is not None:
        get_run_logger().info("logged %d", x)
    logger.warning("by the module's logger")
    return x


@task
def calls_a_task(x: int) -> int:
    return module_level_helper(x) + len(Pair(1, 2))


@task
def takes_a_function(function: Any, x: int) -> Any:
    return function(x)


async def later(x: int) -> int:
    return x


@task
async def asynchronous(x: int) -> int:
    return await later(x) + BASE


@task
def newer_annotations(x: int | None, y: list[int]) -> dict[str, int | None]:
    values: dict[str, int | None] = {"x": x, "y": len(y)}
    return values


@task
def walrus(x: int) -> int:
    return y if (y := x + 1) else 0


# By what is true of a far Python: the message with which a case is refused there.
ANYWHERE: dict[str, str] = {}
WITHOUT_NUMPY = {"without numpy": r"`numpy` is not installed there"}
# numpy 2, whose generators these cannot read, is not to be had for them.
_OLDER_NUMPY = {
    minor: rf"Generator needs Python 3\.9, .* {minor} \(args\[0\]: numpy\S*Generator\)\."
    for minor in ("3.6", "3.8")
}
_NO_DATACLASSES = r"`dataclasses\S*` is not in the standard library of Python 3\.6 there"
_WALRUS = inspect.getsourcelines(walrus.fn)[1] + 2
# Name, task, arguments, keyword arguments, where it is refused.
CASES: list[tuple[str, Any, tuple[Any, ...], dict[str, Any], dict[str, str]]] = [
    ("module-level helper", module_level_helper, (1,), {}, ANYWHERE),
    ("module constant", module_constant, (), {}, ANYWHERE),
    ("import alias", import_alias, (2.5,), {}, ANYWHERE),
    ("local module", local_module, (3,), {}, ANYWHERE),
    ("local package", local_package, (3,), {}, ANYWHERE),
    ("recursion", recursion, (5,), {}, ANYWHERE),
    ("closure", closure, (5,), {}, ANYWHERE),
    ("decorator", decorated, (1,), {}, ANYWHERE),
    ("decorator without wraps", decorated_without_wraps, (1,), {}, ANYWHERE),
    ("lambda", a_lambda, (2,), {}, ANYWHERE),
    ("one of two lambdas", one_of_two[1], (2,), {}, ANYWHERE),
    ("custom class", custom_class, (Vector(1, 2),), {}, ANYWHERE),
    ("dataclass", uses_dataclass, (Point(1, ["here"]),), {}, {"3.6": _NO_DATACLASSES}),
    ("enum", uses_enum, (Colour.RED,), {}, ANYWHERE),
    ("default arguments", defaults, (1,), {}, ANYWHERE),
    ("keyword-only", keyword_only, (), {"a": 4}, ANYWHERE),
    ("varargs", varargs, (1, 2), {"b": 1, "a": 2}, ANYWHERE),
    ("generator consumed inside", generator, (10,), {}, ANYWHERE),
    ("large argument", large_argument, (b"x" * 3_000_000, list(range(100_000))), {}, ANYWHERE),
    ("large result", large_result, (1_000_000,), {}, ANYWHERE),
    ("numpy argument", numpy_argument, (np.arange(10.0).reshape(2, 5),), {}, WITHOUT_NUMPY),
    ("large numpy argument", numpy_argument, (np.arange(20_000.0),), {}, WITHOUT_NUMPY),
    (
        "numpy scalars and objects",
        echo,
        ({"scalar": np.float64(1.5), "objects": np.array([{}, None, "x"], dtype=object)},),
        {},
        WITHOUT_NUMPY,
    ),
    (
        "numpy record",
        echo,
        (np.array([(1, 2.5)], dtype=[("a", "i4"), ("b", "f8")]),),
        {},
        WITHOUT_NUMPY,
    ),
    (
        "numpy random generator",
        draws,
        (np.random.default_rng(1),),
        {},
        {**WITHOUT_NUMPY, **_OLDER_NUMPY},
    ),
    ("tuple", echo, ((1, (2, 3)),), {}, ANYWHERE),
    ("bytes", echo, (b"\x00\xff",), {}, ANYWHERE),
    ("set", echo, ({1, "a", frozenset({2})},), {}, ANYWHERE),
    ("None", echo, (None,), {}, ANYWHERE),
    ("Path", echo, ([Path("a/b"), PurePosixPath("/c")],), {}, ANYWHERE),
    (
        "datetime",
        echo,
        (datetime.datetime(2024, 2, 29, 1, tzinfo=datetime.timezone.utc),),
        {},
        ANYWHERE,
    ),
    ("Decimal", echo, (decimal.Decimal("1.10"),), {}, ANYWHERE),
    (
        "UUID and OrderedDict",
        echo,
        ([uuid.UUID(int=5), collections.OrderedDict(a=1)],),
        {},
        ANYWHERE,
    ),
    ("namedtuple", echo, (Pair(1, "b"),), {}, ANYWHERE),
    ("function as argument", takes_a_function, (scaler(2), 2), {}, ANYWHERE),
    ("lambda as argument", takes_a_function, (lambda x: x - BASE, 2), {}, ANYWHERE),
    ("prints and logs", prints_and_logs, (3,), {}, ANYWHERE),
    ("task inside a task", calls_a_task, (3,), {}, ANYWHERE),
    ("coroutine", asynchronous, (3,), {}, ANYWHERE),
    ("newer annotations", newer_annotations, (1, [2]), {}, ANYWHERE),
    (
        "newer syntax",
        walrus,
        (1,),
        {},
        {"3.6": rf"line {_WALRUS} of tests/packaging/cases\.py is no Python 3\.6: "},
    ),
    (
        "newer type",
        echo,
        (list[int],),
        {},
        {
            minor: rf"needs Python 3\.9, .* {minor} \(args\[0\]: types\.GenericAlias\)\."
            for minor in ("3.6", "3.8")
        },
    ),
]
