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

from ..jobs.batch import PARTS, read_manifest
from ..jobs.worker_batch import DIRECT
from ..jobs.worker_log import Orphan, WorkerLogs
from ..wire.files import make_dir, read_optional, remove, tail, write_private, write_whole
from ..wire.processes import HOST, process_start
from ..wire.protocol import Diagnosis
from .listing import about
from .workdir import Batch, WorkDir, plain_name

# Which agent serves a run, beside its batches: the dot keeps it from being taken for one.
_AGENT = ".agent"


class _Batch:
    """A batch as it is remembered: the calls that the client has not acknowledged."""

    def __init__(self, directory: Batch, left: Iterable[str]) -> None:
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

    def direct(self, run: str, make: bool = True) -> Batch:
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

    def create(self, run: str, name: str, script: str, calls: List[Dict[str, Any]]) -> Batch:
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
    def note_submission(batch: Batch, output: str) -> None:
        """Write down what the scheduler said, should the client never name the job."""
        write_whole(batch.submitted, output.encode("utf-8"))

    def discard(self, run: str, name: str) -> None:
        """Remove a batch that could not be submitted."""
        batch = self._runs.get(run, {}).pop(name, None)
        if batch is not None:
            shutil.rmtree(batch.directory.path, ignore_errors=True)

    @staticmethod
    def _make(directory: Batch) -> None:
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
            states = directory.states(calls)
            batches.setdefault(name, _Batch(directory, states))
            for id, state in states.items():
                task = calls[id].get("task") if id in calls else None
                known[id] = dict(facts, state=state, index=indices.get(id), task=task)
            acknowledged.extend(directory.done())
        return known, acknowledged

    def group(self, run: str, ids: Iterable[str]) -> List[Tuple[Batch, List[str]]]:
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
            for id, state in directory.states(ids).items():
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

    def _directory_of(self, run: str, id: str) -> Optional[Batch]:
        plain_name(id)
        for batch in self._runs.get(run, {}).values():
            if id in batch.left or batch.directory.has_trace(id):
                return batch.directory
        return None

    # --- calls are done with --------------------------------------------------------------

    def acknowledge(self, run: str, ids: Iterable[str], keep: bool) -> None:
        """Remove what is left of calls whose result has arrived."""
        names = [plain_name(id) for id in ids]
        for key, batch in list(self._runs.get(run, {}).items()):
            directory = batch.directory
            mine = directory.among(names, batch.left)
            if not mine:
                continue
            batch.left.difference_update(mine)
            batch.keep = batch.keep or keep
            if directory.is_over(batch.left) and not batch.keep:
                shutil.rmtree(directory.path, ignore_errors=True)
                del self._runs[run][key]
                continue
            directory.acknowledge(mine)
            if not batch.left:
                # Script and logs stay for people to read; the calls' keys do not.
                remove(directory.manifest)

    def close(self, run: str, keep: bool) -> None:
        """Remove what a finished run has left, unless calls are unacknowledged."""
        batches = self._runs.pop(run, {})
        for batch in batches.values():
            left = batch.directory.left_at_end(batch.left)
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


def _output_of(directory: Batch, id: str) -> List[str]:
    """Return the last of a call's standard output and error."""
    trace, header = directory.account_of(id)
    name = directory.log_name(id, trace)
    starts, ends = trace.get("output", [0, 0]), header.get("output_end", [None, None])
    return [
        tail(os.path.join(directory.logs, name + ending), start, end)
        for ending, start, end in ((".out", starts[0], ends[0]), (".err", starts[1], ends[1]))
    ]
