"""Grid Engine (SGE and its heirs): job scripts, and the commands that submit, list and cancel."""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import ClassVar
from xml.etree import ElementTree

from clustrix_prefect.schedulers import gridengine_answers as answers
from clustrix_prefect.schedulers.array_indices import format_indices
from clustrix_prefect.schedulers.folding import FoldedStatuses, fold_elements
from clustrix_prefect.schedulers.job_script import INDEX_VARIABLE, chosen, own_logs, shell_of
from clustrix_prefect.schedulers.job_script import job_script as script_of
from clustrix_prefect.schedulers.refusals import the_id
from clustrix_prefect.schedulers.scheduler import JobSpec, JobState, JobStatus, Limits, LimitScope
from clustrix_prefect.task_resources import Resources

# A wrapper may leave out `-terse`.
_TOLD = re.compile(r"^Your job(?:-array)? (\d+)(?:\.\d+-\d+:\d+)? .*has been submitted")
_JOB_ID = re.compile(r"^(\d+)(?:\.\d+-\d+:\d+)?\Z")
# `qstat` knows why a task in error cannot start; of what ended, the accounting tells.
_DETAILS = """for one; do
  job=${one%%.*}
  tasks=${one#"$job"}
  printf '==\\njobnumber %s\\n' "$job"
  qstat -j "$job" 2> /dev/null | grep '^error reason '
  qacct -j "$job" ${tasks:+-t "${tasks#.}"} 2> /dev/null
done
exit 0"""


