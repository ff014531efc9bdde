"""What stands for the names in the documentation."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.settings import PREFECT_API_URL, temporary_settings

from clustrix_prefect import LocalCluster
from clustrix_prefect.clusters import loading


@pytest.fixture
def stand_ins(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[dict[str, str]]:
    """Blocks are saved in memory, clusters by name are this machine; what stands for which path."""
    saved: dict[tuple[str, str], Block] = {}
    here = LocalCluster(remote_work_dir=str(tmp_path / "work"), max_parallel_calls=1)

    def save(block: Block, name: str, overwrite: bool = False, **_: Any) -> None:
        block._block_document_name = name
        saved[block.get_block_type_slug(), name] = block

    def load(kind: type[Block], name: str, **_: Any) -> Block:
        slug, __, rest = name.rpartition("/")
        return saved[slug or kind.get_block_type_slug(), rest]

    monkeypatch.setattr(Block, "save", save)
    monkeypatch.setattr(Block, "load", classmethod(load))  # type: ignore[arg-type]
    monkeypatch.setattr(loading, "_load", lambda name: here)
    monkeypatch.setattr(loading, "get_client", lambda **_: nullcontext())
    monkeypatch.setattr(
        loading, "_documents", lambda _, slug: ["ndoli"] * (slug == "slurm-cluster")
    )
    monkeypatch.chdir(tmp_path)
    (tmp_path / "scratch/results").mkdir(parents=True)
    (tmp_path / "scratch/x.csv").write_text("a,b\n1,2\n")
    # A server is named, and nothing asks it.
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        yield {"/scratch/ana": str(tmp_path / "scratch")}
