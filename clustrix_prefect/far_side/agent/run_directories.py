"""What each flow run has on the cluster: its batches, and which of their calls are done with.

Everything is in the directories, so that an agent that comes later finds it again. What is
remembered here only saves looking.
"""

import json
import os
import shutil
import signal
import time
from typing import Any, Dict, Iterable, List, Optional, Tuple

from ..jobs.batch import (
    DIRECT,
    PARTS,
    BatchDirectory,
    read_manifest,
    read_result,
    read_trace,
)
from ..jobs.worker_log import Orphan, WorkerLogs, find
from ..wire.files import make_dir, read_optional, remove, tail, write_private, write_whole
from ..wire.processes import HOST, process_start
from ..wire.protocol import Diagnosis
from .listing import about
from .watch import present, refresh_listing
from .workdir import WorkDir, plain_name

# Which agent serves a run, beside its batches: the dot keeps it from being taken for one.
_AGENT = ".agent"


class _Batch:
    """A batch as it is remembered: the calls that the client has not acknowledged."""

    def __init__(self, directory: BatchDirectory, left: Iterable[str]) -> None:
        self.directory = directory
        self.left = set(left)
        self.keep = False


class RunDirectories:
    """The flow runs in a work directory.

    Args:
        work_dir: The work directory.
    """

    def __init__(self, work_dir: WorkDir) -> None:
        self._work_dir = work_dir
        self._runs: Dict[str, Dict[str, _Batch]] = {}

    # --- calls come in --------------------------------------------------------------------

    def direct(self, run: str, make: bool = True) -> BatchDirectory:
        """Return the batch of a run's direct calls."""
        batches = self._runs.setdefault(run, {})
        if DIRECT not in batches:
            directory = self._work_dir.batch(run, DIRECT)
            if not make:
                return directory
            self._make(directory)
            batches[DIRECT] = _Batch(directory, ())
        elif make and not os.path.isdir(batches[DIRECT].directory.events):
            self._make(batches[DIRECT].directory)  # it was deleted under us
        return batches[DIRECT].directory

    def create(
        self, run: str, name: str, script: str, calls: List[Dict[str, Any]]
    ) -> BatchDirectory:
        """Write a new batch, ready to be submitted."""
        directory = self._work_dir.batch(run, name)
        try:
            self._make(directory)
            lines = [json.dumps(call).encode("ascii") + b"\n" for call in calls]
            write_private(directory.manifest, b"".join(lines))
            write_private(directory.about, about(calls))
            write_private(directory.script, script.encode("utf-8"), mode=0o700)
            write_private(directory.submitter, json.dumps(_me()).encode("ascii"))
        except OSError:
            shutil.rmtree(directory.path, ignore_errors=True)
            raise
        ids = [call["id"] for call in calls]
        self._runs.setdefault(run, {})[name] = _Batch(directory, ids)
        return directory

    def note_job(self, run: str, name: str, job: str) -> None:
        """Write down the scheduler's id of a batch."""
        write_whole(self._work_dir.batch(run, name).job, str(job).encode("utf-8"))

    @staticmethod
    def note_submission(batch: BatchDirectory, output: str) -> None:
        """Write down what the scheduler said, should the client never name the job."""
        write_whole(batch.submitted, output.encode("utf-8"))

    def discard(self, run: str, name: str) -> None:
        """Remove a batch that could not be submitted."""
        batch = self._runs.get(run, {}).pop(name, None)
        if batch is not None:
            shutil.rmtree(batch.directory.path, ignore_errors=True)

    @staticmethod
    def _make(directory: BatchDirectory) -> None:
        for part in PARTS:
            make_dir(os.path.join(directory.path, part))

    # --- an earlier client's calls --------------------------------------------------------

    def take_over(self, run: str, client: Optional[str], patience: float) -> None:
        """End the agent that served the same client until its connection broke.

        It may not have noticed, and would hand out calls that the client sends again.
        """
        if client is None:
            return
        path = os.path.join(make_dir(self._work_dir.run(run)), _AGENT)
        before = json.loads(read_optional(path) or "{}")
        if before.get("client") == client and _is_another_here(before):
            deadline = time.monotonic() + patience
            os.kill(before["pid"], signal.SIGTERM)
            while _is_another_here(before) and time.monotonic() < deadline:
                time.sleep(0.01)
        write_whole(path, json.dumps(dict(_me(), client=client)).encode("ascii"))

    def wait_for_submissions(self, run: str, patience: float) -> None:
        """Let other agents bring to its end what they were asked to submit.

        The process that asked may be gone, and another one wants to know what there is.
        """
        deadline = time.monotonic() + patience
        for directory in self._work_dir.batches(run):
            submitter = json.loads(read_optional(directory.submitter) or "{}")
            while (
                _is_another_here(submitter)
                and os.path.exists(directory.submitter)
                and not os.path.exists(directory.submitted)
                and time.monotonic() < deadline
            ):
                time.sleep(0.02)

    def open(self, run: str) -> Tuple[Dict[str, Dict[str, Any]], List[str]]:
        """Prepare a run.

        Returns:
            The calls that an earlier client left, and how they stand; and those that it
            acknowledged, whose ids must not be used again while their traces are kept.
        """
        make_dir(self._work_dir.run(run))
        known: Dict[str, Dict[str, Any]] = {}
        acknowledged: List[str] = []
        batches = self._runs.setdefault(run, {})
        for directory in self._work_dir.batches(run):
            name = os.path.basename(directory.path)
            # The client wrote each call's array index into its context.
            calls = {call["id"]: call for call in read_manifest(directory)}
            indices = {id: (call.get("context") or {}).get("index") for id, call in calls.items()}
            facts = {
                "batch": name,
                "job": read_optional(directory.job),
                "submit_output": read_optional(directory.submitted),
                "elements": 1 + max([0] + [index or 0 for index in indices.values()]),
            }
            states = _states(directory, calls)
            batches.setdefault(name, _Batch(directory, states))
            for id, state in states.items():
                task = calls[id].get("task") if id in calls else None
                known[id] = dict(facts, state=state, index=indices.get(id), task=task)
            acknowledged.extend(directory.done())
        return known, acknowledged

    def group(self, run: str, ids: Iterable[str]) -> List[Tuple[BatchDirectory, List[str]]]:
        """Return calls by the batch that they are in: its directory and the ids."""
        wanted = set(ids)
        groups = []
        for batch in self._runs.get(run, {}).values():
            mine = sorted(wanted & batch.left)
            if mine:
                groups.append((batch.directory, mine))
        return groups

    def orphans(self, run: str, ids: Iterable[str]) -> List[Orphan]:
        """Return the workers of an earlier agent that run these calls now."""
        directory = self._work_dir.batch(run, DIRECT)
        return WorkerLogs(directory).workers_of(ids)

    # --- questions ------------------------------------------------------------------------

    def look(self, run: str, ids: List[str]) -> Dict[str, str]:
        """Return how far calls have come, by a fresh look at the directories."""
        found = dict.fromkeys(ids, "absent")
        for directory in self._work_dir.batches(run):
            for id, state in _states(directory, ids).items():
                if id in found and state in ("started", "finished"):
                    found[id] = state
        return found

    def diagnose(self, run: str, ids: List[str]) -> Dict[str, Diagnosis]:
        """Return what there is to see of calls: the ends of their output, and the jobs' scripts."""
        present = self.look(run, ids)
        found = {}  # type: Dict[str, Diagnosis]
        for id in ids:
            directory = self._directory_of(run, id)
            if directory is not None:
                out, err = _output_of(directory, id)
                found[id] = {
                    "present": present[id],
                    "stderr_tail": err,
                    "stdout_tail": out,
                    "script": read_optional(directory.script) or "",
                    "directory": directory.path,
                }
        return found

    def _directory_of(self, run: str, id: str) -> Optional[BatchDirectory]:
        plain_name(id)
        for batch in self._runs.get(run, {}).values():
            directory = batch.directory
            if directory.is_direct:
                traced = find(directory, id, "started") is not None
            else:
                traced = os.path.exists(directory.event_file(id))
            if id in batch.left or traced:
                return directory
        return None

    # --- calls are done with --------------------------------------------------------------

    def acknowledge(self, run: str, ids: Iterable[str], keep: bool) -> None:
        """Remove what is left of calls whose result has arrived."""
        names = [plain_name(id) for id in ids]
        for key, batch in list(self._runs.get(run, {}).items()):
            directory = batch.directory
            mine = names if directory.is_direct else sorted(batch.left.intersection(names))
            if not mine:
                continue
            batch.left.difference_update(mine)
            batch.keep = batch.keep or keep
            if directory.is_direct or batch.left or batch.keep:
                directory.acknowledge(mine)
                if not batch.left:
                    # Script and logs stay for people to read; the calls' keys do not.
                    remove(directory.manifest)
            else:
                shutil.rmtree(directory.path, ignore_errors=True)
                del self._runs[run][key]

    def close(self, run: str, keep: bool) -> None:
        """Remove what a finished run has left, unless calls are unacknowledged."""
        batches = self._runs.pop(run, {})
        for batch in batches.values():
            left = batch.left
            if batch.directory.is_direct:
                left = set(_states(batch.directory, ()))
            if not left and not keep and not batch.keep:
                shutil.rmtree(batch.directory.path, ignore_errors=True)
        remove(os.path.join(self._work_dir.run(run), _AGENT))
        try:
            os.rmdir(self._work_dir.run(run))
        except OSError:  # something is still in it, or it was never made
            pass


