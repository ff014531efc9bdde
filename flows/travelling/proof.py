"""What every case has: a task that is run anew each time, and says where it ran.

Nothing in the cases needs more than Python 3.6 there.
"""

from __future__ import annotations

import functools
import os
import socket
import sys
from typing import Any

from prefect import task
from prefect.cache_policies import NO_CACHE

# Prefect would give back what an earlier run computed.
case = functools.partial(task, cache_policy=NO_CACHE, persist_result=False)

# SLURM's, PBS's and Grid Engine's.
_JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "JOB_ID")


def proof(run: str) -> dict[str, Any]:
    """Where this runs, and for whom."""
    return {
        "run": run,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": next(filter(None, map(os.environ.get, _JOB_VARIABLES)), ""),
        "omp": os.environ.get("OMP_NUM_THREADS", ""),
        "modules": os.environ.get("LOADEDMODULES", ""),
        "python": ".".join(map(str, sys.version_info[:2])),
    }
