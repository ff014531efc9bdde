"""Functions of a notebook that runs in a real kernel."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from textwrap import dedent

import nbformat
import pytest
from nbclient import NotebookClient

HERE = f"3.{sys.version_info.minor}"
CELLS = [
    """
    import os
    import math as m
    import sys
    from prefect import flow, task
    from clustrix_prefect import ClusterTaskRunner, LocalCluster
    SCALE = 2
    """,
    """
    class Bag:
        def __init__(self, x):
            self.x = x
    """,
    """
    def helper(x):
        return m.floor(x) * SCALE
    """,
    """
    @task
    def work(x):
        return Bag(helper(x)), sys.version_info[:2], os.getpid()
    """,
    """
    cluster = LocalCluster(python=os.environ["FAR_PYTHON"], remote_work_dir=os.path.abspath("work"))

    @flow(task_runner=ClusterTaskRunner(cluster))
    def study():
        return work.map([1.5, 2.5]).result()

    found = study()
    """,
    # A cell that is run again with another definition: the newer one counts.
    """
    def helper(x):
        return m.ceil(x) * SCALE

    found += study()
    """,
    """
    assert all(type(bag) is Bag and pid != os.getpid() for bag, _, pid in found)
    print([bag.x for bag, _, _ in found], *{version for _, version, _ in found})
    """,
]


@pytest.mark.usefixtures("prefect_server")
@pytest.mark.parametrize("minor", [pytest.param("3.8", marks=pytest.mark.every), HERE])
def test_cells_of_a_real_kernel(
    minor: str, pythons: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if minor not in pythons:
        pytest.skip(f"no Python {minor} on this machine")
    monkeypatch.setenv("FAR_PYTHON", pythons[minor])
    monkeypatch.setenv("PYTHONPATH", os.getcwd())
    cells = [nbformat.v4.new_code_cell(dedent(cell)) for cell in CELLS]
    notebook = nbformat.v4.new_notebook(cells=cells)
    NotebookClient(notebook, timeout=150, resources={"metadata": {"path": str(tmp_path)}}).execute()
    said = "".join(out.text for out in notebook.cells[-1].outputs if out.get("name") == "stdout")
    assert said == f"[2, 4, 4, 6] {tuple(map(int, minor.split('.')))}\n"
