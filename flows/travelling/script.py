"""A program: what it defines is in `__main__`."""

import os
import socket
import sys

from prefect import task
from prefect.cache_policies import NO_CACHE

OFFSET = 4


def beside(x):
    return x + OFFSET


@task(name="function of a program", cache_policy=NO_CACHE)
def of_a_program(run, x):
    where = {
        "run": run,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": os.environ.get("SLURM_JOB_ID", ""),
        "omp": os.environ.get("OMP_NUM_THREADS", ""),
        "python": ".".join(map(str, sys.version_info[:2])),
    }
    return where, beside(x)
