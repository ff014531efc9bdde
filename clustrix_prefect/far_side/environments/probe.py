"""Asks an interpreter what it has: imports, versions, syntax, platform.

`ask` runs in the agent; `main` in the interpreter that is asked, started the way a worker is,
so that both see the same modules.
"""

import json
import os
import shutil
import subprocess
import sys
import sysconfig
import threading
from typing import Any, Dict, List, Optional

from ..wire import installed as having
from ..wire.failures import Failure
from ..wire.login import after_prologue
from ..wire.protocol import InterpreterFacts
from ..wire.sources import compile_source

ASK_TIMEOUT = 120.0
_MARKER = "clustrix-prefect answers: "
_PROGRAM = (
    "import sys; here = sys.argv[1]; sys.path[0] = here; "
    "from clustrix_far_side.environments import probe; "
    "sys.path[0] = here + '/vendor'; probe.main()"
)


# --- in the agent --------------------------------------------------------------------------


def ask(
    program: str,
    python: str,
    question: Dict[str, Any],
    prologue: str,
    environment: Dict[str, str],
) -> InterpreterFacts:
    """Start an interpreter as a worker would be started, and have it answer.

    Args:
        program: The directory of the far side's program.
        python: The interpreter.
        question: What it is asked; see `answer`.
        prologue: Lines of a shell that go before it.
        environment: Variables.

    Raises:
        Failure: "InterpreterFailed": it did not answer.
    """
    argv, variables = after_prologue(
        [python, "-c", _PROGRAM, program],
        prologue,
        environment,
    )
    # A prologue may read standard input, and a long variable may be refused: a pipe of its own.
    reader, writer = os.pipe()
    try:
        variables["CLUSTRIX_QUESTION"] = str(reader)
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=variables,
            pass_fds=(reader,),
            cwd=os.path.expanduser("~"),
            start_new_session=True,
        )
    except OSError as error:
        os.close(writer)
        raise Failure("InterpreterFailed", "{}: {}".format(python, error)) from None
    finally:
        os.close(reader)
    asked = json.dumps(question).encode("ascii")
    # What the prologue prints must be read meanwhile.
    threading.Thread(target=_put, args=(writer, asked), daemon=True).start()
    try:
        stdout, stderr = process.communicate(timeout=ASK_TIMEOUT)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, 9)
        process.communicate()
        raise Failure("InterpreterFailed", "it did not answer in time") from None
    _, found, text = stdout.decode("utf-8", "replace").rpartition(_MARKER)
    if not found:
        said = stderr.decode("utf-8", "replace").strip()[-2000:]
        raise Failure("InterpreterFailed", said or "it ended without a word")
    reply: InterpreterFacts = json.loads(text)
    return reply


def _put(descriptor: int, data: bytes) -> None:
    try:
        with os.fdopen(descriptor, "wb") as pipe:
            pipe.write(data)
    except BrokenPipeError:
        pass  # it has ended already, and says why on standard error


# --- in the interpreter --------------------------------------------------------------------


def main() -> None:
    """Answer the question that waits in the pipe."""
    with os.fdopen(int(os.environ.pop("CLUSTRIX_QUESTION")), "rb") as pipe:
        question = json.loads(pipe.read().decode("ascii"))
    print("\n" + _MARKER + json.dumps(answer(question)), flush=True)


def answer(question: Dict[str, Any]) -> Dict[str, Any]:
    """Return what this interpreter has.

    Args:
        question: `modules`; `names` of the standard library, with their modules;
            `distributions`, names of installed packages; `sources`, each the file, its line, the
            text.

    Returns:
        `missing`: the modules and names that cannot be found; `versions` of those distributions
        that are there; `errors`: for each source that does not compile `{file, line, message}`;
        and what the interpreter itself is.
    """
    return {
        "missing": having.missing(question.get("modules", ()))
        + having.lacking(question.get("names", ())),
        "versions": having.versions(question.get("distributions", ())),
        "errors": [
            error
            for file, line, source in question.get("sources", ())
            for error in [_syntax_error(file, line, source)]
            if error
        ],
        "python": {
            "executable": sys.executable,
            "version": list(sys.version_info[:3]),
            "platform": sysconfig.get_platform(),
            "libc": _libc(),
            "uv": _uv(),
        },
    }


def _syntax_error(file: str, line: int, source: str) -> Optional[Dict[str, Any]]:
    try:
        compile_source(source, file, line)
    except (SyntaxError, ValueError) as error:
        found = getattr(error, "lineno", None)
        return {"file": file, "line": found, "message": getattr(error, "msg", None) or str(error)}
    return None


def _uv() -> Optional[str]:
    """Return the uv that builds of environments will find, if any."""
    return shutil.which("uv") or shutil.which("uv", path=os.path.expanduser("~/.local/bin"))


def _libc() -> List[str]:
    """Return the C library and its version, which decide which wheels run here."""
    try:
        name, _, version = (os.confstr("CS_GNU_LIBC_VERSION") or "").partition(" ")
    except (AttributeError, ValueError, OSError):
        name, version = "", ""
    return [name, version] if name else ["", ""]
