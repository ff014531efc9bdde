"""Other interpreters that run packaged calls, without a connection or a server in between."""

from __future__ import annotations

import base64
import json
import logging
import shutil
import subprocess
from contextvars import copy_context
from pathlib import Path
from typing import Any

import cloudpickle

import clustrix_prefect.far_side
from clustrix_prefect.dispatch.call import Call, Package
from clustrix_prefect.environments.interpreters import FarPython
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.far_side.store.store import Store
from clustrix_prefect.far_side.wire.chunks import ChunkList
from clustrix_prefect.packaging.arguments import pack_arguments
from clustrix_prefect.packaging.blobs import Blob
from clustrix_prefect.packaging.function_bundles import FunctionBundles
from clustrix_prefect.packaging.ownership import plain_function
from clustrix_prefect.packaging.results import open_result
from clustrix_prefect.task_resources import Resources

_ROOT = str(Path(__file__).parents[2])
_SERVE = """
import base64, json, os, sys

def serve():
    # This repository, which an editable installation puts there, is only at home.
    sys.path[:] = [path for path in sys.path if path != sys.argv[3]]
    sys.path[0] = sys.argv[1]
    from clustrix_far_side.standins import importer
    from clustrix_far_side.worker import call as calls
    sys.path[0] = os.path.join(sys.argv[1], "vendor")
    importer.install()
    blobs = calls.BlobCache(sys.argv[2])
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    for line in sys.stdin:
        lines = []
        trace = {"pid": os.getpid(), "job": None, "started": 0}
        header, body = calls.run(json.loads(line), blobs, lines.append, trace)
        answers.write(json.dumps([header, base64.b64encode(body).decode(), lines]) + "\\n")
        answers.flush()

if __name__ == "__main__":  # a call may start interpreters of its own
    serve()
"""


class Elsewhere:
    """An interpreter that is given one packaged call after another.

    Args:
        python: The interpreter.
        directory: For its program and the blobs.
    """

    def __init__(self, python: str, directory: Path) -> None:
        program = directory / "program"
        sources = Path(clustrix_prefect.far_side.__file__).parent
        vendor = Path(cloudpickle.__file__).parent
        if not program.exists():
            ignored = shutil.ignore_patterns("__pycache__")
            shutil.copytree(sources, program / "clustrix_far_side", ignore=ignored)
            shutil.copytree(vendor, program / "vendor" / "cloudpickle", ignore=ignored)
        self._store = directory / "store"
        self._store.mkdir(exist_ok=True)
        (directory / "serve.py").write_text(_SERVE)
        argv = [python, str(directory / "serve.py"), str(program), str(self._store), _ROOT]
        self._process = subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        version = subprocess.run(
            [python, "-c", "import sys; print(*sys.version_info[:2])"],
            capture_output=True,
            text=True,
            check=True,
        )
        major, minor = map(int, version.stdout.split())
        self.version = (major, minor)
        self.lines: list[Any] = []
        self.peak_memory = 0

    def package(self, function: Any, *args: Any, **kwargs: Any) -> Package:
        """A call as it would travel to this interpreter."""
        name = getattr(function, "__name__", "function")
        bundles = FunctionBundles(plain_function(function), self.version, name)
        arguments = pack_arguments(args, kwargs, self.version, name, home=bundles.home.module)
        function = bundles.for_arguments(arguments.met)
        code = Code.of(name, function)
        return Package(function, arguments, code, FarPython("python", self.version))

    def run(self, package: Package) -> Any:
        """What a packaged call comes to: its value, or what it raises."""
        store = Store(str(self._store))
        arguments = package.arguments
        for blob in (
            *package.needs,
            Blob.whole(arguments.payload, arguments.payload_sha256, "arguments"),
        ):
            if store.missing([blob.name]):
                assert blob.source is not None
                draft = self._store / "draft"
                with blob.source() as source:
                    draft.write_bytes(source.read(0, source.size))
                store.place(str(draft), blob.chunks or ChunkList(blob.size, [blob.name]))
        call = Call(
            task_key="task",
            task_name="task",
            task_run_id="",
            task_run_name="task-0",
            package=package,
            resources=Resources(),
            context={"log_prints": True, "log_level": 20},
            timeout_seconds=None,
            post=lambda event: None,
            logger=logging.LoggerAdapter(logging.getLogger("test")),
            log_context=copy_context(),
        )
        call.name_attempt("run", b"k" * 32)
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(call.manifest()) + "\n")
        self._process.stdin.flush()
        header, body, self.lines = json.loads(self._process.stdout.readline())
        self.peak_memory = header["peak_memory"]
        return open_result(
            call.attempt.key, call.id, call.attempt.number, header, base64.b64decode(body)
        )

    def call(self, function: Any, *args: Any, **kwargs: Any) -> Any:
        """Package a call, and run it."""
        return self.run(self.package(function, *args, **kwargs))

    def close(self) -> None:
        assert self._process.stdin is not None
        self._process.stdin.close()
        self._process.wait(60)
