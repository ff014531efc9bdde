"""Data: objects that hold sets of each other, and everything that pickle takes."""

from __future__ import annotations

import array
import collections
import datetime
import decimal
import fractions
import ipaddress
import operator
import pathlib
import random
import re
import types
import uuid
from typing import Any


class Node:
    def __init__(self, key: Any) -> None:
        self.key = key
        self.neighbours: set[Node] = set()


class Branch:
    def __init__(self, parent: Branch | None = None) -> None:
        self.parent = parent
        self.children: set[Branch] = set()
        if parent:
            parent.children.add(self)


def grid(width: int) -> list[Node]:
    at = {(x, y): Node((x, y)) for x in range(width) for y in range(width)}
    for (x, y), node in at.items():
        for dx, dy in ((0, 1), (1, 0), (0, -1), (-1, 0)):
            if (x + dx, y + dy) in at:
                node.neighbours.add(at[x + dx, y + dy])
    return list(at.values())


def tree(depth: int) -> Branch:
    root = Branch()
    level = [root]
    for _ in range(depth):
        level = [Branch(b) for b in level for _ in "ab"]
    return root


def count(nodes: list[Node]) -> int:
    return sum(len(node.neighbours) for node in nodes)


def size(branch: Branch) -> int:
    return 1 + sum(map(size, branch.children))


class Reduced:
    def __init__(self, x: int) -> None:
        self.x, self.computed = x, x * 2

    def __reduce__(self) -> Any:
        return Reduced, (self.x,)


class Stated:
    def __getstate__(self) -> Any:
        return {"kept": self.kept}  # type: ignore[has-type]

    def __setstate__(self, state: Any) -> None:
        self.kept = state["kept"]


class Singleton:
    def __reduce__(self) -> str:
        return "MISSING"


MISSING = Singleton()
stated = Stated()
stated.kept = 1


class Names(set):  # type: ignore[type-arg]
    pass


class Bag(dict):  # type: ignore[type-arg]
    def __missing__(self, key: Any) -> Any:
        return "none"


class Money(int):
    def __new__(cls, amount: int, currency: str = "EUR") -> Any:
        made = super().__new__(cls, amount)
        made.currency = currency  # type: ignore[attr-defined]
        return made

    def __getnewargs__(self) -> Any:
        return int(self), self.currency  # type: ignore[attr-defined]


names = Names(["b", "a"])
names.title = "t"  # type: ignore[attr-defined]
loop: list[Any] = [1]
loop.append(loop)
shared = [1, 2]


def echo(value: Any) -> Any:
    return value


def is_missing(value: Any) -> bool:
    return value is MISSING


CASES: list[Any] = [
    (count, grid(3)),
    (size, tree(3)),
    (count, grid(6)),
    (size, tree(8)),
    (lambda v: len(v[1][1]), loop),
    (lambda a, b: a is b, shared, shared),
    (lambda pair: pair[0] is pair[1], (shared, shared)),
    (lambda r: (r.x, r.computed), Reduced(4)),
    (lambda s: s.kept, stated),
    (is_missing, MISSING),
    (lambda n: (sorted(n), n.title, type(n).__name__), names),
    (lambda b: (b["x"], dict(b)), Bag(a=1)),
    (lambda m: (m + 1, m.currency, type(m).__name__), Money(5, "USD")),
    (echo, {1, "a", frozenset({2, None})}),
    (echo, {"a": {"b": [(1, 2.5), b"x", None, True]}}),
    (echo, [datetime.date(2024, 2, 29), datetime.timedelta(1, 2, 3)]),
    (echo, datetime.datetime(2024, 2, 29, tzinfo=datetime.timezone.utc)),
    (echo, [decimal.Decimal("1.10"), fractions.Fraction(1, 3), 1j]),
    (echo, [uuid.UUID(int=5), pathlib.PurePosixPath("/a/b"), pathlib.Path("c")]),
    (echo, collections.OrderedDict(b=1, a=2)),
    (echo, collections.Counter("abca")),
    (echo, collections.deque([1, 2], maxlen=3)),
    (lambda d: (d["x"], dict(d)), collections.defaultdict(list, y=[1])),
    (echo, array.array("d", [1.5, 2])),
    (echo, [range(3), slice(1, 2), Ellipsis, NotImplemented]),
    (echo, re.compile("a+", re.IGNORECASE)),
    (echo, ipaddress.ip_network("10.0.0.0/8")),
    (lambda r: [r.random() for _ in range(2)], random.Random(3)),
    (lambda p: dict(p), types.MappingProxyType({"a": 1})),
    (lambda f: f({"x": 3}), operator.itemgetter("x")),
    (lambda m: m.sqrt(4), __import__("math")),
    (lambda k: [type(each).__name__ for each in k], [int, None, "x"]),
    (echo, [float("inf"), -0.0, 10**40]),
    (echo, bytearray(b"abc")),
    (lambda data: len(data), b"x" * 200_000),
    (lambda v: (len(v), v[-1]), list(range(50_000))),
    (lambda d: (d["b"] is d["c"], len(d["b"])), {"b": shared, "c": shared}),
    (lambda kinds: [k.__name__ for k in kinds], [int, Node, ValueError, collections.Counter]),
    (echo, list({"x": 1}.items())),
    lambda: sorted({"b", "a"} | {"c"}),
]
