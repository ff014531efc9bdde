"""What the far side costs by itself: its processor time, and its share of a job's start."""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from clustrix_prefect.far_side.wire import protocol
from tests.bench.lab import Lab
from tests.bench.table import Bound, Part, Row
from tests.far_side.calls import Call
from tests.far_side.far import Far, wait_for

CALLS = 1000
STARTS = 8
NOOP = "def f(x):\n    return x"


def measure(lab: Lab) -> Part:
    """Many calls, one call, and the start of a job, without Prefect and without a connection."""
    part = Part("The far side alone")
    with tempfile.TemporaryDirectory() as scratch:
        far = Far(sys.executable, Path(scratch) / "work")
        try:
            part.rows += [_many(far), _one(far), _start(far)]
        finally:
            far.close()
    return part


def _many(far: Far) -> Row:
    """The processor time of calls on warm workers, beside that of as many bare interpreters."""
    warm = [Call(NOOP, (n,)) for n in range(10)]
    far.run(*warm)
    pids = {far.wait("started", call)[0]["pid"] for call in warm} | {far.agent_pid()}
    _finish(far, warm)
    calls = [Call(NOOP, (n,)) for n in range(CALLS)]
    far.send_blobs(calls)
    before = sum(map(_cpu_seconds, pids))
    far.run(*calls)
    _finish(far, calls)
    cpu = (sum(map(_cpu_seconds, pids)) - before) / CALLS
    bare = _mean_of_starts(far, "-c", "pass")
    return Row(
        "processor time of a call on a warm worker",
        f"{cpu * 1000:.2f} ms",
        f"{bare * 1000:.1f} ms: an interpreter's start",
        f"{cpu / bare:.3f}",
        Bound("<=", 0.1),
        cpu / bare,
    )


def _one(far: Far) -> Row:
    """The time of one call on a warm worker, beside that of a message to the agent."""
    far.run(Call(NOOP, (0,)), max_workers=1)
    calls, messages = [], []
    for n in range(30):
        call = Call(NOOP, (n,))
        manifest = [call.manifest()]
        settings = {"python": far.python, "prologue": [], "environment": {}, "max_workers": 1}
        began = time.perf_counter()
        far.client.send(protocol.run(run="run", pool=settings, calls=manifest))
        far.wait("result", call)
        calls.append(time.perf_counter() - began)
        began = time.perf_counter()
        far.client.request(protocol.have(blobs=[]))
        messages.append(time.perf_counter() - began)
    one, message = statistics.median(calls), statistics.median(messages)
    return Row(
        "one call on a warm worker",
        f"{one * 1000:.2f} ms",
        f"{message * 1000:.2f} ms: a message to the agent",
        f"{(one - message) * 1000:+.2f} ms",
        Bound("<=", 10, " ms more"),
        (one - message) * 1000,
    )


def _start(far: Far) -> Row:
    """The worker's own share of a job's start, beside the interpreter's."""
    far.submit(Call(NOOP, (1,)), command=["true"])
    worker = f"{far.facts['far_side']}/worker.py"
    batch = str(far.work_dir / "runs" / "run" / "b1")
    bare = _mean_of_starts(far, "-c", "pass")
    job = _mean_of_starts(far, worker, "--batch", batch)
    return Row(
        "processor time of a job with one call",
        f"{job * 1000:.0f} ms",
        f"{bare * 1000:.0f} ms: the bare interpreter",
        f"{(job - bare) * 1000:+.0f} ms",
        Bound("<=", 60, " ms more"),
        (job - bare) * 1000,
    )


def _mean_of_starts(far: Far, *command: str) -> float:
    """The mean processor time of several runs of the interpreter, as the shell counts it."""
    numbers = " ".join(map(str, range(STARTS)))
    timed = f'for i in {numbers}; do "$@"; done; times'
    argv = ["sh", "-c", timed, "sh", far.python, *command]
    last = far.client.request(protocol.command(argv=argv))["stdout"].splitlines()[-1]
    spent = sum(
        int(minutes) * 60 + float(seconds)
        for minutes, seconds in (word.rstrip("s").split("m") for word in last.split())
    )
    return spent / STARTS


def _finish(far: Far, calls: Sequence[Call]) -> None:
    ids = {call.id for call in calls}

    def results() -> int:
        return sum(e["event"] == "result" and e["call"] in ids for e, _ in list(far.events))

    wait_for(lambda: results() == len(ids))


def _cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100
