"""The script of a job: the part that is the same under every scheduler."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterable, Sequence

from clustrix_prefect.schedulers.scheduler import WORKER_NOT_STARTED, JobSpec

# Tells an element its place in the array, counted from 0, where the scheduler's own variable
# does not, or is named differently in each of its kinds.
INDEX_VARIABLE = "CLUSTRIX_PREFECT_INDEX"


def shell_of(spec: JobSpec) -> str:
    """A login shell defines `module`; without a prologue its start-up would only cost time."""
    return "/bin/bash -l" if spec.prologue else "/bin/sh"


def job_script(spec: JobSpec, directives: Iterable[str], begin: Sequence[str] = ()) -> str:
    """The script that runs the worker.

    Args:
        spec: What is to be run.
        directives: The scheduler's comment lines, whole.
        begin: Shell lines that go before everything else.
    """
    python = shlex.quote(spec.command[0])
    lines = [
        f"#!{shell_of(spec)}",
        *directives,
        "",
        *begin,
        *(f"export {name}={shlex.quote(value)}" for name, value in spec.environment.items()),
        *spec.prologue,
        f"command -v {python} > /dev/null || {{",
        f'  echo "{WORKER_NOT_STARTED}: $(hostname) has no" {python} >&2',
        "  exit 127",
        "}",
        f"exec {shlex.join(spec.command)}",
    ]
    return "\n".join(lines) + "\n"


def own_logs(spec: JobSpec, index: str) -> list[str]:
    """Lines that number the elements from 0 and send the output to the run's directory at once.

    Schedulers name these files each in their own way, and some bring them only at the end.

    Args:
        spec: What is to be run.
        index: How a shell writes an array element's index, counted from 0.
    """
    logs = shlex.quote(f"{spec.directory}/logs/")
    number = "0" if spec.array_size is None else f'"${INDEX_VARIABLE}"'
    numbered = [] if spec.array_size is None else [f"export {INDEX_VARIABLE}={index}"]
    return [*numbered, f"exec > {logs}{number}.out 2> {logs}{number}.err"]


def chosen(options: Iterable[str], extra: Sequence[str], skip: Sequence[str]) -> list[str]:
    """Our options without those that are skipped or that others replace, then those others."""
    left_out = {key for line in (*extra, *skip) for key in option_keys(line)}
    return [*(line for line in options if not left_out.intersection(option_keys(line))), *extra]


def option_keys(line: str) -> list[str]:
    """What an option is known by: "--mem" of "--mem=4G", "-l h_rt" of "-l h_rt=60"."""
    name, *value = re.split(r"[=\s]\s*", line.strip(), maxsplit=1)
    if name != "-l" or not value:
        return [name]
    return [f"-l {item.partition('=')[0].strip()}" for item in value[0].split(",")]
