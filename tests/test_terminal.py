"""What is seen of a flow on a terminal while it runs, and what goes to a file."""

from __future__ import annotations

import contextlib
import logging
import os
import pty
import re
import subprocess
import sys
from pathlib import Path

import pytest

from clustrix_prefect.cli.check import _print_result
from clustrix_prefect.dispatch.progress import Progress, in_words
from clustrix_prefect.display.terminal import _brief
from clustrix_prefect.errors import JobLost
from clustrix_prefect.validation.check import Check
from tests.live.prefect_server import PrefectServer

_COUNT = 12
_SCRIPT = f"""\
import time

from prefect import flow, task

from clustrix_prefect import ClusterTaskRunner, LocalCluster

here = LocalCluster(remote_work_dir="WORK", max_parallel_calls=4)


@task(log_prints=True)
def fit(seed: int) -> int:
    time.sleep(0.4)
    print(f"seed {{seed}} is fitted")
    if seed == 7:
        raise ValueError("seed 7 does not fit")
    return seed


@flow(task_runner=ClusterTaskRunner(here))
def sweep() -> None:
    futures = fit.map(range({_COUNT}))
    print("all are on their way")
    futures.wait()


if __name__ == "__main__":
    sweep(return_state=True)
"""


@pytest.fixture
def script(prefect_server: PrefectServer, tmp_path: Path) -> Path:
    path = tmp_path / "script.py"
    path.write_text(_SCRIPT.replace("WORK", str(tmp_path / "work")))
    return path


def test_on_a_terminal_one_line_counts_and_the_others_stay_above_it(script: Path) -> None:
    ours, theirs = pty.openpty()
    environment = {**os.environ, "TERM": "xterm", "COLUMNS": "160", "LINES": "50"}
    with subprocess.Popen(
        [sys.executable, str(script)], stdin=theirs, stdout=theirs, stderr=theirs, env=environment
    ):
        os.close(theirs)
        read = b""
        with contextlib.suppress(OSError):  # it has ended
            while some := os.read(ours, 4096):
                read += some
    os.close(ours)
    text = re.sub(r"\x1b\[[0-9;?]*[A-Za-z]", "", read.decode())
    assert re.search(r"this machine: \d+ queued, \d+ running, \d+ done, \d failed", text)
    assert re.search(r"about \d+ s left", text)
    assert "all are on their way" in text
    for seed in range(_COUNT):
        assert f"seed {seed} is fitted" in text
    finished = re.findall(r"Task run '.*' - Finished in state", text)
    assert not finished, "a line per call"
    assert "Task run failed with exception: ValueError('seed 7 does not fit')" in text
    assert re.search(rf"1 of {_COUNT} failed: fit-7-\w+; page http\S+/flow-run/\S+", text)
    assert read.rfind(b"\x1b[?25h") > read.rfind(b"\x1b[?25l"), "the cursor stays hidden"


def test_in_a_file_nothing_is_left_out(script: Path) -> None:
    done = subprocess.run([sys.executable, str(script)], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    ended = re.findall(r"Task run 'fit-\d+-\w+' - Finished in state (\w+)", done.stderr)
    assert sorted(ended) == ["Completed"] * (_COUNT - 1) + ["Failed"]
    assert "queued" not in done.stderr, "a line of what is at the foot of a terminal"
    for seed in range(_COUNT):
        assert f"seed {seed} is fitted" in done.stderr


@pytest.mark.parametrize(
    ("seconds", "words"),
    [(0.2, "1 s"), (59.4, "59 s"), (60, "1 min"), (200, "3 min 20 s"), (7500, "2 h 5 min")],
)
def test_times_in_words(seconds: float, words: str) -> None:
    assert in_words(seconds) == words


def test_how_long_it_takes_is_not_told_before_something_has_ended() -> None:
    progress = Progress()
    progress.begin()
    assert progress.time_left(None) == ""
    assert progress.time_left(1.0) == ""
    progress.end("fit-0-abc", None)
    assert progress.time_left(1.0) == "", "all have ended"


def test_many_that_failed_are_not_all_named() -> None:
    progress = Progress()
    assert progress.last_words("http://here") == ""
    for index in range(8):
        progress.begin()
        progress.end(f"fit-{index}", None)
    said = progress.last_words("http://here")
    assert said.startswith("8 of 8 failed: fit-0, fit-1, fit-2, fit-3, fit-4 and 3 more; page http")


def test_an_error_of_ours_without_lines_of_the_users_is_said_once() -> None:
    """The message of Prefect's log line has its sentences; below it they would stand once more."""
    error = JobLost("The job is gone.", "Run the flow again.")
    failed = (JobLost, error, None)
    record = logging.LogRecord("prefect", logging.ERROR, "", 0, f"failed: {error!r}", (), failed)
    assert _brief(record)
    assert record.exc_info is record.exc_text is None


@pytest.mark.parametrize(("variable", "is_coloured"), [("FORCE_COLOR", True), ("NO_COLOR", False)])
def test_what_check_finds_is_coloured_on_a_terminal_only(
    variable: str,
    is_coloured: bool,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv(variable, "1")
    _print_result(Check("python", value="[3.11]"))
    _print_result(Check("host", problem="It is down.", remedy="Wait."))
    shown = capsys.readouterr().out
    assert ("\x1b[32mok  \x1b[0m" in shown) is is_coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", shown)
    assert plain.splitlines() == [
        "ok    python          [3.11]",
        "FAIL  host            It is down.",
        " " * 22 + "Wait.",
    ]
