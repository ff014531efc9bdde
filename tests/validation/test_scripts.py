"""The flows, run as the guides say: `python flows/validate_filesystem.py CLUSTER`."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

FLOWS = Path(__file__).parents[2] / "flows"


def run(script: str, *arguments: str, directory: Path) -> subprocess.CompletedProcess[str]:
    """From elsewhere than the checkout, as a person may."""
    return subprocess.run(
        [sys.executable, str(FLOWS / script), *arguments],
        cwd=directory,
        capture_output=True,
        text=True,
        timeout=170,
    )


@pytest.mark.parametrize(
    ("script", "options", "told"),
    [
        ("validate_cluster_access.py", (), "Passed: "),
        ("validate_filesystem.py", (), "Passed: "),
        pytest.param("validate_packaging.py", (), "Passed: ", marks=pytest.mark.every),
        pytest.param(
            "benchmark_transfer.py",
            ("--size", "1KiB"),
            "Passed: 1 check on 1 cluster.",
            marks=pytest.mark.every,
        ),
        (
            "validate_all.py",
            ("--only", "filesystem", "--only", "cluster access"),
            "Passed: all 2 validations.",
        ),
    ],
)
def test_as_a_script(
    script: str, options: tuple[str, ...], told: str, here: str, tmp_path: Path
) -> None:
    done = run(script, here, *options, directory=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.startswith(told)


def test_a_script_that_finds_something_wrong(here: str, tmp_path: Path) -> None:
    file = tmp_path / "expectations.yaml"
    file.write_text(f"- path: {tmp_path}/missing\n")
    done = run("validate_filesystem.py", here, "--expectations", str(file), directory=tmp_path)
    assert done.returncode == 1
    assert done.stdout.startswith("Failed: 1 of ")
    assert f"{here}, {tmp_path}/missing: There is nothing." in done.stdout
