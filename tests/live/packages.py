"""Install what the services need: `python -m tests.live.packages [TESTS]`.

With the names of tests, only what those need; else what all do.
"""

from __future__ import annotations

import contextlib
import io
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable
from pathlib import Path

from tests.live import slurm_site
from tests.live.daemon import ServiceUnavailable
from tests.live.kubernetes import build

# By what needs them: a service's fixture, or a name that `needs` asks for; with each program, or
# file, that shows that the package is there.
_SLURM = {"slurmctld": "slurmctld", "slurmd": "slurmd", "sbatch": "slurm-client", "munged": "munge"}
_SSH = {"sshd": "openssh-server", "ssh": "openssh-client", "setpriv": "util-linux"}
_PODS = {"debootstrap": "debootstrap", "ip": "iproute2"}
PACKAGES: dict[str, dict[str, str]] = {
    "ssh_host": {**_SSH, "tcsh": "tcsh", "zsh": "zsh", "ksh": "ksh", "fish": "fish"},
    "pam_host": {
        **_SSH,
        "google-authenticator": "libpam-google-authenticator",
        "oathtool": "oathtool",
    },
    "slurm": {**_SSH, **_SLURM},
    "slurm_site": {**_SSH, "mmdebstrap": "mmdebstrap"},
    "gridengine": {
        **_SSH,
        "sge_qmaster": "gridengine-master",
        "sge_execd": "gridengine-exec",
        "qconf": "gridengine-client",
    },
    "openpbs": _SSH,
    "pbs_hosts": _SSH,
    "rooted_host": _SSH,
    "slurm_pbs": {**_SSH, **_SLURM},
    "kubernetes": {**_SSH, **_PODS},
    "kerberos": {
        **_SSH,
        "krb5kdc": "krb5-kdc",
        "kadmin.local": "krb5-admin-server",
        "kinit": "krb5-user",
    },
    "deployed": {
        "chromium": "chromium",
        # Without it the marks on pages are empty boxes.
        "/usr/share/fonts/truetype/noto/NotoColorEmoji.ttf": "fonts-noto-color-emoji",
    },
}

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
# Debian asks this script whether a package may start its service; 101 means no.
_POLICY = Path("/usr/sbin/policy-rc.d")


def missing_packages(services: Iterable[str]) -> list[str]:
    """Return the Debian packages of these services whose programs, or files, are not here."""
    wanted = [PACKAGES.get(service, {}) for service in services]
    things = {thing: package for packages in wanted for thing, package in packages.items()}
    return [package for thing, package in things.items() if not _is_here(thing)]


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


def needed_by(tests: list[str]) -> set[str]:
    """Return the services that these tests need, by collecting them."""
    import pytest

    from tests.live.grouping import services_of

    found: set[str] = set()

    class Collector:
        def pytest_collection_finish(self, session: pytest.Session) -> None:
            for item in session.items:
                found.update(services_of(item))

    with contextlib.redirect_stdout(io.StringIO()):
        pytest.main(["--collect-only", "-q", "-p", "no:cacheprovider", *tests], [Collector()])
    return found


def main(tests: list[str]) -> int:
    """Install what these tests, or all, need; or say what could not be installed."""
    services = needed_by(tests) if tests else PACKAGES.keys()
    missing = missing_packages(services)
    if missing and (not shutil.which("apt-get") or os.geteuid() != 0):
        print(f"Not installed: {', '.join(missing)}. The tests that need them will be skipped.")
    elif missing:
        print(f"Installing {', '.join(missing)}", flush=True)
        if status := install(missing):
            return status
    if {"kubernetes", "own_kubernetes"} & set(services) and (status := build.main()):
        return status
    if "slurm_site" in services and os.geteuid() == 0:
        try:
            slurm_site.base_root()
        except ServiceUnavailable as reason:
            print(f"The second SLURM is not to be had: {reason}", file=sys.stderr)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
