"""Whoever interrupts a test run finds nothing of it afterwards."""

from __future__ import annotations

import json
import multiprocessing
import os
import pwd
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.live.daemon import wait_until
from tests.live.rundir import MARK

ROOT = Path(__file__).parents[2]


def _controller(process: subprocess.Popen[bytes], facts: dict[str, Any]) -> int:
    return process.pid


def _worker(process: subprocess.Popen[bytes], facts: dict[str, Any]) -> int:
    return int(facts["pid"])


def test_a_forked_process_of_a_test_just_ends() -> None:
    """A handler in Python might be run too late: what waits for a lock would wait for good."""
    with multiprocessing.get_context("fork").Pool(1) as pool:
        assert pool.apply(signal.getsignal, (signal.SIGTERM,)) is signal.SIG_DFL


@pytest.mark.service
@pytest.mark.parametrize(
    ("who", "number"),
    [(_controller, signal.SIGINT), (_controller, signal.SIGTERM), (_worker, signal.SIGKILL)],
    ids=["Ctrl-C", "SIGTERM", "a killed worker"],
)
def test_nothing_is_left(
    who: Callable[[subprocess.Popen[bytes], dict[str, Any]], int],
    number: signal.Signals,
    tmp_path: Path,
) -> None:
    if os.geteuid() != 0:
        pytest.skip("the services of that run need root")
    tell, log = tmp_path / "facts", tmp_path / "log"
    environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", MARK))}
    options = ["-n1", "--maxprocesses=1", "--max-worker-restart=0", "-p", "no:cacheprovider"]
    with log.open("wb") as output:
        process = subprocess.Popen(
            [sys.executable, "-m", "pytest", *options, "tests/live/interrupted.py"],
            cwd=ROOT,
            env={**environment, "TELL": str(tell)},
            stdout=output,
            stderr=output,
            start_new_session=True,
            # Who is started in the background of a shell inherits that it is ignored.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )
        try:
            wait_until(lambda: tell.exists() or process.poll() is not None, 180)
            assert tell.exists(), log.read_text()[-3000:]
            facts = json.loads(tell.read_text())
            assert _marked(facts["path"])
            assert facts["path"] in Path("/proc/mounts").read_text()
            os.kill(who(process, facts), number)
            process.wait(180)
        finally:
            process.kill()
    wait_until(lambda: not Path(facts["path"]).exists(), 60)
    assert not _marked(facts["path"])
    assert facts["path"] not in Path("/proc/mounts").read_text()
    with pytest.raises(KeyError):
        pwd.getpwnam(facts["account"])


def _marked(path: str) -> list[str]:
    """The command lines of the processes that belong to a run."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        try:
            environment = (entry / "environ").read_bytes()
            command = (entry / "cmdline").read_bytes()
        except OSError:  # it has just ended
            continue
        if f"{MARK}={path}\0".encode() in environment and command:
            found.append(command.decode(errors="replace"))
    return found
