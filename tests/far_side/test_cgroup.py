"""What control groups say of memory and processors, in each of their layouts."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from clustrix_prefect.far_side.wire.cgroup import cores, oom_kills

V1 = "11:cpu,cpuacct:/job\n9:memory:/job\n0::/init.scope\n"
V2 = "0::/job\n"


def lay_out(root: Path, groups: str, counter: str, text: str) -> None:
    for path, content in (("proc/self/cgroup", groups), (f"sys/fs/cgroup/{counter}", text)):
        (root / path).parent.mkdir(parents=True)
        (root / path).write_text(content)


@pytest.mark.parametrize(
    ("groups", "counter", "text"),
    [
        (V1, "memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        (V1, "memory/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n"),
        (V2, "job/memory.events", "low 0\nhigh 0\nmax 9\noom 4\noom_kill 3\noom_group_kill 0\n"),
        (V2, "memory.events", "oom 4\noom_kill 3\n"),
    ],
    ids=["v1", "v1 in a container", "v2", "v2 in a container"],
)
def test_the_count_is_found(tmp_path: Path, groups: str, counter: str, text: str) -> None:
    lay_out(tmp_path, groups, counter, text)
    assert oom_kills(str(tmp_path)) == 3


def test_a_kernel_without_a_count_gives_none(tmp_path: Path) -> None:
    assert oom_kills(str(tmp_path)) is None
    lay_out(tmp_path, V1, "memory/job/memory.oom_control", "oom_kill_disable 0\nunder_oom 0\n")
    assert oom_kills(str(tmp_path)) is None


@pytest.mark.parametrize(
    ("groups", "files"),
    [
        (V2, {"job/cpu.max": "150000 100000\n"}),
        (V2, {"cpu.max": "150000 100000\n"}),
        (V2, {"job/cpu.max": "max 100000\n", "cpu.max": "150000 100000\n"}),
        (V1, {"cpu/job/cpu.cfs_quota_us": "150000\n", "cpu/job/cpu.cfs_period_us": "100000\n"}),
    ],
    ids=["v2", "v2 in a container", "v2, of the group above", "v1"],
)
def test_a_quota_limits_the_cores(
    tmp_path: Path, groups: str, files: dict[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(64)))
    for path, content in {
        "proc/self/cgroup": groups,
        **{f"sys/fs/cgroup/{name}": text for name, text in files.items()},
    }.items():
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / path).write_text(content)
    assert cores(str(tmp_path)) == 2


def test_affinity_limits_the_cores() -> None:
    program = "import os; os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
    program += "from clustrix_prefect.far_side.wire.cgroup import cores; print(cores())"
    assert json.loads(subprocess.check_output([sys.executable, "-c", program])) == 1


def test_without_limits_all_cores_are_used(tmp_path: Path) -> None:
    lay_out(tmp_path, V1, "cpu/job/cpu.cfs_quota_us", "-1\n")
    assert cores(str(tmp_path)) == len(os.sched_getaffinity(0))
