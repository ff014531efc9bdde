"""The kernel's count of processes that it ended for memory, as each layout of cgroups has it."""

from pathlib import Path

import pytest

from clustrix_prefect.far_side.cgroup import oom_kills

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
