"""What is said of a worker that was killed: for its memory, if the kernel counted that."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from clustrix_prefect.connections.connection import ChannelsOnly
from clustrix_prefect.connections.local import LocalChannel
from tests.far_side.calls import Call
from tests.far_side.far import Far

LIMIT = 300 * 2**20
TAKE = "def f(size):\n    kept = bytearray(size)\n    kept[::4096] = b'1' * len(kept[::4096])"
WAIT = "import time\ndef f():\n    time.sleep(60)"


@pytest.fixture
def small_group() -> Iterator[Path]:
    """A control group whose processes may use little memory."""
    base = Path("/sys/fs/cgroup")
    v1 = base / "memory"
    group = (v1 if v1.is_dir() else base) / f"clustrix-test-{os.getpid()}"
    limit = group / ("memory.limit_in_bytes" if v1.is_dir() else "memory.max")
    try:
        group.mkdir()
        limit.write_text(str(LIMIT))
    except OSError as error:
        if group.is_dir():
            group.rmdir()
        pytest.skip(f"no control group can be made here: {error}")
    yield group
    deadline = time.monotonic() + 60
    while (group / "cgroup.procs").read_text() and time.monotonic() < deadline:
        time.sleep(0.1)
    group.rmdir()


def test_only_what_the_kernel_counted_is_out_of_memory(small_group: Path, tmp_path: Path) -> None:
    def open_in_group(command: str) -> LocalChannel:
        return LocalChannel(f"echo $$ > {small_group}/cgroup.procs; {command}")

    far = Far(sys.executable, tmp_path / "work", ChannelsOnly(open_in_group, "a small group"))
    try:
        killed = Call(WAIT)
        far.run(killed)
        started, _ = far.wait("started", killed)
        os.kill(started["pid"], signal.SIGKILL)
        died, _ = far.wait("worker_died", killed)
        assert died["returncode"] == -signal.SIGKILL
        assert not died["out_of_memory"]

        greedy = Call(TAKE, (2 * LIMIT,))
        far.run(greedy)
        died, _ = far.wait("worker_died", greedy)
        assert died["returncode"] == -signal.SIGKILL
        assert died["out_of_memory"]
        assert died["peak_memory"] > LIMIT / 2
    finally:
        far.close()
