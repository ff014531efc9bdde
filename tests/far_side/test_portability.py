"""The far side runs on Python 3.6 with nothing but its standard library."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import clustrix_prefect.far_side
from clustrix_prefect.far_side.agent import agent

SOURCES = sorted(Path(clustrix_prefect.far_side.__file__).parent.rglob("*.py"))
# The launcher imports the package under the name that it has far away; an installed
# cloudpickle is not required, one is sent along.
SENT_ALONG = {"clustrix_far_side", "cloudpickle"}
# Modules of the standard library that this Python does not know yet.
NEWER = {"_sha2", "_sha256"}

# With something in their place where they are missing.
STOOD_IN_FOR = ("dataclasses", "typing.Concatenate", "typing.ParamSpec", "typing.TypedDict")

COMPILE = """
import sys
for path in sys.argv[1:]:
    with open(path, encoding="utf-8") as file:
        compile(file.read(), path, "exec", dont_inherit=True)
print(sys.version_info[:2])
"""


def test_every_file_compiles_and_imports_under_the_oldest_python(pythons):
    if "3.6" not in pythons:
        pytest.skip("no Python 3.6 on this machine")
    paths = [str(path) for path in SOURCES]
    done = subprocess.run([pythons["3.6"], "-c", COMPILE, *paths], capture_output=True, text=True)
    assert done.stdout == "(3, 6)\n", done.stderr


def test_nothing_newer_than_3_6_is_used():
    pytest.importorskip("vermin")
    paths = [str(path) for path in SOURCES]
    run_vermin = "import vermin; vermin.main()"
    command = [sys.executable, "-c", run_vermin, "-t=3.6-", "--no-tips", "--violations"]
    for name in STOOD_IN_FOR:
        command += ["--exclude", name]
    done = subprocess.run([*command, "--eval-annotations", *paths], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("path", SOURCES, ids=lambda path: f"{path.parent.name}-{path.stem}")
def test_only_the_standard_library_is_imported(path):
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.level == 0:
            names = [str(node.module)]
        else:
            continue
        for name in names:
            top = name.partition(".")[0]
            known = sys.stdlib_module_names | SENT_ALONG | NEWER
            assert top in known, f"{path.name} imports {name}"


@pytest.mark.parametrize("error", [KeyError, OSError])
def test_a_user_without_a_name_is_called_by_its_id(
    monkeypatch: pytest.MonkeyPatch, error: type[Exception]
) -> None:
    """Python says so by a KeyError, from 3.13 on by an OSError."""

    def getuser() -> str:
        raise error("No username set in the environment")

    monkeypatch.setattr(agent.getpass, "getuser", getuser)  # type: ignore[attr-defined]
    assert agent._user() == str(os.getuid())
