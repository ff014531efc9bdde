"""SLURM: job scripts, and the commands that submit, list and cancel jobs.

Works without accounting (`sacct`), which many sites do not have; where it is, it is asked for
what the controller has forgotten.
"""

from __future__ import annotations

import math
import re
import shlex
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

from clustrix_prefect.schedulers.array_indices import format_indices
from clustrix_prefect.schedulers.folding import FoldedStatuses, few_or_whole, fold_elements
from clustrix_prefect.schedulers.job_script import chosen, job_script, option_keys, option_value
from clustrix_prefect.schedulers.refusals import the_id
from clustrix_prefect.schedulers.scheduler import JobSpec, JobState, JobStatus, Limits, LimitScope
from clustrix_prefect.schedulers.slurm_answers import (
    ends_of_jobs,
    in_words,
    limits_of,
    never_runs,
    status_of,
)
from clustrix_prefect.schedulers.slurm_refusals import refusal
from clustrix_prefect.task_resources import Resources

END_MESSAGES = {
    "DUE TO TIME LIMIT": JobState.TIME_LIMIT,
    "DUE TO PREEMPTION": JobState.PREEMPTED,
    "DUE TO NODE FAILURE": JobState.NODE_FAILURE,
}

# The name goes last: it alone may hold the separator.
_STATUS_FORMAT = "%i|%T|%N|%r|%P|%a|%q|%j"
_FIELDS = _STATUS_FORMAT.count("|") + 1
# With `--parsable`, and as a wrapper that leaves it out lets it through.
_JOB_ID = re.compile(r"^(\d+)(?:;\S+)?\Z")
_TOLD = re.compile(r"^Submitted batch job (\d+)(?: on cluster \S+)?\Z")
_FOLDED = re.compile(r"^(\d+)_\[(.*)\]\Z")
# The controller's word and the accounting's, of which either may be silent; then, of jobs that were
# cancelled, whether their nodes have been taken out of service.
_DETAILS = r"""export SLURM_BITSTR_LEN=0  # lists of array indices are not cut off
accounted=$1
shift
told=$(for job; do scontrol show job "$job" 2> /dev/null; done)
printf '%s\n' "$told"
sacct -X -n -P -j "$accounted" -o JobID,State,ExitCode,NodeList 2> /dev/null
nodes=$(printf '%s\n' "$told" |
  sed -n '/JobState=CANCELLED/,/^ *NodeList=/s/^ *NodeList=\(..*\)/\1/p' |
  sort -u | paste -s -d , -)
[ -z "$nodes" ] || sinfo -h -N -n "$nodes" -o 'NodeReason=%N %E'
exit 0"""
# The controller tells of one job or of a whole array: of so many elements it is asked one by one.
_FEW = 8
_USER_LIMITS = """me=$(id -un)
sacctmgr -nP show users where user="$me" format=DefaultAccount || exit
echo --
sacctmgr -nP show associations where user="$me" \
  format=Cluster,Account,Partition,MaxSubmitJobs,GrpSubmitJobs,DefaultQOS || exit
echo --
sacctmgr -nP show qos format=Name,MaxSubmitJobsPU,MaxSubmitJobsPA,GrpSubmitJobs"""
# Of the variables of whoever starts the flow, `sbatch` takes some over the lines of the script
# (SBATCH_ARRAY_INX would run one call many times), and hands all to the job, where those of a job
# that the flow runs in would speak of the wrong one. These alone stay.
_SUBMIT = r"""for name in $(env | sed -n -e 's/^\(SBATCH_[A-Z0-9_]*\)=.*/\1/p' \
  -e 's/^\(SLURM_[A-Za-z0-9_]*\)=.*/\1/p'); do
  case " $1 " in *" $name "*) ;; *) unset "$name" ;; esac
done
shift
exec "$0" "$@"
"""
_KEPT = ("SLURM_CONF", "SLURM_CONF_SERVER", "SLURM_CLUSTERS", "SLURM_JWT", "SLURM_DEBUG_FLAGS")
# What a site or a user may set for all jobs, unless the call says otherwise.
_SITE_WIDE = {
    "SBATCH_ACCOUNT": ("--account", "-A"),
    "SBATCH_CLUSTERS": ("--clusters", "-M"),
    "SBATCH_PARTITION": ("--partition", "-p"),
    "SBATCH_QOS": ("--qos", "-q"),
    "SBATCH_RESERVATION": ("--reservation",),
    "SBATCH_WCKEY": ("--wckey",),
}
# A job may ask for memory in one of these ways only.
_MEMORY = ("--mem-per-cpu", "--mem-per-gpu")


