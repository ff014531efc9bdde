"""What lies where in a work directory, and how the programs in it are started.

far_side/HASH          the far side's program, as it was sent, and as modules for the workers
store/SHA              blobs, named by their digest
runs/RUN/BATCH         the calls of a flow run, see `jobs/batch.py`
environments/NAME/env  virtual environments that were built for calls
agent.log              what agents say of themselves
"""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import List, Optional

# Where it is unless the block says otherwise.
WORK_DIR = "~/.clustrix-prefect"
PROGRAMS = "far_side"
RUNS = "runs"
ENVIRONMENTS = "environments"
# So much of the digest of the program is its directory's name.
_HASH = 16


def program_directory(work_dir: str, program: str) -> str:
    """Return where the program of this digest is installed."""
    return "/".join((work_dir, PROGRAMS, program[:_HASH]))


def batch_directory(work_dir: str, run: str, batch: str) -> str:
    """Return where the calls of a batch are."""
    return "/".join((work_dir, RUNS, run, batch))


def environment_directory(work_dir: str, name: str) -> str:
    """Return where an environment is built."""
    return "/".join((work_dir, ENVIRONMENTS, name))


def environment_python(work_dir: str, name: str) -> str:
    """Return the interpreter of an environment."""
    return environment_directory(work_dir, name) + "/env/bin/python"


# --- the worker's arguments ---------------------------------------------------------------------


def batch_command(
    python: str,
    program: str,
    directory: str,
    calls_per_job: int,
    index_variable: "Optional[str]" = None,
) -> "List[str]":
    """Return the words that run calls of a batch.

    Args:
        python: The interpreter.
        program: The program's directory.
        directory: The batch's.
        calls_per_job: How many calls an element of the array runs.
        index_variable: The variable that has the element's number; None where there is no array.
    """
    words = [python, program + "/worker.py", "--batch", directory]
    words += ["--calls-per-job", str(calls_per_job)]
    return words + (["--index-variable", index_variable] if index_variable else [])


def build_command(python: str, program: str, directory: str, token: str) -> "List[str]":
    """Return the words that build an environment in its directory."""
    return [python, program + "/worker.py", "--build", directory, token]


def serve_command(python: str, program: str, read_end: int, write_end: int) -> "List[str]":
    """Return the words that start a warm worker, which speaks over these descriptors."""
    return [python, program + "/worker.py", "--serve", str(read_end), str(write_end)]
