"""The scripts of the README and the documentation, run as their readers run them."""

from __future__ import annotations

import ast
import json
import os
import re
import subprocess
import sys
from dataclasses import replace
from functools import partial
from itertools import pairwise
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, ROOT, Code, code_of, pages
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost

# In place of any cluster that a script names.
_HERE = """\
from clustrix_prefect import LocalCluster
from clustrix_prefect.clusters import loading

loading._load = lambda name: LocalCluster(max_parallel_calls=2, remote_work_dir={work_dir!r})
"""
# One process for all of them: Prefect takes longer to import than a script takes.
_RUN_ALL = """\
import contextlib, io, json, runpy, sys, traceback

found = {}
for script in sys.argv[1:]:
    told, failed = io.StringIO(), ""
    try:
        with contextlib.redirect_stdout(told):
            runpy.run_path(script, run_name="__main__")
    except BaseException:
        failed = traceback.format_exc()
    found[script] = [told.getvalue(), failed]
print(json.dumps(found))
"""
# Pages that define flows and leave it to their readers to start them: what starts them, and the
# files that they are about.
_STARTED = {
    "docs/guides/files.md": "study()\nassert totals([[1, 2], [3]]) == [3, 3]",
    "docs/guides/resources.md": "assert study(['a', 'b']) == [None, None]",
}
_FILES = {"data/a.csv": "a\n", "weights.pt": "weights\n", "x.h5": "x\n"}
_MAIN = 'if __name__ == "__main__":'


def _scripts() -> list[tuple[Code, str | None]]:
    """Each script, and what the page says that it prints."""
    found = []
    for page in pages():
        for code, behind in pairwise([*code_of(page), None]):
            if code is not None and _MAIN in code.text:
                told = behind.text if behind is not None and behind.language == "text" else None
                found.append((code, told))
    for name, start in _STARTED.items():
        first, *others = (one for one in code_of(ROOT / name) if one.language == "python")
        text = "\n".join([first.text, *(one.text for one in others), start])
        found.append((replace(first, text=text), None))
    return found


def _run(directory: Path, server: PrefectServer, *command: str) -> str:
    """Run a command in this directory, with the tests' Prefect server; returns what it printed."""
    environment = {**os.environ, "PREFECT_API_URL": server.api_url}
    environment["PATH"] = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    done = subprocess.run(
        command, cwd=directory, env=environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.fixture(scope="module")
def printed(
    prefect_server: PrefectServer, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, tuple[str, str]]:
    """What each script printed, and how it failed if it did."""
    directory = tmp_path_factory.mktemp("scripts")
    preface = _HERE.format(work_dir=str(directory / "work"))
    files = {str(code): f"{number}.py" for number, (code, _) in enumerate(_scripts())}
    for code, _ in _scripts():
        text = code.text.replace("/scratch/x.h5", str(directory / "x.h5"))
        (directory / files[str(code)]).write_text(preface + text)
    for name, text in _FILES.items():
        (directory / name).parent.mkdir(exist_ok=True)
        (directory / name).write_text(text)
    told = _run(directory, prefect_server, "python", "-c", _RUN_ALL, *files.values())
    found = json.loads(told.splitlines()[-1])
    return {name: tuple(found[file]) for name, file in files.items()}


@pytest.mark.parametrize(("code", "told"), _scripts(), ids=str)
def test_a_script_runs(code: Code, told: str | None, printed: dict[str, tuple[str, str]]) -> None:
    output, failed = printed[str(code)]
    assert not failed, failed
    assert told is None or output == told


def test_the_quickstart_word_by_word(
    prefect_server: PrefectServer,
    slurm: Slurm,
    ssh_host: SSHHost,
    far_pythons: FarPythons,
    remote_work_dir: Path,
    tmp_path: Path,
) -> None:
    """From the block to the results, on a real SLURM; only what names the site is another."""
    page = DOCS / "quickstart.md"
    describe, sweep = (code.text for code in code_of(page) if code.language == "python")
    for theirs, ours in {
        r'host="ndoli.example.edu"': f"host={ssh_host.host!r}, port={ssh_host.port}",
        r'username="ana"': f"username={ssh_host.username!r}",
        r'key_file="~/.ssh/id_ed25519"': f"key_file={str(ssh_host.key_file)!r}",
        r'partition="standard"': f"known_hosts={str(ssh_host.known_hosts)!r}",
        r'account="lab42"': f"remote_work_dir={str(remote_work_dir)!r}",
        r'modules=\["python/3.11"\]': f"python={_own(far_pythons)!r}",
        r'"memory": "2GB"': '"memory": "256MB"',
    }.items():
        describe, count = re.subn(theirs, lambda _, ours=ours: ours, describe)  # type: ignore[misc]
        assert count == 1, theirs
    (tmp_path / "describe.py").write_text(describe)
    (tmp_path / "sweep.py").write_text(sweep.replace('memory="1GB"', 'memory="256MB"'))
    run = partial(_run, tmp_path, prefect_server)
    run("python", "describe.py")
    checked = run("clustrix-prefect", "check", "slurm-cluster/ndoli")
    assert checked.endswith("No problems.\n"), checked
    results = ast.literal_eval(run("python", "sweep.py").splitlines()[-1])
    assert len(results) == 20
    assert all(isinstance(result, float) for result in results)


def _own(pythons: FarPythons) -> str:
    return str(pythons[".".join(map(str, sys.version_info[:2]))])


def test_every_page_with_a_flow_to_start_is_here() -> None:
    named = {code.page for code, _ in _scripts()}
    assert {"README.md", "docs/quickstart.md", "docs/migrate/clustrix.md"} <= named
    assert all((ROOT / name).exists() for name in named)
