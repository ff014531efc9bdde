"""The kinds of PBS: how their options, ids, listings and limits differ."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from clustrix_prefect.schedulers.scheduler import JobState, Limits
from clustrix_prefect.schedulers.slurm import END_MESSAGES
from clustrix_prefect.task_resources import Resources

# Only the user's own jobs. One that ends between the two commands is unknown to the second
# (status 153) or has left for the history (35): no reason not to believe the rest.
_OWN = """ids=$(qselect -u "$(id -un)") || exit
[ -z "$ids" ] && exit
{} $ids
code=$?
[ $code = 153 ] || [ $code = 35 ] || exit $code"""


@dataclass(frozen=True)
class Dialect:
    """One kind of PBS.

    Attributes:
        name: For people.
        array_option: The option of `qsub` for an array.
        status: Shell lines that list the user's jobs, array elements among them.
        details: The command that tells of one job, also of one that has ended.
        has_chunks: Whether sizes are asked for as `select`, not as `nodes`.
        cores: What cores are called in that.
        gpus: What GPUs are called in that.
        has_projects: Whether `-P` names a project.
        is_pbs: Whether the server is a PBS.
        reruns_arrays: Whether arrays are refused that may not be run again.
        ends: What negative exit statuses stand for, where it is no failure of the job's own.
        end_messages: What its daemons write into a job's standard error when they end it.
    """

    name: str
    array_option: str
    status: str
    details: Sequence[str]
    has_chunks: bool = False
    cores: str = "ppn"
    gpus: str = "gpus"
    has_projects: bool = False
    is_pbs: bool = True
    reruns_arrays: bool = False
    ends: Mapping[int, JobState] = field(default_factory=dict)
    end_messages: Mapping[str, JobState] = field(default_factory=dict)

    def sizes(self, wanted: Resources, skipped: Sequence[str]) -> Iterator[str]:
        """What a job asks for: chunks, or nodes and the memory of all of them.

        Args:
            wanted: What each of its nodes gets.
            skipped: Requests that the site refuses.
        """
        nodes, ranks = wanted.nodes or 1, wanted.tasks_per_node
        chunk = [
            (self.cores, (wanted.cores or 1) * (ranks or 1)),
            ("mpiprocs" if self.has_chunks else "", ranks),
            (self.gpus, wanted.gpus),
        ]
        memory = math.ceil((wanted.memory or 0) / 1024**2)
        if self.has_chunks:
            chunk.append(("mem", f"{memory}mb" if memory else None))
        parts = [f"{name}={value}" for name, value in chunk if name and value]
        parts = [part for part in parts if f"-l {part.partition('=')[0]}" not in skipped]
        form = "select" if self.has_chunks else "nodes"
        yield f"-l {form}={':'.join([str(nodes), *parts, *filter(None, [wanted.constraint])])}"
        if memory and not self.has_chunks:
            yield f"-l mem={memory * nodes}mb"


OPENPBS = Dialect(
    "OpenPBS",
    "-J",
    _OWN.format("qstat -t -f -F json"),
    ["qstat", "-x", "-f", "-F", "json"],
    has_chunks=True,
    cores="ncpus",
    gpus="ngpus",
    has_projects=True,
    reruns_arrays=True,
    ends={
        **dict.fromkeys((-1, -2, -3), JobState.NOT_STARTED),
        **dict.fromkeys((-4, -5, -6), JobState.NODE_FAILURE),
        -26: JobState.OUT_OF_MEMORY,
        -27: JobState.OUT_OF_MEMORY,
        -28: JobState.TIME_LIMIT,
        -29: JobState.TIME_LIMIT,
    },
)
TORQUE = Dialect(
    "Torque",
    "-t",
    _OWN.format("qstat -t -x"),
    ["qstat", "-x"],
    ends={
        **dict.fromkeys((-1, -2, -3, -8, -9), JobState.NOT_STARTED),
        **dict.fromkeys((-4, -5, -6), JobState.NODE_FAILURE),
        -10: JobState.OUT_OF_MEMORY,
        -11: JobState.TIME_LIMIT,
        -12: JobState.TIME_LIMIT,
    },
)
# Its `qstat` knows neither JSON nor XML nor the elements of arrays, and ends with 153 when there
# are no jobs.
OF_SLURM = Dialect(
    "PBS commands of SLURM",
    "-t",
    "qstat -f; code=$?; [ $code = 153 ] || exit $code",
    ["qstat", "-f"],
    is_pbs=False,
    end_messages={**END_MESSAGES, r"\*\*\* JOB \S+ ON \S+ CANCELLED AT": JobState.CANCELLED},
)
DIALECTS = (OPENPBS, TORQUE, OF_SLURM)


def site_of(qstat: str, server: str, sinfo: str) -> Limits:
    """The kind and version of a site's PBS and its limits.

    Args:
        qstat: What `qstat --version` says.
        server: What `qmgr` says of the server.
        sinfo: What SLURM's `sinfo --version` says, if it is there.
    """
    version = ""
    if found := re.search(r"pbs_version\s*=\s*(\S+)", qstat):
        version = f"{OPENPBS.name} {found[1]}"
    elif found := re.search(r"^version:\s*(\S+)", qstat, re.IGNORECASE | re.MULTILINE):
        version = f"{TORQUE.name} {found[1]}"
    elif sinfo.startswith("slurm"):
        version = f"{OF_SLURM.name} {sinfo.split()[-1]}"
        return Limits(max_array_size=1, version=version)
    array = re.search(r"\bmax(?:_job)?_array_size = (\d+)", server)
    jobs = re.search(
        r"\bmax_(?:user_queuable = |queued = .*u:PBS_GENERIC=)(\d+)", server, re.MULTILINE
    )
    return Limits(
        max_array_size=int(array[1]) if array else None,
        max_submitted_jobs=int(jobs[1]) if jobs else None,
        version=version,
    )
