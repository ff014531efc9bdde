"""What validate_packaging runs far away, with what must come back.

The tasks here are about the ways in which code is written.
"""

from __future__ import annotations

import collections
import datetime
import decimal
import enum
import functools
import linecache
import logging
import math as mathematics
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Any, List  # noqa: UP035

from clustrix_prefect.validation.packaging import Case, Expected
from flows.travelling import shapes as the_shapes
from flows.travelling.packaging import (
    a_complex_one,
    basic,
    filesystem,
    is_basic,
    local_dependencies,
)
from flows.travelling.proof import case, proof

try:
    import numpy as np
except ImportError:
    np = None  # type: ignore[assignment]

BASE = 7
Pair = collections.namedtuple("Pair", "left right")
logger = logging.getLogger("travelling")


class Vector:
    def __init__(self, x: float, y: float) -> None:
        self.x, self.y = x, y

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Vector) and (self.x, self.y) == (other.x, other.y)

    def __repr__(self) -> str:
        return f"Vector({self.x}, {self.y})"

    def times(self, factor: float) -> Vector:
        return Vector(self.x * factor, self.y * factor)


@dataclass
class Point:
    x: int
    tags: List[str] = field(default_factory=list)  # noqa: UP006


class Colour(enum.Enum):
    RED = 1
    BLUE = "b"


class TooLarge(Exception):
    def __init__(self, where: Any, size: int) -> None:
        super().__init__(where, size)
        self.size = size

    def __str__(self) -> str:
        return f"{self.size} is too large"


def add_base(x: int) -> int:
    return x + BASE


def traced(function: Any) -> Any:
    @functools.wraps(function)
    def wrapper(run: str, *args: Any) -> Any:
        where, value = function(run, *args)
        return where, ("traced", value)

    return wrapper


def scaler(factor: int) -> Any:
    def scale(run: str, x: int) -> Any:
        return proof(run), x * factor

    return scale


@case(name="module-level helper")
def module_level_helper(run: str, x: int) -> Any:
    return proof(run), add_base(x)


@case(name="module constant")
def module_constant(run: str) -> Any:
    return proof(run), BASE


@case(name="import alias")
def import_alias(run: str, x: float) -> Any:
    return proof(run), mathematics.floor(x)


@case(name="local module")
def local_module(run: str, side: int) -> Any:
    return proof(run), the_shapes.Square(side).area()


@case(name="local package")
def local_package(run: str) -> Any:
    from flows.travelling import units

    return proof(run), units.PER_SIDE


def factorial(n: int) -> int:
    return 1 if n < 2 else n * factorial(n - 1)


@case(name="recursion")
def recursion(run: str, n: int) -> Any:
    return proof(run), factorial(n)


closure = case(scaler(3), name="closure")
a_lambda = case(lambda run, x: (proof(run), x * BASE), name="lambda")


@case(name="decorator")
@traced
def decorated(run: str, x: int) -> Any:
    return proof(run), add_base(x)


@case(name="custom class")
def custom_class(run: str, vector: Vector) -> Any:
    return proof(run), vector.times(2)


@case(name="dataclass")
def uses_dataclass(run: str, point: Point) -> Any:
    return proof(run), Point(point.x + 1, [*point.tags, "far"])


@case(name="enum")
def uses_enum(run: str, colour: Colour) -> Any:
    return proof(run), (Colour.BLUE, colour is Colour.RED)


@case(name="default arguments")
def defaults(run: str, a: int, b: int = BASE) -> Any:
    return proof(run), (a, b)


@case(name="keyword-only")
def keyword_only(run: str, *, a: int, b: int = 2) -> Any:
    return proof(run), a * b


@case(name="varargs")
def varargs(run: str, *args: int, **kwargs: int) -> Any:
    return proof(run), (args, sorted(kwargs.items()))


@case(name="generator consumed inside")
def generator(run: str, n: int) -> Any:
    return proof(run), sum(x * x for x in range(n))


@case(name="large argument")
def large_argument(run: str, data: bytes) -> Any:
    return proof(run), (len(data), data[-3:])


@case(name="large result")
def large_result(run: str, n: int) -> Any:
    return proof(run), b"abc" * n


@case(name="numpy argument")
def numpy_argument(run: str, array: Any) -> Any:
    return proof(run), array * 2


@case(name="standard types")
def standard_types(run: str, values: Any) -> Any:
    return proof(run), values


@case(name="function that raises")
def raises(run: str, size: int) -> Any:
    raise TooLarge(proof(run), size)


