"""What a job runs: the calls of a batch, or whatever the agent hands a warm worker.

A job starts an interpreter for each call, so what is imported here, directly or not, is
counted in milliseconds: see `light`.
"""

import _thread
import os
import sys
import time

from ..jobs.batch import BatchDirectory, Process, output_sizes
from ..standins import importer
from ..wire.fast_stdlib import from_json
from ..wire.files import open_late
from . import call as calls
from .capture import Surroundings, flush_output, leave_child, open_output

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, List, Optional

# How long a job stays for what its calls have left running.
GRACE_SECONDS = 10.0
LEFT_BEHIND = (
    "clustrix-prefect: the calls have their results; what they left running (threads, functions of"
    " atexit) was ended after {:g} s\n"
)
_USAGE = (
    "usage: worker.py --batch DIR [--index-variable NAME] [--calls-per-job N] | --serve R W"
    " | --build DIR TOKEN"
)


def main(arguments: "List[str]") -> None:
    """Run as the arguments say."""
    open_output()
    _enter_virtual_environment()
    if arguments[:1] == ["--batch"]:
        options = dict(zip(arguments[::2], arguments[1::2]))  # noqa: B905 (3.10)
        run_batch(
            options["--batch"],
            options.get("--index-variable"),
            int(options.get("--calls-per-job", "1")),
        )
    elif arguments[:1] == ["--serve"]:
        from .warm import serve

        serve(int(arguments[1]), int(arguments[2]))
    elif arguments[:1] == ["--build"]:
        from ..environments import build

        build.main(arguments[1:])
    else:
        sys.exit(_USAGE)


def _enter_virtual_environment() -> None:
    """Let programs of the virtual environment that this interpreter belongs to be found."""
    if sys.prefix == sys.base_prefix:
        return
    programs = os.path.join(sys.prefix, "bin")
    path = os.environ.get("PATH", os.defpath)
    os.environ["VIRTUAL_ENV"] = sys.prefix
    if programs not in path.split(os.pathsep):
        os.environ["PATH"] = programs + os.pathsep + path


# --- a batch job --------------------------------------------------------------------------


def run_batch(path: str, index_variable: "Optional[str]", calls_per_job: int) -> None:
    """Run this job's share of a batch."""
    batch = BatchDirectory(path)
    first = int(os.environ[index_variable]) * calls_per_job if index_variable else 0
    importer.install()
    blobs = calls.BlobCache(batch.store)
    surroundings = Surroundings()
    process = Process(os.environ.get("CLUSTRIX_PREFECT_JOB"))
    for call in _read_calls(batch.manifest, first, calls_per_job):
        _run_in_batch(batch, call, blobs, process, surroundings)
        surroundings.restore()
    _end_within(GRACE_SECONDS)


def _end_within(seconds: float) -> None:
    """End this process, should threads or functions that a call left keep it from ending.

    Its calls have their results: a job that stays takes a node, up to its limit of time.
    """

    def end() -> None:
        time.sleep(seconds)
        os.write(2, LEFT_BEHIND.format(seconds).encode("ascii"))
        flush_output()
        os._exit(0)

    # Not of `threading`, which would wait for it.
    _thread.start_new_thread(end, ())


def _read_calls(manifest: str, first: int, count: int) -> "List[Dict[str, Any]]":
    mine = []
    with open_late(manifest) as file:
        for number, line in enumerate(file):
            if number >= first + count:
                break
            if number >= first:
                mine.append(from_json(line.decode("ascii")))
    return mine


def _run_in_batch(
    batch: BatchDirectory,
    call: "Dict[str, Any]",
    blobs: calls.BlobCache,
    process: Process,
    surroundings: Surroundings,
) -> None:
    id, trace = call["id"], process.trace()
    batch.write_started(trace, id)
    header, body = calls.run(call, blobs, lambda line: batch.append_line(id, line), trace)
    leave_child(trace)
    surroundings.restore_output()
    header["output_end"] = output_sizes()
    batch.write_result(header, body)
