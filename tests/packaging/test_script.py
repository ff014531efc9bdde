"""A script's own functions and classes, through a flow that the script runs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.live.prefect_server import PrefectServer

HERE = f"3.{sys.version_info.minor}"
SCRIPT = """
import enum
import os
import sys
from dataclasses import dataclass

from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, LocalCluster
from beside import shifted

LIMIT = {"three": 3}


class Kind(enum.Enum):
    ONE = 1


class Pair:
    def __init__(self, a):
        self.a = a

    def more(self):
        return Pair(helper(self.a))


class TooLarge(Exception):
    def __init__(self, size, limit):
        super().__init__(f"{size} > {limit}")
        self.size = size


def helper(x):
    return shifted(x) + LIMIT["three"]


@task
def near(pair, kind=Kind.ONE, key=lambda pair: pair.a):
    return pair.more(), kind, key(pair), os.getpid()


@task
def fails(size):
    raise TooLarge(size, LIMIT["three"])


@flow(task_runner=ClusterTaskRunner(LocalCluster(python=sys.argv[1], remote_work_dir=sys.argv[2])))
def study():
    found = near.map([Pair(1), Pair(2)]).result()
    return found, fails.submit(5).result(raise_on_failure=False)


if __name__ == "__main__":
    found, error = study()
    assert all(type(pair) is Pair and kind is Kind.ONE for pair, kind, _, _ in found), found
    assert all(pid != os.getpid() for *_, pid in found)
    assert type(error) is TooLarge and error.size == 5, error
    assert 'File "script.py", line 44, in fails' in str(error.__cause__), error.__cause__
    print([(pair.a, key) for pair, _, key, _ in found])
"""


@pytest.mark.parametrize("minor", [pytest.param("3.8", marks=pytest.mark.every), HERE])
def test_a_script_runs_its_flow(
    minor: str, pythons: dict[str, str], prefect_server: PrefectServer, tmp_path: Path
) -> None:
    if minor not in pythons:
        pytest.skip(f"no Python {minor} on this machine")
    (tmp_path / "beside.py").write_text("def shifted(x):\n    return x + 10\n")
    (tmp_path / "script.py").write_text(SCRIPT)
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py"), pythons[minor], str(tmp_path / "work")],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        capture_output=True,
        text=True,
    )
    assert done.stdout == "[(14, 1), (15, 2)]\n", done.stderr
