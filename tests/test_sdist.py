"""The source archive: what a checkout has and a user needs is in it."""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

ROOT = Path(__file__).parents[1]
NEEDED = ("clustrix_prefect", "flows", "blocks", "deployments", "docs", "tests")


def test_everything_that_the_readme_names_is_in_it(tmp_path: Path) -> None:
    build = [sys.executable, "-m", "hatchling", "build", "-t", "sdist", "-d", str(tmp_path)]
    subprocess.run(build, cwd=ROOT, check=True, capture_output=True)
    (archive,) = tmp_path.glob("*.tar.gz")
    with tarfile.open(archive) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames()}
    files = [
        str(path.relative_to(ROOT))
        for folder in NEEDED
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    single = [
        "prefect.yaml",
        "pyproject.toml",
        "Makefile",
        ".zensical.toml",
        "README.md",
        "CHANGELOG.md",
        "LICENSE",
    ]
    assert set(files + single) - packed == set()
