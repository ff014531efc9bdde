"""PBS: OpenPBS and PBS Pro, Torque, and the PBS commands that SLURM brings."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from clustrix_prefect.schedulers.job_script import (
    INDEX_VARIABLE,
    chosen,
    option_value,
    own_logs,
    shell_of,
)
from clustrix_prefect.schedulers.job_script import job_script as script_of
from clustrix_prefect.schedulers.pbs_answers import REFUSALS, never_runs, status_of
from clustrix_prefect.schedulers.pbs_dialects import DIALECTS, OPENPBS, VERSION, Dialect, site_of
from clustrix_prefect.schedulers.pbs_listings import (
    Job,
    ListedStatuses,
    array_of,
    ids_in,
    in_order_of_time,
    jobs_in,
)
from clustrix_prefect.schedulers.refusals import the_id
from clustrix_prefect.schedulers.scheduler import JobSpec, JobState, JobStatus, Limits, LimitScope
from clustrix_prefect.task_resources import Resources

# An array's id has empty brackets, an element's its index in them; then comes the server.
_JOB_ID = re.compile(r"^(\d+(?:\[\])?)(?:\.\S*)?\Z")
_INDEX = "${PBS_ARRAY_INDEX:-$PBS_ARRAYID}"


@dataclass(frozen=True)
class PBSScheduler:
    """How a PBS site is spoken to.

    Attributes:
        queue: Where jobs go that do not say (`-q`).
        account: Who is charged for jobs that do not say (`-A`).
        project: The project of all jobs (`-P`), where there are projects.
        extra_directives: Further options of `qsub`; they replace ours.
        skip_directives: Options that the site refuses and that are left out: "-l mem".
        dialect: Which PBS it is.
    """

    queue: str | None = None
    account: str | None = None
    project: str | None = None
    extra_directives: Sequence[str] = ()
    skip_directives: Sequence[str] = ()
    dialect: Dialect = OPENPBS

    name = "PBS"
    index_variable = INDEX_VARIABLE
    default_array_size = 1000

    @property
    def end_messages(self) -> Mapping[str, JobState]:
        return self.dialect.end_messages

    def for_site(self, version: str) -> PBSScheduler:
        known = (dialect for dialect in DIALECTS if version.startswith(dialect.name))
        return replace(self, dialect=next(known, OPENPBS))

    def placement_of(self, wanted: Resources) -> LimitScope:
        given = option_value(["-q"], self.extra_directives)
        return LimitScope(partition=given or wanted.partition or self.queue)

    def never_runs(self, reason: str) -> str | None:
        return never_runs(reason)

    def in_words(self, reason: str) -> str:
        return reason  # it is told in words

    def job_script(self, spec: JobSpec) -> str:
        directives = (f"#PBS {line}" for line in self._directives(spec))
        if not self.dialect.is_pbs:
            return script_of(spec, directives, "$SLURM_JOB_ID", notes_end=True)
        # The id is told with its server.
        begin = own_logs(spec, _INDEX)
        return script_of(spec, directives, "${PBS_JOBID%%.*}", begin, notes_end=True)

    def _directives(self, spec: JobSpec) -> list[str]:
        extra = [line.removeprefix("#PBS").strip() for line in self.extra_directives]
        return chosen(self._options(spec), extra, self._skipped)

    @property
    def _skipped(self) -> list[str]:
        # Chunks are asked for in one of two forms, of which a job may have only one.
        forms = re.compile(r"-l\s*(?:select|nodes)=")
        given = any(forms.search(line) for line in self.extra_directives)
        return [*self.skip_directives, *(("-l select", "-l nodes", "-l mem") if given else ())]

    def _options(self, spec: JobSpec) -> Iterator[str]:
        wanted, dialect = spec.resources, self.dialect
        yield f"-N {spec.name}"
        if dialect.is_pbs:
            yield f"-S {shell_of(spec).split()[0]}"
            yield "-j oe"
            # To Torque the name of a file to which each element adds its index.
            named = dialect.numbers_names and spec.array_size is not None
            yield f"-o {shlex.quote(f'{spec.directory}/logs/pbs') if named else '/dev/null'}"
        else:  # its daemons tell in these files why they ended a job
            for name in ("out", "err"):
                yield f"-{name[0]} {shlex.quote(f'{spec.directory}/logs/0.{name}')}"
        # What the scheduler ran again by itself would be run twice, by us and by it. Where it
        # insists, the second run of a job ends at once (see `own_logs`).
        yield "-r y" if dialect.reruns_arrays and spec.array_size is not None else "-r n"
        if spec.array_size is not None:
            throttle = f"%{wanted.max_parallel_jobs}" if wanted.max_parallel_jobs else ""
            yield f"{dialect.array_option} 0-{spec.array_size - 1}{throttle}"
        for option, value in (
            ("-q", wanted.partition or self.queue),
            ("-A", wanted.account or self.account),
            ("-P", self.project if dialect.has_projects else None),
        ):
            if value is not None:
                yield f"{option} {shlex.quote(value)}"
        if wanted.time:
            minutes, seconds = divmod(wanted.time, 60)
            yield f"-l walltime={minutes // 60:02}:{minutes % 60:02}:{seconds:02}"
        yield from dialect.sizes(wanted, self._skipped)

    def submit_command(self, script: str, spec: JobSpec) -> list[str]:
        if self.dialect.is_pbs:
            return ["qsub", script]
        # SLURM's reads no directives, of several `-l` only the last, and leaves quotes to a shell.
        words = [word for line in self._directives(spec) for word in shlex.split(line, posix=False)]
        requests = [value for option, value in pairwise(words) if option == "-l"]
        options = [word for before, word in pairwise(["", *words]) if "-l" not in (before, word)]
        return ["qsub", *options, "-l", ",".join(requests), script]

    def trial_command(self, spec: JobSpec) -> None:
        return None

    def parse_submit(self, returncode: int, stdout: str, stderr: str) -> str:
        if returncode == 0:
            return the_id(stdout, _JOB_ID)
        raise REFUSALS.read(returncode, f"{stderr}\n{stdout}")

    def element_id(self, job_id: str, index: int | None) -> str:
        return job_id if index is None else job_id.replace("[]", f"[{index}]")

    def job_of(self, element_id: str) -> str:
        return array_of(element_id)

    def status_command(self, user_id: int) -> list[str]:
        return ["sh", "-c", self.dialect.status, "qstat"]

    def parse_status(self, stdout: str) -> Mapping[str, JobStatus]:
        read = {
            job_id: status_of(job, self.dialect.ends, self._name_of(job_id, job))
            for job_id, job in jobs_in(stdout)
        }
        arrays = {array_of(job_id) for job_id in read if array_of(job_id) != job_id}
        return ListedStatuses(
            ids_in(stdout), {job_id: read[job_id] for job_id in read if job_id not in arrays}
        )

    def _name_of(self, job_id: str, job: Job) -> str:
        name = job.get("job_name", "")
        if self.dialect.numbers_names and (element := re.search(r"\[(\d+)\]$", job_id)):
            name = name.removesuffix(f"-{element[1]}")
        return name

    def starts_command(self, user_id: int) -> list[str]:
        return self.status_command(user_id)

    def parse_starts(self, stdout: str) -> Mapping[str, str]:
        return {
            job_id: in_order_of_time(job["estimated.start_time"])
            for job_id, job in jobs_in(stdout)
            if job.get("estimated.start_time")
        }

    def details_command(self, element_ids: Sequence[str]) -> list[str]:
        return [*self.dialect.details, *element_ids]

    def parse_details(self, element_ids: Sequence[str], stdout: str) -> dict[str, JobStatus]:
        told = self.parse_status(stdout)
        return {element_id: told[element_id] for element_id in element_ids if element_id in told}

    def cancel_command(self, element_ids: Sequence[str]) -> list[str]:
        return ["qdel", *element_ids]

    def signal_command(self, element_ids: Sequence[str], signal: str) -> None:
        return None  # `qdel` asks a job to end before it kills it

    def limits_commands(self) -> list[list[str]]:
        version = ["sh", "-c", VERSION, "qstat"]
        return [version, ["qmgr", "-c", "list server"], ["qstat", "-Qf"]]

    def parse_limits(self, outputs: Sequence[tuple[int, str]]) -> Limits:
        return site_of(*(stdout for _, stdout in outputs))
