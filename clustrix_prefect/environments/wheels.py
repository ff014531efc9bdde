"""Collects wheels for another machine and another Python, with this machine's pip.

`uv pip compile` would resolve for another Python without a patch. But it reads none of pip's
settings (a site's index, links, certificates), knows of glibc 2.17, 2.28 and 2.31 to 2.40 alone,
and downloads nothing: pip would get what it chose, perhaps of another index.
"""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from clustrix_prefect.clusters.requirements import Requirements
from clustrix_prefect.errors import EnvironmentNotBuilt

_SHOWN = 3000
# The glibc versions that the old names of wheel platforms stand for (PEP 600).
_OLD_NAMES = {17: "manylinux2014", 12: "manylinux2010", 5: "manylinux1"}
_ADDED = ("pip",)
# pip has options for all that a wheel's name says of the target, but what the markers of
# requirements ask ("; python_version < '3.9'") it answers for the interpreter that it runs on.
_PIP_FOR_TARGET = """
import json, runpy, sys
from pip._vendor.packaging import markers
there = json.loads(sys.argv.pop(1))
markers.default_environment = lambda: dict(there)
if not markers.Marker('platform_release == ""').evaluate():  # no machine's own is empty
    sys.exit("this pip answers markers for its own interpreter alone; install another version")
runpy.run_module("pip", run_name="__main__", alter_sys=True)
"""


@dataclass(frozen=True)
class Target:
    """The interpreter that wheels are for.

    Attributes:
        version: Its version, as (major, minor, ...).
        platform: What its `sysconfig.get_platform()` says: "linux-x86_64".
        libc: Name and version of its C library; empty texts if that is not glibc.
    """

    version: tuple[int, ...]
    platform: str
    libc: tuple[str, str]

    @property
    def tags(self) -> list[str]:
        """The platforms whose wheels it takes, the newest first."""
        system, _, machine = self.platform.partition("-")
        if system != "linux":
            return [self.platform.replace("-", "_").replace(".", "_")]
        return [*_manylinux(self.libc, machine), f"linux_{machine}"]

    @property
    def markers(self) -> dict[str, str]:
        """What the markers of requirements ask about (PEP 508)."""
        system, _, rest = self.platform.partition("-")
        is_linux = system == "linux"
        # If only the minor version is known, its first: what patches made needless is brought
        # along then, and left out where the wheels are installed.
        full = ".".join(map(str, (*self.version, 0)[:3]))
        return {
            "implementation_name": "cpython",
            "implementation_version": full,
            "os_name": "posix",
            "platform_machine": rest.rpartition("-")[2],
            "platform_python_implementation": "CPython",
            "platform_release": "",
            "platform_system": "Linux" if is_linux else "Darwin",
            "platform_version": "",
            "python_full_version": full,
            "python_version": ".".join(map(str, self.version[:2])),
            "sys_platform": "linux" if is_linux else "darwin",
        }

    def __str__(self) -> str:
        libc = " ".join(self.libc).strip()
        return f"Python {'.'.join(map(str, self.version[:2]))} on {self.platform}" + (
            f" with {libc}" if libc else ""
        )


def _manylinux(libc: tuple[str, str], machine: str) -> Iterator[str]:
    name, version = libc
    if name != "glibc":
        # musl does not tell its version; wheels for 1.1 and 1.2 are what there is.
        yield from (f"musllinux_1_{minor}_{machine}" for minor in (2, 1))
        return
    for minor in range(int(version.split(".")[1]), 4, -1):
        yield f"manylinux_2_{minor}_{machine}"
        if minor in _OLD_NAMES:
            yield f"{_OLD_NAMES[minor]}_{machine}"


def collect(requirements: Requirements, target: Target, directory: Path) -> list[Path]:
    """Download the wheels of these requirements, and of what they need in turn.

    Args:
        requirements: What is wanted.
        target: What it is to run on.
        directory: Where to put the wheels.

    Raises:
        EnvironmentNotBuilt: pip is missing here, or a package has no wheel for the target.
    """
    lines, constraints = directory / "requirements.txt", directory / "constraints.txt"
    # Its own pip, too: one that came with an old Python does not know the wheels of today.
    lines.write_text("\n".join([*requirements.lines, *_ADDED]) + "\n")
    constraints.write_text("\n".join(requirements.constraints) + "\n")
    short = "".join(map(str, target.version[:2]))
    options = [
        *("--only-binary=:all:", "--dest", str(directory), "--no-input", "--progress-bar=off"),
        *("--python-version", ".".join(map(str, target.version)), "--implementation", "cp"),
        *(f"--abi={abi}" for abi in (f"cp{short}", f"cp{short}m", "abi3", "none")),
        *(f"--platform={tag}" for tag in target.tags),
        *("-r", str(lines), "-c", str(constraints)),
    ]
    done = _pip(target, "download", "--disable-pip-version-check", *options)
    if done.returncode:
        raise EnvironmentNotBuilt(
            f"The wheels for {target} could not be collected: {done.stderr.strip()[-_SHOWN:]}",
            "Every package needs a wheel for that platform: choose other versions, or another"
            " Python; `pip` must be installed where the flow runs.",
        )
    return sorted(directory.glob("*.whl"))


def _pip(target: Target, *arguments: str) -> subprocess.CompletedProcess[str]:
    program = [sys.executable, "-c", _PIP_FOR_TARGET, json.dumps(target.markers)]
    return subprocess.run([*program, *arguments], capture_output=True, text=True, check=False)


def names(wheels: Sequence[Path]) -> list[str]:
    """Return the names of the packages, for people."""
    return sorted(wheel.name.partition("-")[0] for wheel in wheels)
