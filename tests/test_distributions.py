"""The wheel and the source archive, built and used as a user does."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from pathlib import Path

import httpx
import pytest
import yaml

from clustrix_prefect.block_types import BLOCK_TYPES
from tests.live.prefect_server import PrefectServer

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

ROOT = Path(__file__).parents[1]
NEEDED = ("clustrix_prefect", "flows", "blocks", "deployments", "docs", "tests", ".github")
VERSION = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
FLOW = """\
from prefect import flow, task
from clustrix_prefect import ClusterTaskRunner, LocalCluster

@task
def double(number):
    return 2 * number

@flow(task_runner=ClusterTaskRunner(LocalCluster(max_parallel_calls=1, remote_work_dir={work!r})))
def doubled():
    return double.submit(21).result()

if __name__ == "__main__":
    print(doubled())
"""


def _built(source: Path, into: Path) -> tuple[Path, Path]:
    """The wheel and the source archive of a directory."""
    build = [sys.executable, "-m", "hatchling", "build", "-d", str(into)]
    subprocess.run(build, cwd=source, check=True, capture_output=True)
    (wheel,), (archive,) = into.glob("*.whl"), into.glob("*.tar.gz")
    return wheel, archive


@pytest.fixture(scope="module")
def distributions(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The wheel and the source archive of this checkout."""
    return _built(ROOT, tmp_path_factory.mktemp("dist"))


def test_the_archive_has_what_the_documentation_names(distributions: tuple[Path, Path]) -> None:
    with tarfile.open(distributions[1]) as opened:
        packed = {name.partition("/")[2] for name in opened.getnames()}
    files = [
        str(path.relative_to(ROOT))
        for folder in NEEDED
        for path in (ROOT / folder).rglob("*")
        if path.is_file() and "__pycache__" not in path.parts
    ]
    single = ["prefect.yaml", "pyproject.toml", "Makefile", ".zensical.toml", "CITATION.cff"]
    single += ["README.md", "CHANGELOG.md", "LICENSE"]
    assert set(files + single) - packed == set()


def test_the_archive_makes_the_same_wheel(distributions: tuple[Path, Path], tmp_path: Path) -> None:
    wheel, archive = distributions
    with tarfile.open(archive) as opened:
        opened.extractall(tmp_path, filter="data")
    (source,) = tmp_path.iterdir()
    again, _ = _built(source, tmp_path / "dist")
    assert _digests(again) == _digests(wheel)


def _digests(wheel: Path) -> dict[str, int]:
    with zipfile.ZipFile(wheel) as opened:
        return {one.filename: one.CRC for one in opened.infolist()}


def test_the_version_is_the_same_everywhere(distributions: tuple[Path, Path]) -> None:
    citation = yaml.safe_load((ROOT / "CITATION.cff").read_text())
    newest = (ROOT / "CHANGELOG.md").read_text().split("\n## [")[2].partition("]")[0]
    assert [citation["version"], newest] == [VERSION, VERSION]
    assert all(f"-{VERSION}" in path.name for path in distributions)


def test_the_wheel_installed_elsewhere(
    distributions: tuple[Path, Path], prefect_server: PrefectServer, tmp_path: Path
) -> None:
    """Its dependencies are those of this environment; the package itself is the wheel's alone."""
    subprocess.run([sys.executable, "-m", "venv", str(tmp_path / "venv")], check=True)
    (packages,) = (tmp_path / "venv").glob("lib/python*/site-packages")
    (packages / "dependencies.pth").write_text(sysconfig.get_paths()["purelib"] + "\n")
    environment = {
        **{name: value for name, value in os.environ.items() if name != "PYTHONPATH"},
        "PREFECT_API_URL": prefect_server.api_url,
        "PREFECT_HOME": str(tmp_path / "home"),
    }

    def run(program: str, *arguments: str) -> str:
        command = [str(tmp_path / "venv/bin" / program), *arguments]
        done = subprocess.run(
            command, cwd=tmp_path, env=environment, capture_output=True, text=True, timeout=300
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    run("pip", "install", "--no-index", "--ignore-installed", "--no-deps", str(distributions[0]))
    run("pip", "check")
    assert run("clustrix-prefect", "--version").strip() == VERSION
    where = run("python", "-c", "import clustrix_prefect; print(clustrix_prefect.__file__)")
    assert Path(where.strip()).is_relative_to(packages)

    run("python", "-m", "prefect", "block", "register", "-m", "clustrix_prefect")
    answer = httpx.post(f"{prefect_server.api_url}/block_types/filter", json={"limit": 200})
    registered = {one["slug"] for one in answer.json()}
    assert {kind.get_block_type_slug() for kind in BLOCK_TYPES} <= registered

    (tmp_path / "doubled.py").write_text(FLOW.format(work=str(tmp_path / "work")))
    assert run("python", "doubled.py") == "42\n"
