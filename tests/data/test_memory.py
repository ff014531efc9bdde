"""How often a large value is in memory while it travels: here, and where it comes from."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.data import memory_flow
from tests.packaging.elsewhere import Elsewhere

# Two, and what else a flow takes meanwhile.
COPIES = 2.6  # a third would make it 2.9 and more


@pytest.mark.parametrize("kind", ["bytes", "text", "array"])
def test_a_large_result_is_not_in_memory_three_times_where_it_is_made(
    kind: str, tmp_path: Path
) -> None:
    far = Elsewhere(sys.executable, tmp_path)
    far.call(memory_flow.make.fn, kind, 8)
    idle = far.peak_memory
    far.call(memory_flow.make.fn, kind, memory_flow.SIZE)
    far.close()
    assert 1 < (far.peak_memory - idle) / memory_flow.SIZE < COPIES


@pytest.mark.usefixtures("quick_prefect")
def test_large_values_are_never_in_memory_three_times(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", memory_flow.__name__, str(tmp_path / "work")],
        cwd=Path(__file__).parents[2],
        env=os.environ,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    copies = json.loads(done.stdout.splitlines()[-1])
    assert {name: found for name, found in copies.items() if not 1 < found < COPIES} == {}, copies
