"""What SLURM itself takes, and what submitit takes, for the same work."""

from __future__ import annotations

import logging
import os
import subprocess
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

_LOOK_SECONDS = 0.001


class BareSlurm:
    """`sbatch` of a script that starts Python and touches a file.

    Args:
        python: The interpreter.
        directory: For scripts and files, writable for the jobs.
        memory: What each job asks for, as the calls that it is compared with.
    """

    def __init__(self, python: str, directory: Path, memory: str = "256M") -> None:
        self._python = python
        self._directory = directory
        self._memory = memory

    def one(self) -> None:
        """One job, until its file is seen."""
        self._run(1)

    def array(self, elements: int) -> None:
        """One array, until the files of all elements are seen."""
        self._run(elements, f"--array=0-{elements - 1}")

    def _run(self, jobs: int, *options: str) -> None:
        here = Path(tempfile.mkdtemp(dir=self._directory))
        seen = here / "seen"
        seen.mkdir()
        program = f"import os; open('{seen}/' + os.environ.get('SLURM_ARRAY_TASK_ID', '0'), 'w')"
        script = here / "script.sh"
        script.write_text(f'#!/bin/sh\nexec {self._python} -c "{program}"\n')
        logs = f"--output={here}/%a.out"
        command = ["sbatch", "--parsable", logs, f"--mem={self._memory}", *options, str(script)]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
        while len(os.listdir(seen)) < jobs:
            time.sleep(_LOOK_SECONDS)


def identity(number: int) -> int:
    """What submitit is given to do."""
    return number


class Submitit:
    """submitit, with the interpreter that runs this."""

    def __init__(self, directory: Path) -> None:
        import submitit

        logging.getLogger("submitit").setLevel(logging.ERROR)
        self._executor: Any = submitit.AutoExecutor(directory / "submitit", cluster="slurm")
        self._executor.update_parameters(timeout_min=5, mem_gb=0.25, cpus_per_task=1)

    def one(self) -> None:
        """One job, until its result is there."""
        assert self._executor.submit(identity, 1).result() == 1

    def array(self, elements: int) -> None:
        """One array, until all results are there."""
        self._executor.update_parameters(slurm_array_parallelism=elements)
        jobs: Sequence[Any] = self._executor.map_array(identity, range(elements))
        assert [job.result() for job in jobs] == list(range(elements))


def scontrol(environment: dict[str, str], *arguments: str) -> None:
    """Change something about the cluster, as its administrator."""
    subprocess.run(
        ["scontrol", *arguments],
        env={**os.environ, **environment},
        check=True,
        stdout=subprocess.DEVNULL,
    )
