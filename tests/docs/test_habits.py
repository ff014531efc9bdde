"""What serves those who take part: hooks, workflows and templates name what there is."""

from __future__ import annotations

import re
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.docs.pages import ROOT

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
MAKEFILE = (ROOT / "Makefile").read_text()


def _read(name: str) -> Any:
    return yaml.safe_load((ROOT / name).read_text())


def test_hooks_are_what_lint_runs() -> None:
    lint = MAKEFILE.partition("\nlint:")[2].partition("\ndocs:")[0]
    (repository,) = _read(".pre-commit-config.yaml")["repos"]
    for hook in repository["hooks"]:
        program, *rest = hook["entry"].removeprefix(".venv/bin/").split()
        subcommand = [word for word in rest if not word.startswith("-")]
        assert " ".join(["$(BIN)/" + program, *subcommand]) in lint, hook["id"]


def test_the_workflow_runs_what_there_is_on_what_is_supported() -> None:
    jobs = _read(".github/workflows/tests.yml")["jobs"]
    commands = [step.get("run", "") for job in jobs.values() for step in job["steps"]]
    assert "make ${{ matrix.tests }}" in commands
    services = {kind["tests"] for kind in jobs["services"]["strategy"]["matrix"]["include"]}
    targets = services.union(re.findall(r"\bmake (test[\w-]*)", " ".join(commands)))
    assert targets == {"test", "coverage", "test-fast"}
    assert all(f"\n{target}:" in MAKEFILE for target in targets)
    classifiers = " ".join(PYPROJECT["project"]["classifiers"])
    supported = re.findall(r"Python :: (3\.\d+)", classifiers)
    assert jobs["flows"]["strategy"]["matrix"]["python"] == supported


def test_the_site_is_published_as_lint_checks_it() -> None:
    commands = _read(".readthedocs.yaml")["build"]["commands"]
    (build,) = (line for line in commands if line.startswith("zensical"))
    assert build.partition(" ")[2] in MAKEFILE
    site = tomllib.loads((ROOT / ".zensical.toml").read_text())["project"]["site_dir"]
    assert any(line.startswith(f"cp -r {site} ") for line in commands)


@pytest.mark.parametrize("form", sorted(ROOT.glob(".github/ISSUE_TEMPLATE/[fw]*.yml")), ids=str)
def test_a_form_has_fields(form: Path) -> None:
    read = yaml.safe_load(form.read_text())
    assert {"name", "description", "body"} <= read.keys()
    assert all(field["attributes"]["label"] for field in read["body"])