@case(name="prints and logs", log_prints=True)
def prints_and_logs(run: str, x: int) -> Any:
    print("printed far away", x)
    logger.warning("logged far away")
    return proof(run), x


def of_a_program() -> Any:
    """The task that a program defines, as if it were the one that runs."""
    path = Path(__file__).with_name("script.py")
    namespace: dict[str, Any] = {"__name__": "__main__", "__file__": str(path)}
    exec(compile(path.read_text(), str(path), "exec"), namespace)  # noqa: S102
    return namespace["of_a_program"]


def of_a_notebook() -> Any:
    """The same in the cells of a notebook, whose text only `linecache` knows."""
    text = Path(__file__).with_name("script.py").read_text()
    text = text.replace("of_a_program", "of_a_notebook").replace("a program", "a notebook")
    cells = text.partition("\n\n\n")[::2]
    namespace: dict[str, Any] = {"__name__": "__main__"}
    for number, cell in enumerate(cells):
        name = f"<ipython-input-{number}-travelling>"
        linecache.cache[name] = (len(cell), None, cell.splitlines(keepends=True), name)
        exec(compile(cell, name, "exec"), namespace)  # noqa: S102
    return namespace["of_a_notebook"]


VALUES = (
    (1, (2, 3)),
    b"\x00\xff",
    {1, "a"},
    None,
    PurePosixPath("a/b"),
    datetime.datetime(2024, 2, 29, 1, tzinfo=datetime.timezone.utc),
    decimal.Decimal("1.10"),
    Pair(1, "b"),
)


def cases() -> list[Case]:
    """All of them."""
    return [
        Case("basic", basic, Expected(is_basic, "the host, its Python, and where the job is")),
        Case(
            "local dependencies",
            local_dependencies,
            {"number_result": 60, "string_result": "HELLO_SLURM_WORLD"},
            (25, ("hello", "slurm", "world")),
        ),
        Case(
            "filesystem",
            filesystem,
            {
                "names": ["README.md", "a.py", "b.py", "c.py", "one.csv", "subdir", "two.csv"],
                "programs": 3,
                "has_readme": True,
                "samples": [("README.md", 4), ("a.py", 4), ("b.py", 4)],
            },
        ),
        Case(
            "complex",
            a_complex_one,
            {
                "found": ["one.csv", "subdir/x.csv", "two.csv"],
                "stats": [("one.csv", 4, True), ("x.csv", 4, True), ("two.csv", 4, True)],
                "mean_size": 4.0,
                "processed": 22.5,
            },
        ),
        Case("module-level helper", module_level_helper, 8, (1,)),
        Case("module constant", module_constant, 7),
        Case("import alias", import_alias, 2, (2.5,)),
        Case("local module", local_module, 90, (3,)),
        Case("local package", local_package, 10),
        Case("recursion", recursion, 120, (5,)),
        Case("closure", closure, 15, (5,)),
        Case("decorator", decorated, ("traced", 8), (1,)),
        Case("lambda", a_lambda, 14, (2,)),
        Case("custom class", custom_class, Vector(2, 4), (Vector(1, 2),)),
        Case("dataclass", uses_dataclass, Point(2, ["here", "far"]), (Point(1, ["here"]),)),
        Case("enum", uses_enum, (Colour.BLUE, True), (Colour.RED,)),
        Case("default arguments", defaults, (1, 7), (1,)),
        Case("keyword-only", keyword_only, 8, (), {"a": 4}),
        Case("varargs", varargs, ((1, 2), [("a", 2), ("b", 1)]), (1, 2), {"b": 1, "a": 2}),
        Case("generator consumed inside", generator, 285, (10,)),
        Case("large argument", large_argument, (3_000_000, b"xxx"), (b"x" * 3_000_000,)),
        Case("large result", large_result, b"abc" * 1_000_000, (1_000_000,)),
        Case(
            "numpy argument",
            numpy_argument,
            Expected(lambda value: value.tolist() == [0.0, 2.0, 4.0], "[0, 2, 4] as an array"),
            (None if np is None else np.arange(3.0),),
            needs="numpy",
            left_out="There is no numpy where the flow runs." if np is None else "",
        ),
        Case("standard types", standard_types, VALUES, (VALUES,)),
        Case("function that raises", raises, TooLarge(None, 50), (50,)),
        Case(
            "prints and logs",
            prints_and_logs,
            3,
            (3,),
            lines=[
                (logging.INFO, "printed far away 3"),
                (logging.WARNING, "logged far away"),
            ],
        ),
        Case("function of a program", of_a_program(), 9, (5,)),
        Case("function of a notebook", of_a_notebook(), 9, (5,)),
    ]
