"""The page of one failed call: what happened, where, and what to do."""

from __future__ import annotations

import html
import linecache
import re
import signal
import site
import sysconfig
from collections.abc import Iterator
from typing import Any

from clustrix_prefect.applying.secret_shapes import holds_secret, names_a_secret
from clustrix_prefect.dispatch.call import Call
from clustrix_prefect.display.markdown import escape, prose, table, utc
from clustrix_prefect.errors import ClustrixError, RemoteTaskError, RemoteTraceback
from clustrix_prefect.far_side.wire.protocol import Diagnosis

_FRAME = re.compile(r'^  File "(.+)", line (\d+), in .+\n    (.+)$', re.MULTILINE)
_LINES_AROUND = 3
_LONGEST_ARGUMENT = 80
# Where other people's code lies.
_NOT_THE_USERS = tuple(
    {*site.getsitepackages(), *map(sysconfig.get_path, ("stdlib", "platstdlib", "purelib"))}
)


def failure_page(call: Call, found: Diagnosis) -> str:
    """Markdown on one failed call.

    Args:
        call: The call.
        found: What there is to be seen of it on the cluster.
    """
    failure = call.failure
    traceback = _traceback_of(failure)
    lines = [f"**{escape(type(failure).__name__)}**: {_message(failure)}"]
    lines += ["", f"What to do: {_next_step(failure)}"]
    lines += ["", *table(["what", "value"], _facts(call, found))]
    for title, text in (
        ("Traceback", traceback),
        ("The code", _code_around(traceback)),
        ("The last that it logged", "\n".join(call.attempt.last_lines)),
        ("End of its standard output", found.get("stdout_tail")),
        ("End of its standard error", found.get("stderr_tail")),
    ):
        if text and text.strip():
            lines += ["", f"### {title}", "", _fenced(text)]
    if script := found.get("script"):
        lines += ["", _folded("Job script", script)]
    return "\n".join(lines)


def first_line(error: BaseException | None) -> str:
    """Return what an exception says, in one line."""
    return (str(error).splitlines() or [""])[0] if error is not None else ""


def index_words(call: Call) -> str:
    """Which element of a map the call is, and which of the job's array, where that is another."""
    if call.map_index is None:
        return ""
    other = call.attempt.element is not None and call.attempt.element != call.map_index
    return (
        f"{call.map_index} (array index {call.attempt.element})" if other else str(call.map_index)
    )


def exit_words(code: int) -> str:
    """Return what an exit status says of how a process ended."""
    number = -code if code < 0 else code - 128
    if code < 0 or code > 128:
        with_name = signal.Signals._value2member_map_.get(number)
        if with_name is not None:
            return f"{code} (ended by signal {number}, {signal.Signals(number).name})"
    if code == 0:
        return "0 (the worker ended well: it is the task that failed)"
    words = {126: "the command cannot be run", 127: "the command was not found"}.get(code)
    return f"{code} ({words})" if words else str(code)


def _facts(call: Call, found: Diagnosis) -> Iterator[list[str]]:
    arguments = (call.context.get("task_run") or {}).get("parameters") or {}
    ran = call.attempt.started_at is not None and call.attempt.ended_at is not None
    facts = {
        "Call": call.task_run_name,
        "Map index": index_words(call),
        "Arguments": ", ".join(f"{name}={_argument(name, arguments[name])}" for name in arguments),
        "Job": call.attempt.job_id,
        "Node": call.attempt.node,
        "Exit code": None if call.attempt.exit_code is None else exit_words(call.attempt.exit_code),
        "Started": None if call.attempt.started_at is None else utc(call.attempt.started_at),
        "Ran": f"{max(0.0, (call.attempt.ended_at or 0) - (call.attempt.started_at or 0)):.2f} s"
        if ran
        else None,
        "Files": found.get("directory"),
    }
    return ([name, escape(str(value))] for name, value in facts.items() if value)


def _argument(name: str, value: Any) -> str:
    """Return a value in few letters; what looks like a secret is not shown."""
    text = repr(value)
    if names_a_secret(name) or holds_secret(text):
        return "<not shown>"
    if isinstance(value, str) and re.fullmatch(r"<[\w.]+>", value):
        return value  # of a kind that is shown by its type alone
    return text if len(text) <= _LONGEST_ARGUMENT else f"{text[:_LONGEST_ARGUMENT]}…"


def _message(failure: BaseException | None) -> str:
    if isinstance(failure, ClustrixError):
        return prose(failure.what)
    return escape(first_line(failure)[:1000])


def _next_step(failure: BaseException | None) -> str:
    if isinstance(failure, ClustrixError) and failure.remedy:
        return f"{prose(failure.remedy)} ([more]({failure.link}))"
    return "The task's own code raised this: correct it, or its arguments, and run the flow again."


def _traceback_of(failure: BaseException | None) -> str:
    if isinstance(failure, RemoteTaskError):
        return failure.traceback
    cause = failure
    while cause is not None and not isinstance(cause, RemoteTraceback):
        cause = cause.__cause__
    return cause.text if cause is not None else ""


def _code_around(traceback: str) -> str:
    """Return the lines around the innermost of a traceback that is of the user's own code.

    Read here; where the file is another by now, or is not here, there are none.
    """
    for path, number, said in reversed(_FRAME.findall(traceback)):
        if path.startswith(_NOT_THE_USERS) or "site-packages" in path:
            continue
        at, source = int(number), linecache.getlines(path)
        if at > len(source) or source[at - 1].strip() != said.strip():
            return ""
        first = max(at - _LINES_AROUND, 1)
        around = source[first - 1 : at + _LINES_AROUND]
        return "\n".join(
            f"{'>' if line == at else ' '} {line:>4}  {text.rstrip()}"
            for line, text in enumerate(around, first)
        )
    return ""


def _folded(title: str, text: str) -> str:
    """A text that shows when its title is clicked on: one line, as an empty one would end it."""
    shown = html.escape(text.rstrip()).replace("\n", "&#10;")
    return f"<details><summary>{title}</summary><pre>{shown}</pre></details>"


def _fenced(text: str) -> str:
    fence = "```"
    while fence in text:
        fence += "`"
    return f"{fence}text\n{text.rstrip()}\n{fence}"
