"""`make demo`'s flow: run as a user runs it, in a process of its own."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.live.daemon import listens

pytestmark = pytest.mark.service  # a Prefect server of its own

_REPOSITORY = Path(__file__).parent.parent


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    """The demo's output, with a home directory and a Prefect home of its own."""
    return run("flows/demo.py", tmp_path_factory)


def run(program: str, tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    home = tmp_path_factory.mktemp("home")
    environment = {k: v for k, v in os.environ.items() if not k.startswith("PREFECT_")}
    environment.update(
        HOME=str(home),
        PREFECT_HOME=str(tmp_path_factory.mktemp("prefect")),
        PREFECT_SERVER_ANALYTICS_ENABLED="false",
        # Other tests keep the machine busy.
        PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS="240",
    )
    return subprocess.run(
        [sys.executable, program],
        cwd=_REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=280,
        stdin=subprocess.DEVNULL,
    )


def test_it_works_and_says_so(demo: subprocess.CompletedProcess[str]) -> None:
    assert demo.returncode == 0, demo.stdout + demo.stderr
    assert "It works" in demo.stdout
    assert "78,498 primes" in demo.stdout


def test_it_shows_live_log_lines_and_a_progress_bar(
    demo: subprocess.CompletedProcess[str],
) -> None:
    shown = demo.stdout + demo.stderr

    assert len(set(re.findall(r"\d+ primes from [\d,]+ to [\d,]+", shown))) == 25
    assert "100%" in shown


def test_it_ran_in_processes_that_are_not_the_flows(
    demo: subprocess.CompletedProcess[str],
) -> None:
    own = re.search(r"in process (\d+); its calls ran on", demo.stdout)
    workers = re.findall(r"in process (\d+): \d+ calls", demo.stdout)

    assert own
    assert workers
    assert own[1] not in workers


def test_it_leaves_nothing_running(demo: subprocess.CompletedProcess[str]) -> None:
    started_by_it = [int(pid) for pid in re.findall(r"in process (\d+)", demo.stdout)]
    server = re.search(r"temporary server on http://127\.0\.0\.1:(\d+)", demo.stderr)

    deadline = time.monotonic() + 60  # workers end by themselves once their client is gone
    while left := [pid for pid in started_by_it if Path(f"/proc/{pid}").exists()]:
        assert time.monotonic() < deadline, left
        time.sleep(0.05)
    assert server
    assert not listens(int(server[1]))


def test_it_says_how_to_open_the_run(demo: subprocess.CompletedProcess[str]) -> None:
    assert "server start" in demo.stdout
    assert re.search(r"http://127\.0\.0\.1:4200/runs/flow-run/[0-9a-f-]{36}", demo.stdout)


@pytest.mark.every
def test_it_fails_if_a_result_is_wrong(tmp_path_factory: pytest.TempPathFactory) -> None:
    """The same program, but its calls take 4 for a prime."""
    text = (_REPOSITORY / "flows" / "demo.py").read_text()
    wrong = tmp_path_factory.mktemp("flows") / "demo.py"
    assert "if number < 4:" in text
    wrong.write_text(text.replace("if number < 4:", "if number < 5:"))
    done = run(str(wrong), tmp_path_factory)
    assert done.returncode == 1, done.stdout + done.stderr
    assert "FAILED: slice 0: 4204 primes, but there are 4203" in done.stdout
    assert "It works" not in done.stdout
