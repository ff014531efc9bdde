"""Runs the packaging tests under other clients: `python -m tests.packaging.clients 3.10 3.13`.

Each gets a virtual environment, made on first use and kept in the user's cache directory.
"""

from __future__ import annotations

import contextlib
import fcntl
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from uv import find_uv_bin

from tests.live.kubernetes.build import CACHE
from tests.live.pythons import MINORS, find_pythons

ROOT = Path(__file__).parents[2]
# What does not depend on the client's Python, or is said by another test, and takes its time.
_LEFT_OUT = [
    f"tests/packaging/test_{name}.py"
    for name in (
        *("clients", "editable", "gridengine", "kubernetes", "matrix", "notebook", "pbs"),
        "signing",
    )
]
# Tests, by their names, of which the same is true.
_BY_OUR_OWN = ("test_threads", "test_cloudpickle", "test_an_ssh_host", "test_a_changed_constant")
CLIENTS = ("3.10", "3.11", "3.12", "3.13")


@contextlib.contextmanager
def sole_use(minor: str) -> Iterator[None]:
    """Keep others from a client's environment, which is that of one clone at a time."""
    CACHE.mkdir(parents=True, exist_ok=True)
    with (CACHE / f"client-{minor}.lock").open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def environment_for(minor: str, python: str) -> Path:
    """The interpreter of a virtual environment with all that the tests need."""
    directory = CACHE / f"client-{minor}"
    program, ready = directory / "bin" / "python", directory / "ready"
    project = (ROOT / "pyproject.toml").read_text()
    wanted = f"{ROOT}\n{project}"
    found = ready.read_text() if ready.exists() else ""
    uv = find_uv_bin()
    install = [uv, "pip", "install", "--quiet", "--python", str(program)]
    if found.partition("\n")[2] != project:
        ready.unlink(missing_ok=True)
        make = [uv, "venv", "--quiet", "--clear", "--python", python, str(directory)]
        subprocess.run(make, check=True)
        subprocess.run([*install, "--group", "test", "--editable", "."], check=True, cwd=ROOT)
    elif found != wanted:  # made for another clone
        ready.unlink()
        again = [*install, "--no-deps", "--no-build-isolation", "--editable", "."]
        subprocess.run(again, check=True, cwd=ROOT)
    ready.write_text(wanted)
    return program


def main(minors: list[str]) -> int:
    """Run the tests under these clients; how many of them failed."""
    pythons, failed = find_pythons(), []
    for minor in minors or CLIENTS:
        if minor not in pythons:
            print(f"no Python {minor} on this machine")
            continue
        with sole_use(minor):
            if _run(minor, environment_for(minor, pythons[minor])):
                failed.append(minor)
    print(f"failed under {', '.join(failed)}" if failed else "all clients passed")
    return len(failed)


def _run(minor: str, program: Path) -> int:
    print(f"--- client Python {minor}", flush=True)
    options = ["-q", "-p", "no:cacheprovider", "--durations=25"]
    options += [f"--ignore={path}" for path in _LEFT_OUT]
    # Each far Python was met by another client already: the oldest will do, and its own.
    others = (each for each in MINORS if each not in (minor, "3.6"))
    options += ["-k", f"not ({' or '.join((*others, *_BY_OUR_OWN))})"]
    return subprocess.run(
        [str(program), "-m", "pytest", *options, "tests/packaging"], cwd=ROOT
    ).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
