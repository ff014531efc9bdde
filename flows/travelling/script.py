"""A program: what it defines is in `__main__`."""

import os
import socket
import sys

from prefect import task
from prefect.cache_policies import NO_CACHE

OFFSET = 4
JOB_VARIABLES = ("SLURM_JOB_ID", "PBS_JOBID", "JOB_ID")


def beside(x):
    return x + OFFSET


@task(name="function of a program", cache_policy=NO_CACHE)
def of_a_program(run, x):
    where = {
        "run": run,
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "job": next(filter(None, map(os.environ.get, JOB_VARIABLES)), ""),
        "omp": os.environ.get("OMP_NUM_THREADS", ""),
        "modules": os.environ.get("LOADEDMODULES", ""),
        "python": ".".join(map(str, sys.version_info[:2])),
    }
    return where, beside(x)