@dataclass(frozen=True)
class SlurmScheduler:
    """How a SLURM site is spoken to.

    Attributes:
        partition: Where jobs go that do not say.
        account: Who is charged for jobs that do not say.
        qos: Quality of service of jobs that do not say.
        extra_directives: Further options of `sbatch`, such as "--exclusive"; they replace ours.
        skip_directives: Options that the site refuses and that are left out, such as "--mem".
    """

    partition: str | None = None
    account: str | None = None
    qos: str | None = None
    extra_directives: Sequence[str] = ()
    skip_directives: Sequence[str] = ()

    name = "SLURM"
    index_variable = "SLURM_ARRAY_TASK_ID"
    default_array_size = 1001
    end_messages = END_MESSAGES

    def for_site(self, version: str) -> SlurmScheduler:
        return self

    # --- submitting -----------------------------------------------------------------------

    def placement_of(self, wanted: Resources) -> LimitScope:
        extra = [line.removeprefix("#SBATCH").strip() for line in self.extra_directives]
        return LimitScope(
            option_value(["--partition", "-p"], extra) or wanted.partition or self.partition,
            option_value(["--account", "-A"], extra) or wanted.account or self.account,
            option_value(["--qos", "-q"], extra) or wanted.qos or self.qos,
        )

    def never_runs(self, reason: str) -> str | None:
        return never_runs(reason)

    def in_words(self, reason: str) -> str:
        return in_words(reason)

    def job_script(self, spec: JobSpec) -> str:
        single = spec.array_size is None
        own_id = "$SLURM_JOB_ID" if single else "${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID"
        return job_script(spec, (f"#SBATCH {line}" for line in self._directives(spec)), own_id)

    def _directives(self, spec: JobSpec) -> list[str]:
        options = (
            name if value is None else f"{name}={shlex.quote(value)}"
            for name, value in self._options(spec)
        )
        extra = [line.removeprefix("#SBATCH").strip() for line in self.extra_directives]
        given = {key for line in extra for key in option_keys(line)}
        memory = ["--mem"] if given.intersection(_MEMORY) else []
        return chosen(options, extra, [*self.skip_directives, *memory])

    def _options(self, spec: JobSpec) -> Iterator[tuple[str, str | None]]:
        wanted = spec.resources
        # In file names, %a is the array index and a percent sign is written twice.
        logs = spec.directory.replace("%", "%%") + "/logs/"
        index = "0" if spec.array_size is None else "%a"
        yield "--job-name", spec.name
        yield "--output", f"{logs}{index}.out"
        yield "--error", f"{logs}{index}.err"
        if spec.array_size is not None:
            throttle = f"%{wanted.max_parallel_jobs}" if wanted.max_parallel_jobs else ""
            yield "--array", f"0-{spec.array_size - 1}{throttle}"
        # A job that SLURM requeued by itself would run its calls a second time.
        yield "--no-requeue", None
        for name, value in self._resource_options(wanted):
            if value is not None:
                yield name, str(value)

    def _resource_options(self, wanted: Resources) -> Iterator[tuple[str, object]]:
        yield "--partition", wanted.partition or self.partition
        yield "--account", wanted.account or self.account
        yield "--qos", wanted.qos or self.qos
        yield "--nodes", wanted.nodes
        yield "--ntasks-per-node", wanted.tasks_per_node
        yield "--cpus-per-task", wanted.cores
        yield "--mem", f"{math.ceil(wanted.memory / 1024**2)}M" if wanted.memory else None
        yield "--time", _clock(wanted.time) if wanted.time else None
        yield "--gres", f"gpu:{wanted.gpus}" if wanted.gpus else None
        yield "--constraint", wanted.constraint
        yield "--signal", f"B:USR1@{wanted.signal_before_end}" if wanted.signal_before_end else None

    def submit_command(self, script: str, spec: JobSpec) -> list[str]:
        said = {key for line in self._directives(spec) for key in option_keys(line)}
        kept = [name for name, options in _SITE_WIDE.items() if not said.intersection(options)]
        words = " ".join((*_KEPT, *kept))
        return ["sh", "-c", _SUBMIT, "sbatch", words, "--parsable", script]

    def trial_command(self, spec: JobSpec) -> list[str]:
        options = [word for line in self._directives(spec) for word in shlex.split(line)]
        return ["sbatch", "--test-only", *options, "--wrap=true"]

    def parse_submit(self, returncode: int, stdout: str, stderr: str) -> str:
        if returncode == 0:
            return the_id(stdout, _TOLD, _JOB_ID)
        raise refusal(returncode, stderr or stdout)

    def element_id(self, job_id: str, index: int | None) -> str:
        return job_id if index is None else f"{job_id}_{index}"

    def job_of(self, element_id: str) -> str:
        return element_id.partition("_")[0]

    # --- looking after jobs -----------------------------------------------------------------

    def status_command(self, user_id: int) -> list[str]:
        # SLURM_BITSTR_LEN=0: lists of array indices are not cut off after 64 characters.
        squeue = ["squeue", "--noheader", "--states=all", f"--user={user_id}"]
        return ["env", "SLURM_BITSTR_LEN=0", *squeue, f"--format={_STATUS_FORMAT}"]

    def parse_status(self, stdout: str) -> Mapping[str, JobStatus]:
        statuses = FoldedStatuses("_")
        for line in stdout.splitlines():
            fields = [field.strip() for field in line.split("|", _FIELDS - 1)]
            if len(fields) == _FIELDS:
                job_id, state, node, reason, partition, account, qos, name = fields
                folded = _FOLDED.match(job_id)
                job, indices = folded.groups() if folded else (job_id, None)
                placement = LimitScope(partition, account, qos)
                status = replace(status_of(state, reason, node, name=name), placement=placement)
                statuses.add(job, indices, status)
        return statuses

    def starts_command(self, user_id: int) -> list[str]:
        return ["squeue", "--start", "--noheader", f"--user={user_id}", "--format=%i|%S"]

    def parse_starts(self, stdout: str) -> Mapping[str, str]:
        told = (line.strip().partition("|") for line in stdout.splitlines())
        return {
            job_id: start.replace("T", " ") for job_id, _, start in told if start not in ("", "N/A")
        }

    def details_command(self, element_ids: Sequence[str]) -> list[str]:
        asked = few_or_whole(element_ids, self.job_of, _FEW)
        return ["sh", "-c", _DETAILS, "scontrol", ",".join(asked), *asked]

    def parse_details(self, element_ids: Sequence[str], stdout: str) -> dict[str, JobStatus]:
        return ends_of_jobs(element_ids, stdout)

    def cancel_command(self, element_ids: Sequence[str]) -> list[str]:
        return ["scancel", *_folded(element_ids)]

    def signal_command(self, element_ids: Sequence[str], signal: str) -> list[str]:
        # A job that was cancelled takes no more signals, only KillWait ends it; and to SLURM
        # KILL means to cancel, unless it is the batch process alone that gets it.
        whom = "--batch" if signal == "KILL" else "--full"
        return ["scancel", f"--signal={signal}", whom, *_folded(element_ids)]

    # --- what the site allows ---------------------------------------------------------------

    def limits_commands(self) -> list[list[str]]:
        return [["scontrol", "show", "config"], ["sh", "-c", _USER_LIMITS, "sacctmgr"]]

    def parse_limits(self, outputs: Sequence[tuple[int, str]]) -> Limits:
        (config_code, config), (users_code, users) = outputs
        return limits_of("" if config_code else config, "" if users_code else users)


def _folded(element_ids: Sequence[str]) -> list[str]:
    """Return the ids as `scancel` takes them, elements of one array folded."""
    return fold_elements(element_ids, "_", lambda indices: [f"[{format_indices(indices)}]"])


def _clock(seconds: int) -> str:
    """Return a time limit as SLURM writes it, in whole minutes: what it keeps anyway."""
    minutes = math.ceil(seconds / 60)
    days, minutes = divmod(minutes, 24 * 60)
    clock = f"{minutes // 60:02}:{minutes % 60:02}:00"
    return f"{days}-{clock}" if days else clock
