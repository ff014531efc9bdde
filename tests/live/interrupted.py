"""What a test run is like that gets interrupted: it has services, and waits for ever.

Named apart from tests, so that only `test_interrupting` runs it.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from tests.live.rundir import RunDirectory
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost


def test_that_hangs(run_directory: RunDirectory, ssh_host: SSHHost, slurm: Slurm) -> None:
    """Tell where it is, with a job, a mount and a login that run."""
    with ssh_host.small_disk(2**20):
        ssh_host.run("sbatch --output=/dev/null --wrap='sleep 600'; setsid sleep 600 >&- 2>&- &")
        told = Path(os.environ["TELL"])
        facts = {"pid": os.getpid(), "path": str(run_directory.path), "account": ssh_host.username}
        told.with_suffix(".new").write_text(json.dumps(facts))
        told.with_suffix(".new").rename(told)
        time.sleep(600)
