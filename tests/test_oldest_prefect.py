"""The oldest Prefect that pyproject.toml allows runs a flow, in an environment of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
import uv

ROOT = Path(__file__).parent.parent
FLOW = """
from prefect import __version__, flow, task
from clustrix_prefect import ClusterTaskRunner, LocalCluster

@task(log_prints=True)
def double(x):
    print("doubles", x)
    return 2 * x

@flow(task_runner=ClusterTaskRunner(LocalCluster(max_parallel_calls=2)))
def doubles():
    return double.map(range(3)).result()

if __name__ == "__main__":
    print(__version__, doubles())
"""


@pytest.mark.every
@pytest.mark.service  # a Prefect server of its own
def test_a_flow_runs_with_it(tmp_path: Path) -> None:
    named = re.search(r'"prefect>=([\d.]+)', (ROOT / "pyproject.toml").read_text())
    assert named
    python = tmp_path / "venv" / "bin" / "python"
    uv_command = [uv.find_uv_bin()]
    run(*uv_command, "venv", "--python", sys.executable, str(tmp_path / "venv"))
    run(*uv_command, "pip", "install", "--python", str(python), str(ROOT), f"prefect=={named[1]}")
    program = tmp_path / "flow.py"
    program.write_text(FLOW)
    kept = {name: value for name, value in os.environ.items() if not name.startswith("PREFECT_")}
    environment = {
        **kept,
        "PREFECT_HOME": str(tmp_path / "prefect"),
        "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
        "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    }
    done = run(str(python), str(program), env=environment, cwd=tmp_path)
    version, _, results = done.stdout.strip().splitlines()[-1].partition(" ")
    assert version.startswith(named[1])
    assert results == "[0, 2, 4]"
    assert "doubles 2" in done.stderr + done.stdout


def run(*command: str, **options: object) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(command, capture_output=True, text=True, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done
