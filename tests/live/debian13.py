"""Try the README's first commands in a fresh Debian 13: `python -m tests.live.debian13`.

A root of its own is made from the machine's Debian mirror, once, in the user's cache directory. In
a copy of it a clone of this checkout (of what is committed) runs `make demo` and `make test-fast`,
as a stranger would: with Debian's own Python, and nothing installed but what is named here.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from tests.live.kubernetes import build

ROOT = Path(__file__).parents[2]
RELEASE = "trixie"
_PACKAGES = [
    "python3",
    "python3-venv",
    "make",
    "git",
    "ca-certificates",
    "openssh-client",
    "procps",
    "tzdata",
]
_FILE_SYSTEMS = (("proc", "proc"), ("sysfs", "sys"))
_COMMANDS = ("make demo", "make test-fast")
# What a machine needs to reach its package index, wherever that is.
_SHARED = ("/etc/resolv.conf", "/etc/hosts", "/etc/ssl", "/etc/pip.conf", "/etc/xdg/pip")


def make_root(directory: Path, packages: Sequence[str]) -> None:
    """Make a minimal Debian 13 with these packages; it appears at once or not at all.

    Raises:
        subprocess.CalledProcessError: A command failed; its output went to standard error.
    """
    made = directory.with_name(f"{directory.name}.new")
    shutil.rmtree(made, ignore_errors=True)
    keyring = "/usr/share/keyrings/debian-archive-keyring.gpg"
    source = f"deb [signed-by={keyring}] {build.mirror()} {RELEASE} main"
    options = ["--quiet", "--variant=minbase", "--skip=check/signed-by"]
    included = f"--include={','.join(packages)}"
    build.run(["mmdebstrap", *options, included, RELEASE, str(made), source])
    made.chmod(0o755)
    made.rename(directory)


def try_out(root: Path) -> int:
    """Run the commands in a clone of this checkout; returns the first exit status that is not 0."""
    clone = root / "root" / "clustrix-prefect"
    shutil.rmtree(clone, ignore_errors=True)
    subprocess.run(["git", "clone", "--quiet", str(ROOT), str(clone)], check=True)
    for command in _COMMANDS:
        print(f"--- Debian 13: {command}", flush=True)
        began = time.monotonic()
        inside = f"cd /root/{clone.name}; {command}"
        script = f"{_mounts(root)} exec chroot {root} sh -c {shlex.quote(inside)}"
        namespaces = ["--mount", "--propagation=private", "--pid", "--fork", "--kill-child"]
        done = subprocess.run(
            ["unshare", *namespaces, "sh", "-ec", script],
            env=_environment(),
            stdin=subprocess.DEVNULL,
        )
        print(f"--- Debian 13: {command}: {time.monotonic() - began:.0f} s", flush=True)
        if done.returncode:
            return done.returncode
    return 0


def _mounts(root: Path) -> str:
    lines = [f"mount -t {kind} {kind} {root}/{where};" for kind, where in _FILE_SYSTEMS]
    lines.append(f"mount --rbind /dev {root}/dev;")
    for path in (Path(name) for name in (*_SHARED, "/root/.config/pip", *_local_indexes())):
        if path.exists():
            inside = Path(f"{root}{path}")
            inside.parent.mkdir(parents=True, exist_ok=True)
            inside.mkdir(exist_ok=True) if path.is_dir() else inside.touch()
            lines.append(f"mount --bind {shlex.quote(str(path))} {shlex.quote(str(inside))};")
    return " ".join(lines)


def _local_indexes() -> set[str]:
    """Return the directories of this machine that pip is told to look into."""
    command = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(command, capture_output=True, text=True).stdout
    found = set(re.findall(r"(?<![\w/])(?:file://)?(/[\w./-]+)", listed))
    # The pages of an index, called simple by everybody, lead to files beside them.
    return {path.removesuffix("/simple") for path in found}


def _environment() -> dict[str, str]:
    kept = {
        name: value for name, value in os.environ.items() if re.match("PIP_|SSL_|.*_proxy", name)
    }
    return {
        **kept,
        "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
        "HOME": "/root",
    }


def main() -> int:
    """Make the root if there is none, and try the commands out in a copy."""
    if os.geteuid() != 0 or not shutil.which("apt-get"):
        print("A root with Debian 13 needs root, and apt: not tried.")
        return 0
    base = build.CACHE / f"debian-{RELEASE}"
    build.CACHE.mkdir(parents=True, exist_ok=True)
    if not base.exists():
        if not shutil.which("mmdebstrap"):
            build.run(["apt-get", "install", "-qq", "-y", "--no-install-recommends", "mmdebstrap"])
        make_root(base, _PACKAGES)
    with tempfile.TemporaryDirectory(prefix="clustrix-debian13-") as scratch:
        copy = Path(scratch) / "root"
        subprocess.run(["cp", "-a", str(base), str(copy)], check=True)
        return try_out(copy)


if __name__ == "__main__":
    sys.exit(main())
