"""Install the system packages that the services need: `python tests/live/packages.py`.

Uses only the standard library, since it runs before there is a virtual environment.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PACKAGES = {
    "slurmctld": "slurmctld",
    "slurmd": "slurmd",
    "sbatch": "slurm-client",
    "munged": "munge",
    "sge_qmaster": "gridengine-master",
    "sge_execd": "gridengine-exec",
    "qconf": "gridengine-client",
    "sshd": "openssh-server",
    "ssh": "openssh-client",
    "tcsh": "tcsh",
    "zsh": "zsh",
    "ksh": "ksh",
    "fish": "fish",
    "setpriv": "util-linux",
    "chromium": "chromium",
    "debootstrap": "debootstrap",
    "ip": "iproute2",
    # Without it the marks on pages are empty boxes.
    "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf": "fonts-noto-color-emoji",
}

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
# Debian asks this script whether a package may start its service; 101 means no.
_POLICY = Path("/usr/sbin/policy-rc.d")


def missing_packages() -> list[str]:
    """The Debian packages whose programs, or files, are not here."""
    return [pkg for thing, pkg in PACKAGES.items() if not _is_here(thing)]


def _is_here(thing: str) -> bool:
    return Path(thing).exists() if "/" in thing else bool(shutil.which(thing, path=_PATH))


def install(packages: list[str]) -> int:
    """Install packages without starting their services.

    Returns:
        apt-get's exit status.
    """
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "install", "-qq", "-y", "--no-install-recommends", *packages]
    quiet_policy = not _POLICY.exists()
    if quiet_policy:
        _POLICY.write_text("#!/bin/sh\nexit 101\n")
        _POLICY.chmod(0o755)
    try:
        done = subprocess.run(command, env=environment, capture_output=True, text=True)
        if done.returncode:  # most often the package lists are missing or old
            subprocess.run(["apt-get", "update", "-qq"], env=environment)
            done = subprocess.run(command, env=environment, capture_output=True, text=True)
    finally:
        if quiet_policy:
            _POLICY.unlink()
    if done.returncode:
        print(done.stdout + done.stderr, file=sys.stderr)
    return done.returncode


def main() -> int:
    """Install what is missing, or say what could not be installed and what follows."""
    missing = missing_packages()
    if not missing:
        return 0
    if not shutil.which("apt-get") or os.geteuid() != 0:
        print(f"Not installed: {', '.join(missing)}. The tests that need them will be skipped.")
        return 0
    print(f"Installing {', '.join(missing)}", flush=True)
    return install(missing)


if __name__ == "__main__":
    sys.exit(main())
