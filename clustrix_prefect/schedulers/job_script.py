"""The script of a job: the part that is the same under every scheduler."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence
from signal import SIGKILL, SIGTERM

from clustrix_prefect.schedulers.scheduler import (
    WORKER_NOT_STARTED,
    JobSpec,
    JobState,
    JobStatus,
    Scheduler,
)

# Tells an element its place in the array, counted from 0, where the scheduler's own variable
# does not, or is named differently in each of its kinds.
INDEX_VARIABLE = "CLUSTRIX_PREFECT_INDEX"
_JOB_VARIABLE = "CLUSTRIX_PREFECT_JOB"  # tells the worker its job's id

# What a script notes of its job's end in its standard error, for want of somebody else's word.
_BEGUN_AGAIN = "clustrix-prefect: the scheduler began the job a second time"
_ASKED_TO_END = "clustrix-prefect: the job was asked to end (SIGTERM), in second"
_WORKER_ENDED = "clustrix-prefect: the worker ended with exit status"
_SIGNALS = 65
# The scheduler's clock may begin so many seconds before the worker does.
_START = 30


def shell_of(spec: JobSpec) -> str:
    """A login shell defines `module`; without a prologue its start-up would only cost time."""
    return "/bin/bash -l" if spec.prologue else "/bin/sh"


def job_script(
    spec: JobSpec,
    directives: Iterable[str],
    own_id: str,
    begin: Sequence[str] = (),
    *,
    notes_end: bool = False,
) -> str:
    """Return the script that runs the worker.

    Args:
        spec: What is to be run.
        directives: The scheduler's comment lines, whole.
        own_id: How a shell in the job writes the id that `element_id` gives it.
        begin: Shell lines that go before everything else.
        notes_end: Whether the script stays, to note how the worker ended.
    """
    python = shlex.quote(spec.command[0])
    command = shlex.join(spec.command)
    lines = [
        f"#!{shell_of(spec)}",
        *directives,
        "",
        *begin,
        f'export {_JOB_VARIABLE}="{own_id}"',
        *(f"export {name}={shlex.quote(value)}" for name, value in spec.environment.items()),
        *spec.prologue,
        f"command -v {python} > /dev/null || {{",
        f'  echo "{WORKER_NOT_STARTED}: $(hostname) has no" {python} >&2',
        "  exit 127",
        "}",
        *(_noting(command) if notes_end else [f"exec {command}"]),
    ]
    return "\n".join(lines) + "\n"


def _noting(command: str) -> list[str]:
    # The shell tells of the signal when its child has ended.
    second = "$(($(date +%s) - begun))"
    return [
        "begun=$(date +%s)",
        f"trap 'echo \"{_ASKED_TO_END} {second}\" >&2' TERM",
        command,
        "status=$?",
        f'[ $status = 0 ] || echo "{_WORKER_ENDED} $status, in second {second}" >&2',
        "exit $status",
    ]


def noted_end(scheduler: Scheduler, stderr_tail: str, time: int | None) -> JobStatus | None:
    """Return how a job ended by what was written when it did, or None if that was nothing.

    Args:
        scheduler: Whose daemons may have written it.
        stderr_tail: The last of the job's standard error.
        time: The seconds that the job asked for.
    """
    for message, state in scheduler.end_messages.items():
        if re.search(message, stderr_tail):
            return JobStatus(state)
    if _BEGUN_AGAIN in stderr_tail:
        return JobStatus(JobState.REQUEUED)
    asked = re.search(rf"{re.escape(_ASKED_TO_END)} (\d+)", stderr_tail)
    ended = re.search(rf"{_WORKER_ENDED} (\d+), in second (\d+)", stderr_tail)
    # Some daemons end the worker before the shell, which is then gone before it can tell.
    killed = ended is not None and exit_code(int(ended[1])) in (-SIGTERM, -SIGKILL)
    if asked or (ended and killed):
        second = int(asked[1] if asked else ended[2])  # type: ignore[index]  # one of them is
        over = time is not None and second + min(time / 10, _START) >= time
        return JobStatus(JobState.TIME_LIMIT if over else JobState.KILLED)
    if ended:
        return JobStatus(JobState.FAILED, exit_code=exit_code(int(ended[1])))
    return None


def exit_code(status: int) -> int:
    """Return an exit status of a shell as Python has them: signals are negative."""
    return 128 - status if 128 < status < 128 + _SIGNALS else status


def own_logs(spec: JobSpec, index: str) -> list[str]:
    """Lines that number the elements from 0 and send the output to the run's directory at once.

    Schedulers name these files each in their own way, and some bring them only at the end. The
    files of an element that is there already were begun by it: what the scheduler took from its
    node and begins again by itself ends here, since its calls are submitted again by us.

    Args:
        spec: What is to be run.
        index: How a shell writes an array element's index, counted from 0.
    """
    logs = shlex.quote(f"{spec.directory}/logs/")
    number = "0" if spec.array_size is None else f'"${INDEX_VARIABLE}"'
    numbered = [] if spec.array_size is None else [f"export {INDEX_VARIABLE}={index}"]
    return [
        *numbered,
        f"if [ -e {logs}{number}.out ]; then",
        f'  echo "{_BEGUN_AGAIN}" >> {logs}{number}.err',
        "  exit 1",
        "fi",
        f"exec > {logs}{number}.out 2> {logs}{number}.err",
    ]


def chosen(options: Iterable[str], extra: Sequence[str], skip: Sequence[str]) -> list[str]:
    """Our options without those that are skipped or that others replace, then those others."""
    left_out = {key for line in (*extra, *skip) for key in option_keys(line)}
    return [*(line for line in options if not left_out.intersection(option_keys(line))), *extra]


def option_value(names: Sequence[str], lines: Iterable[str]) -> str | None:
    """Return what an option is set to in lines of options, if it is; by any of its names."""
    found = None
    for line in lines:
        for option in re.split(r"\s+(?=--?[A-Za-z])", line.strip()):
            name, *value = re.split(r"[=\s]\s*", option, maxsplit=1)
            if name in names and value:
                found = value[0].strip("'\"")
    return found


def option_keys(line: str) -> list[str]:
    """What options are known by: "--mem" of "--mem=4G", "-l h_rt" of "-l h_rt=60"."""
    keys = []
    for option in re.split(r"\s+(?=--?[A-Za-z])", line.strip()):
        name, *value = re.split(r"[=\s]\s*", option, maxsplit=1)
        requests = value[0].split(",") if name == "-l" and value else []
        keys += [f"-l {item.partition('=')[0].strip()}" for item in requests] or [name]
    return keys
