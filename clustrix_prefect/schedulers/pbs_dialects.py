"""The kinds of PBS: how their options, ids, listings and limits differ."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from clustrix_prefect.schedulers.scheduler import JobState, Limit, Limits, LimitScope
from clustrix_prefect.schedulers.slurm import END_MESSAGES
from clustrix_prefect.task_resources import Resources

# Only the user's own jobs. What `qselect` names is in the queue, whatever `qstat` says of it: its
# ids go first. One that ends between the two commands is unknown to the second (status 153) or
# has left for the history (35): no reason not to believe the rest.
_OWN = """ids=$(qselect -u "$(id -un)") || exit
[ -z "$ids" ] && exit
printf '%s\\n' "$ids"
told=$({} $ids)
code=$?
printf '%s\\n' "$told" {}
[ $code = 153 ] || [ $code = 35 ] || exit $code"""
# What is not needed is most of the text, and what users put into variables may be anything.
_NAMES = (
    "Job_Name job_state Hold_Types queue exec_host comment Exit_status substate"
    " resources_used.walltime Resource_List.walltime"
)
_NEEDED = (
    "| LC_ALL=C awk -v names=' "
    + _NAMES
    + """ ' '/^Job Id/ { print; kept = 0; next }
/^    [A-Za-z_.]+ = / { kept = index(names, " " $1 " ") }
kept'"""
)


@dataclass(frozen=True)
class Dialect:
    """One kind of PBS.

    Attributes:
        name: For people.
        array_option: The option of `qsub` for an array.
        status: Shell lines that list the user's jobs, array elements among them.
        details: The command that tells of jobs, also of those that have ended.
        has_chunks: Whether sizes are asked for as `select`, not as `nodes`.
        cores: What cores are called in that.
        gpus: What GPUs are called in that.
        has_projects: Whether `-P` names a project.
        is_pbs: Whether the server is a PBS.
        numbers_names: Whether an element's name is its array's, a hyphen and its index.
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
    numbers_names: bool = False
    reruns_arrays: bool = False
    ends: Mapping[int, JobState] = field(default_factory=dict)
    end_messages: Mapping[str, JobState] = field(default_factory=dict)

    def sizes(self, wanted: Resources, skipped: Sequence[str]) -> Iterator[str]:
        """Yield what a job asks for: chunks, or nodes and the memory of all of them.

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
    _OWN.format("qstat -t -f", _NEEDED),
    ["qstat", "-x", "-f"],
    has_chunks=True,
    cores="ncpus",
    gpus="ngpus",
    has_projects=True,
    reruns_arrays=True,
    ends={
        # By PBS's job.h: what failed before the job began, and with what its node let it down
        # or asked for another run (which `-r n` forbids).
        **dict.fromkeys(
            (-1, -2, -3, -7, -10, -13, -17, -19, -21, -22, -23, -30), JobState.NOT_STARTED
        ),
        **dict.fromkeys((-4, -5, -6, -11, -14, -16, -18, -20), JobState.NODE_FAILURE),
        -26: JobState.OUT_OF_MEMORY,
        -27: JobState.OUT_OF_MEMORY,
        -28: JobState.TIME_LIMIT,
        -29: JobState.TIME_LIMIT,
    },
)
TORQUE = Dialect(
    "Torque",
    "-t",
    _OWN.format("qstat -t -x", ""),
    ["qstat", "-x"],
    numbers_names=True,
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
# SLURM's `qstat` knows no such option. `sinfo` tells SLURM's version, but waits up to a minute
# where SLURM is installed and not configured, as on a PBS site that once had it: it is asked
# for SLURM's `qstat` alone.
VERSION = """told=$(qstat --version 2>&1)
code=$?
printf '%s\\n' "$told"
case $told in *"Unknown option: version"*) exec sinfo --version ;; esac
exit $code"""


def site_of(version_told: str, server: str, queues: str) -> Limits:
    """Return the kind and version of a site's PBS and its limits.

    Args:
        version_told: What `VERSION` prints.
        server: What `qmgr` says of the server.
        queues: What `qstat -Qf` says of the queues.
    """
    version = ""
    if found := re.search(r"pbs_version\s*=\s*(\S+)", version_told):
        version = f"{OPENPBS.name} {found[1]}"
    elif found := re.search(r"^version:\s*(\S+)", version_told, re.IGNORECASE | re.MULTILINE):
        version = f"{TORQUE.name} {found[1]}"
    elif found := re.search(r"^slurm\S* (\S+)", version_told, re.MULTILINE):
        version = f"{OF_SLURM.name} {found[1]}"
        return Limits([Limit("its qsub's lack of arrays", max_array_size=1)], version=version)
    limits = list(_limits_in(server, "the server", LimitScope()))
    for block in re.split(r"^Queue: ", queues, flags=re.MULTILINE)[1:]:
        name = block.split("\n", 1)[0].strip()
        limits += _limits_in(block, f"the queue {name}", LimitScope(partition=name))
    default = re.search(r"^\s*default_queue = (\S+)", server, re.MULTILINE)
    return Limits(limits, version, default_queue=default[1] if default else None)


def _limits_in(told: str, whose: str, applies_to: LimitScope) -> Iterator[Limit]:
    """Yield the limits among the attributes of a server or a queue."""
    if found := re.search(r"\b(max(?:_job)?_array_size) = (\d+)", told):
        yield Limit(f"{found[1]} of {whose}", applies_to, max_array_size=int(found[2]))
    for found in re.finditer(
        r"\b(max_user_queuable|max_queued|queued_jobs_threshold) = "
        r"(?:.*[uo]:PBS_(?:GENERIC|ALL)=)?(\d+)",
        told,
    ):
        # An array counts as many as it has elements.
        yield Limit(f"{found[1]} of {whose}", applies_to, max_submitted_jobs=int(found[2]))
