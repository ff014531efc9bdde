"""Which blocks a Prefect server is told of once this package is installed beside it."""

from __future__ import annotations

import ast
import importlib
import pkgutil
import textwrap
from abc import ABC

import pytest
from prefect.blocks.core import Block

import clustrix_prefect
from clustrix_prefect.block_types import BLOCK_TYPES
from clustrix_prefect.clusters.cluster import ClusterBlock


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


@pytest.mark.parametrize("kind", BLOCK_TYPES, ids=lambda kind: kind.__name__)
def test_examples_are_short_enough_for_a_page(kind: type[Block]) -> None:
    """Prefect's pages show them whole; this is what fits beside a block's fields."""
    example = textwrap.dedent(kind.get_code_example() or "").strip()
    fence, *lines, end = example.splitlines()
    assert (fence, end) == ("```python", "```")
    assert len([line for line in lines if line]) <= 12
    ast.parse("\n".join(lines))
    # Pages put the name of the block there that they show.
    if issubclass(kind, ClusterBlock):
        assert f'cluster = {kind.__name__}.load("BLOCK_NAME")' in example
    else:
        assert '("BLOCK_NAME")' in example
