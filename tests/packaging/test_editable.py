"""Modules of packages that are installed in place, as each build backend does that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

BACKENDS = {
    # A finder for the import system, which knows where each package is.
    "setuptools": ("setuptools>=64", "setuptools.build_meta"),
    # A `.pth` file with the directory.
    "hatchling": ("hatchling", "hatchling.build"),
}

PROGRAM = """
import sys
from pathlib import Path
from tests.packaging.elsewhere import Elsewhere
from inplace.flows import work

far = Elsewhere(sys.argv[1], Path(sys.argv[2]))
print(far.call(work, 4))
far.close()
"""


@pytest.mark.service  # an environment of its own, in which it is installed
@pytest.mark.parametrize("backend", BACKENDS)
def test_a_src_layout_installed_in_place(
    backend: str, pythons: dict[str, str], tmp_path: Path
) -> None:
    if "3.8" not in pythons:
        pytest.skip("no Python 3.8 on this machine")
    requirement, name = BACKENDS[backend]
    project, site = tmp_path / "project", tmp_path / "site"
    package = project / "src" / "inplace"
    package.mkdir(parents=True)
    (project / "pyproject.toml").write_text(
        f'[build-system]\nrequires = ["{requirement}"]\nbuild-backend = "{name}"\n'
        '[project]\nname = "inplace"\nversion = "1"\n'
        # Otherwise setuptools, too, writes nothing but a path for this layout.
        '[tool.setuptools.package-dir]\ninplace = "src/inplace"\n'
    )
    (package / "__init__.py").write_text("")
    (package / "scale.py").write_text("FACTOR = 3\n")
    (package / "flows.py").write_text(
        "def work(x):\n    from inplace import scale\n    return x * scale.FACTOR, __name__\n"
    )
    install = [sys.executable, "-m", "pip", "install", "--quiet", "--no-build-isolation"]
    subprocess.run([*install, "--no-deps", "--target", site, "--editable", project], check=True)
    # As in a site-packages directory: its `.pth` files count, and what is in it is installed.
    program = f"import site; site.addsitedir({str(site)!r})\n{PROGRAM}"
    done = subprocess.run(
        [sys.executable, "-c", program, pythons["3.8"], str(tmp_path)],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
    )
    assert done.stdout == "(12, 'inplace.flows')\n", done.stderr
