"""SLURM's own PBS commands, from the Debian package, over the real SLURM of the tests.

The package conflicts with Grid Engine's commands of the same names, so it is unpacked aside.
"""

from __future__ import annotations

import shutil
import subprocess

from tests.live.daemon import ServiceUnavailable
from tests.live.rundir import RunDirectory

_PACKAGES = (
    "slurm-wlm-torque",
    "libslurm38",
    "libslurm-perl",
    "libslurmdb-perl",
    "libswitch-perl",
)


class SlurmPBS:
    """`qsub`, `qstat` and `qdel` of `slurm-wlm-torque`.

    Attributes:
        programs: The directory with the commands; SLURM's own are linked beside them.
    """

    def __init__(self, run: RunDirectory) -> None:
        self._root = run.child("slurm-pbs")
        self.programs = self._root / "usr" / "bin"

    def start(self) -> None:
        """Fetch the packages and unpack them.

        Raises:
            ServiceUnavailable: There is no package, or nothing to unpack it with.
        """
        if not shutil.which("apt-get") or not shutil.which("dpkg"):
            raise ServiceUnavailable("slurm-wlm-torque is unpacked from its Debian package")
        self._run("apt-get", "download", "-qq", *_PACKAGES)
        for package in self._root.glob("*.deb"):
            self._run("dpkg", "-x", str(package), str(self._root))
        for name in ("sbatch", "squeue", "scancel"):
            found = shutil.which(name)
            if found is None:
                raise ServiceUnavailable(f"not installed: {name}")
            (self.programs / name).symlink_to(found)

    def stop(self) -> None:
        """Nothing runs: the files go with the run's directory."""

    def __str__(self) -> str:
        return f"PBS commands of slurm-wlm-torque in {self.programs}"

    @property
    def login(self) -> str:
        """Lines of a .bashrc that put these commands first."""
        modules = [path.parent for path in self._root.rglob("Slurm.pm")]
        modules += [path.parent for path in self._root.rglob("Switch.pm")]
        libraries = [path.parent for path in self._root.rglob("libslurm.so.*")]
        return (
            f'export PATH="{self.programs}:$PATH"\n'
            f"export PERL5LIB={':'.join(map(str, modules))}\n"
            f"export LD_LIBRARY_PATH={libraries[0]}\n"
        )

    def _run(self, *command: str) -> None:
        done = subprocess.run(command, cwd=self._root, capture_output=True, text=True, timeout=120)
        if done.returncode:
            raise ServiceUnavailable(f"{' '.join(command)}: {done.stderr.strip()}")
