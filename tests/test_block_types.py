"""Which blocks a Prefect server is told of once this package is installed beside it."""

from __future__ import annotations

import importlib
import pkgutil
from abc import ABC

from prefect.blocks.core import Block

import clustrix_prefect
from clustrix_prefect.block_types import BLOCK_TYPES


def test_every_block_of_the_package_is_named() -> None:
    for module in pkgutil.walk_packages(clustrix_prefect.__path__, "clustrix_prefect."):
        if not module.name.startswith("clustrix_prefect.far_side"):
            importlib.import_module(module.name)
    found, rest = set(), [Block]
    while rest:
        kinds = rest.pop().__subclasses__()
        rest += kinds
        found |= {kind for kind in kinds if kind.__module__.startswith("clustrix_prefect.")}
    assert {kind for kind in found if ABC not in kind.__bases__} == set(BLOCK_TYPES)
    assert all(kind.__name__ in clustrix_prefect.__all__ for kind in BLOCK_TYPES)