def _me() -> Dict[str, Any]:
    """This agent, so that it can be told from any other process."""
    return {"host": HOST, "pid": os.getpid(), "process": process_start(os.getpid())}


def _is_another_here(agent: Dict[str, Any]) -> bool:
    """Return whether an agent that was written down is another process of this host, and lives."""
    if agent.get("host") != HOST or agent["pid"] == os.getpid():
        return False
    return bool(process_start(agent["pid"]) == agent["process"])


def _states(directory: BatchDirectory, submitted: Iterable[str]) -> Dict[str, str]:
    """Return how far the unacknowledged calls of a batch have come, by a fresh look."""
    done = directory.done()
    if directory.is_direct:
        states = WorkerLogs(directory).states()
        return {id: state for id, state in states.items() if id not in done}
    for path in (directory.results, directory.events):
        refresh_listing(path)
    ids = set(submitted) - done
    states = dict.fromkeys(ids, "submitted")
    states.update(dict.fromkeys(present(directory.events, ids), "started"))
    states.update(dict.fromkeys(present(directory.results, ids), "finished"))
    return states


def _output_of(directory: BatchDirectory, id: str) -> List[str]:
    """Return the last of a call's standard output and error."""
    trace, header = _account_of(directory, id)
    name = _log_name(directory, id, trace)
    starts, ends = trace.get("output", [0, 0]), header.get("output_end", [None, None])
    return [
        tail(os.path.join(directory.logs, name + ending), start, end)
        for ending, start, end in ((".out", starts[0], ends[0]), (".err", starts[1], ends[1]))
    ]


def _account_of(directory: BatchDirectory, id: str) -> List[Dict[str, Any]]:
    """Return what there is of a call's start and of its result's header."""
    if directory.is_direct:
        started, result = find(directory, id, "started"), find(directory, id, "result")
        return [started[0] if started else {}, result[0]["header"] if result else {}]
    lines, _ = read_trace(directory.event_file(id))
    try:
        header, _ = read_result(directory.result_file(id))
    except (OSError, ValueError):
        header = {}
    return [lines[0] if lines else {}, header]


def _log_name(directory: BatchDirectory, id: str, trace: Dict[str, Any]) -> str:
    """Return the name of the files that a call's output went to, without their ending."""
    if directory.is_direct:
        return "worker-{}".format(trace.get("pid"))
    for call in read_manifest(directory):
        if call["id"] == id:
            return str((call.get("context") or {}).get("index") or 0)
    return "0"