@dataclass(frozen=True)
class GridEngineScheduler:
    """How a Grid Engine site is spoken to.

    Attributes:
        queue: Where jobs go that do not say (`-q`).
        project: Who is charged for jobs that do not say (`-P`).
        account: A word for the accounting (`-A`).
        parallel_environment: What gives several slots of one host (`-pe`).
        memory_resource: What memory is asked for as; the value is for one slot.
        gpu_resource: What GPUs are asked for as.
        extra_directives: Further options of `qsub`; they replace ours.
        skip_directives: Options that the site refuses and that are left out: "-l h_vmem".
    """

    queue: str | None = None
    project: str | None = None
    account: str | None = None
    parallel_environment: str | None = None
    memory_resource: str = "h_vmem"
    gpu_resource: str = "gpu"
    extra_directives: Sequence[str] = ()
    skip_directives: Sequence[str] = ()

    name = "Grid Engine"
    index_variable = INDEX_VARIABLE
    default_array_size = 75_000
    end_messages: ClassVar[Mapping[str, JobState]] = {}

    def for_site(self, version: str) -> GridEngineScheduler:
        return self

    def placement_of(self, wanted: Resources) -> LimitScope:
        return LimitScope(partition=wanted.partition or self.queue)

    def never_runs(self, reason: str) -> None:
        return None  # `qsub` refuses what no queue takes

    def in_words(self, reason: str) -> str:
        return reason  # it is told in words

    def job_script(self, spec: JobSpec) -> str:
        directives = (f"#$ {line}" for line in self._directives(spec))
        own_id = "$JOB_ID" if spec.array_size is None else "$JOB_ID.$SGE_TASK_ID"
        return script_of(spec, directives, own_id, own_logs(spec, "$((SGE_TASK_ID - 1))"))

    def _directives(self, spec: JobSpec) -> list[str]:
        extra = [line.removeprefix("#$").strip() for line in self.extra_directives]
        return chosen(self._options(spec), extra, self.skip_directives)

    def _options(self, spec: JobSpec) -> Iterator[str]:
        wanted, queue = spec.resources, spec.resources.partition or self.queue
        yield f"-S {shell_of(spec).split()[0]}"  # the script's first line counts for nothing
        yield f"-N {spec.name}"
        yield from ("-o /dev/null", "-j y", "-r n")
        if spec.array_size is not None:
            yield f"-t 1-{spec.array_size}"
            if wanted.max_parallel_jobs:
                yield f"-tc {wanted.max_parallel_jobs}"
        project = wanted.account or self.project
        for option, value in (("-q", queue), ("-P", project), ("-A", self.account)):
            if value is not None:
                yield f"{option} {shlex.quote(value)}"
        cores = wanted.cores or 1
        if cores > 1:
            yield f"-pe {self.parallel_environment} {cores}"
        if wanted.time:
            yield f"-l h_rt={wanted.time}"
            if wanted.signal_before_end:
                yield f"-l s_rt={wanted.time - wanted.signal_before_end}"
        if wanted.memory:
            yield f"-l {self.memory_resource}={math.ceil(wanted.memory / cores / 1024**2)}M"
        if wanted.gpus:
            yield f"-l {self.gpu_resource}={wanted.gpus}"
        if wanted.constraint:
            yield f"-l {wanted.constraint}"

    def submit_command(self, script: str, spec: JobSpec) -> list[str]:
        return ["qsub", "-terse", script]

    def trial_command(self, spec: JobSpec) -> list[str]:
        options = shlex.split(" ".join(self._directives(spec)))
        return ["qsub", "-w", "v", *options, "-b", "y", "true"]

    def parse_submit(self, returncode: int, stdout: str, stderr: str) -> str:
        if returncode == 0:
            return the_id(stdout, _TOLD, _JOB_ID)
        raise answers.REFUSALS.read(returncode, stderr or stdout)

    def element_id(self, job_id: str, index: int | None) -> str:
        return job_id if index is None else f"{job_id}.{index + 1}"  # tasks begin with 1

    def job_of(self, element_id: str) -> str:
        return element_id.partition(".")[0]

    def status_command(self, user_id: int) -> list[str]:
        return ["sh", "-c", 'exec qstat -xml -u "$(id -un)"', "qstat"]

    def parse_status(self, stdout: str) -> Mapping[str, JobStatus]:
        statuses = FoldedStatuses(".")
        for listed in re.findall(r"<job_list.*?</job_list>", stdout, re.DOTALL):
            try:
                job = ElementTree.fromstring(listed)  # noqa: S314 (our scheduler's)
            except ElementTree.ParseError:  # a name of somebody's that is not XML
                if number := re.search(r"<JB_job_number>(\d+)<", listed):
                    unread = JobStatus(JobState.UNKNOWN, "its state cannot be read")
                    tasks = re.search(r"<tasks>(.*?)<", listed)
                    statuses.add(number[1], tasks[1] if tasks else None, unread)
                continue
            told = {child.tag: (child.text or "").strip() for child in job}
            _, _, node = told.get("queue_name", "").partition("@")
            status = answers.status_of(told["state"], node or None, told["JB_name"])
            statuses.add(told["JB_job_number"], told.get("tasks"), status)
        return statuses

    def starts_command(self, user_id: int) -> None:
        return None  # only of jobs with reservations it knows, and it tells them in a log

    def parse_starts(self, stdout: str) -> Mapping[str, str]:
        return {}

    def details_command(self, element_ids: Sequence[str]) -> list[str]:
        # The whole accounting is read for each question; a task of many is not asked for alone.
        asked = fold_elements(element_ids, ".", lambda tasks: [_reach(tasks)])
        return ["sh", "-c", _DETAILS, "qstat", *asked]

    def parse_details(self, element_ids: Sequence[str], stdout: str) -> dict[str, JobStatus]:
        return answers.ends_of_jobs(element_ids, stdout)

    def cancel_command(self, element_ids: Sequence[str]) -> list[str]:
        return [
            "qdel",
            *fold_elements(element_ids, ".", lambda tasks: format_indices(tasks).split(",")),
        ]

    def signal_command(self, element_ids: Sequence[str], signal: str) -> None:
        return None

    def limits_commands(self) -> list[list[str]]:
        return [["qconf", "-sconf"], ["qstat", "-help"]]

    def parse_limits(self, outputs: Sequence[tuple[int, str]]) -> Limits:
        (code, configuration), (_, usage) = outputs  # the usage is told without a server, too
        return Limits() if code else answers.limits_of(configuration, usage)


def _reach(tasks: Sequence[int]) -> str:
    first, last = min(tasks), max(tasks)
    return str(first) if first == last else f"{first}-{last}"
