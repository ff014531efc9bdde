"""The first process of a pod, in a container's view of processes: a namespace of its own."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

import pytest

from clustrix_prefect.far_side.agent import pod_main as keeper
from clustrix_prefect.kubernetes.pods import END_VOLUME, PodSettings, job_manifest
from clustrix_prefect.task_resources import Resources

SOURCE = Path(keeper.__file__).read_text()
UNSHARE = ["unshare", "--fork", "--pid", "--mount-proc", "--kill-child"]


def start(command: list[str]) -> subprocess.Popen[bytes]:
    return subprocess.Popen([*UNSHARE, *command], stdout=subprocess.PIPE, stderr=subprocess.STDOUT)


@pytest.fixture(scope="module", autouse=True)
def _namespaces() -> None:
    if start(["true"]).wait():
        missing = pytest.fail if os.environ.get("CI") else pytest.skip
        missing("this account may not make process namespaces")


@pytest.fixture
def end_volume(tmp_path: Path) -> str:
    (path := tmp_path / "end").mkdir()
    return str(path)


def ended(process: subprocess.Popen[bytes]) -> tuple[bytes, int, float]:
    began = time.monotonic()
    said, _ = process.communicate(timeout=120)
    return said.strip(), process.returncode, time.monotonic() - began


@pytest.mark.parametrize(
    ("there", "named"), [("python3", None), ("python", None), ("my-python", "my-python")]
)
def test_an_image_may_call_its_python_as_it_likes(
    tmp_path: Path, there: str, named: str | None
) -> None:
    (tmp_path / there).symlink_to(sys.executable)
    settings = PodSettings(image="i", python=named, start_timeout=0)
    job = job_manifest(settings, Resources(), name="j", labels={}, calls=1)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    said, code, _ = ended(start(["env", f"PATH={tmp_path}", *command]))
    assert (said.splitlines()[0], code) == (b"nobody came", 0)


def test_an_image_without_python_says_so(tmp_path: Path) -> None:
    job = job_manifest(PodSettings(image="i"), Resources(), name="j", labels={}, calls=1)
    command = job["spec"]["template"]["spec"]["containers"][0]["command"]
    said, code, _ = ended(start(["env", f"PATH={tmp_path}", *command]))
    assert said == b"no Python here: tried python3 python"
    assert code == 127


def test_it_ends_if_nobody_comes_and_has_the_node_end_the_pod(tmp_path: Path) -> None:
    said, code, seconds = ended(start([sys.executable, "-c", SOURCE, "0.5", "600", str(tmp_path)]))
    assert (said, code) == (b"nobody came", 0)
    assert seconds < 60
    job = job_manifest(PodSettings(image="i"), Resources(), name="j", labels={}, calls=1)
    volumes = {one["name"]: one for one in job["spec"]["template"]["spec"]["volumes"]}
    assert volumes[END_VOLUME]["emptyDir"] == {"sizeLimit": "1Mi"}
    assert sum(path.stat().st_blocks * 512 for path in tmp_path.iterdir()) > 1024**2


def test_it_stays_for_what_was_left_until_the_hold_ends(end_volume: str) -> None:
    # The shell's child is an orphan whose parent, this shell, becomes the keeper.
    # It lives longer than a busy machine takes to start the keeper.
    script = 'sleep 8 & exec "$0" -c "$@"'
    command = ["sh", "-c", script, sys.executable, SOURCE, "0.2", "1", end_volume]
    said, code, seconds = ended(start(command))
    assert (said, code) == (b"nobody fetched more", 0)
    assert seconds > 8.5


def test_zombies_are_nobody_and_are_reaped(end_volume: str) -> None:
    script = 'sh -c "true & exec sleep 0.7" & exec "$0" -c "$@"'
    command = ["sh", "-c", script, sys.executable, SOURCE, "600", "0.5", end_volume]
    said, _, seconds = ended(start(command))
    assert said == b"nobody fetched more"
    assert seconds < 60


def test_it_ends_at_once_when_told_to() -> None:
    script = (
        "import os, signal, subprocess, sys, time\n"
        "keeper = subprocess.Popen([sys.executable, '-c', sys.argv[1], '600', '600'])\n"
        "time.sleep(1); keeper.terminate(); sys.exit(keeper.wait(timeout=60))\n"
    )
    _, code, seconds = ended(start([sys.executable, "-c", script, SOURCE]))
    assert code == 0
    assert seconds < 60
