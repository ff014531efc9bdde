"""Helpers from other modules of the project: with tasks beside them, with data, in processes."""

from __future__ import annotations

import inspect
import multiprocessing
import pickle
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from prefect import task

from tests.packaging.strangers import helper, shop
from tests.packaging.strangers.helper import Item, closure, fetch
from tests.packaging.strangers.shop import prices as p

scale = closure(3)


class Own:
    def __init__(self, item: Item) -> None:
        self.item = item


def square(x: int) -> int:
    return x * x


def spawned(method: str) -> Any:
    with multiprocessing.get_context(method).Pool(1) as pool:
        return pool.map(helper.where_called, [-1, 2])


def forked() -> Any:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        return pool.map(square, [1, 2, 3])


def pooled() -> Any:
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("fork")) as pool:
        return list(pool.map(square, [4]))


def threaded() -> Any:
    with ThreadPoolExecutor(2) as pool:
        return list(pool.map(square, range(4)))


def beside() -> str:
    return Path(__file__).with_name("notes.txt").read_text()


@task
def inner(x: int) -> int:
    return x * 10


# Of the same version only: modules are files there.
FILES: list[Any] = [
    (spawned, "spawn"),
    (spawned, "forkserver"),
    p.table,
    lambda: (shop.plugin("a"), shop.plugin("b")),
    beside,
]

CASES: list[Any] = [
    lambda: (helper.LIMIT, helper.where().rpartition(".")[2]),
    lambda: fetch.fn(1) + inner.fn(2),
    lambda: scale(4),
    (lambda f: f(5), closure(2)),
    (lambda i: (i, isinstance(i, helper.Item)), Item(3)),
    lambda: Item(4),
    (lambda o: (o.item.n, type(o).__name__), Own(Item(1))),
    lambda: p.taxed(3),
    lambda: inspect.getsource(helper.where),
    lambda: inspect.getsource(square),
    lambda: pickle.loads(pickle.dumps(Item(5))),
    lambda: pickle.loads(pickle.dumps(Own(Item(6)))).item,
    lambda: pickle.loads(pickle.dumps(square))(3),
    forked,
    pooled,
    threaded,
    lambda: Path(helper.__file__).name,
    (lambda m: m.LIMIT, helper),
    (helper.where,),
    lambda: sorted(n for n in vars(shop) if n in ("plugin", "prices")),
]
