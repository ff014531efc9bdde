"""Virtual environments on the cluster, each built once and named by what is in it.

environments/NAME/
    recipe.json     what to install, and for which interpreter
    env             a link to the finished one; it appears when all is in place
    env.TOKEN/      an environment, finished or being built
    lock/           held while one is being built
    TOKEN.log       what the build printed
    TOKEN.json      how it ended

An environment keeps its absolute path inside itself, so it is built where it stays and a link
is put on it: workers know its path before it is there.
"""

import json
import os
import signal
import subprocess
import threading
import time
from typing import Any, Callable, Dict, List, Optional

from ..wire.failures import Failure
from ..wire.files import make_dir, open_log, read_optional, tail, write_whole
from ..wire.login import after_prologue
from ..wire.protocol import BuildBegun, BuildState
from . import commands
from .locks import Lock

_LOOK_SECONDS = 0.2
_LOG_BYTES = 65536
_SCRIPT = "build.sh"


class Environment:
    """The place of one environment."""

    def __init__(self, path: str) -> None:
        self.path = path
        self.recipe = os.path.join(path, "recipe.json")
        self.link = os.path.join(path, "env")
        self.python = os.path.join(self.link, "bin", "python")
        self.lock = Lock(os.path.join(path, "lock"))

    def draft(self, token: str) -> str:
        """Return where a build puts its environment."""
        return os.path.join(self.path, "env." + token)

    def log(self, token: str) -> str:
        """Return what a build printed."""
        return os.path.join(self.path, token + ".log")

    def is_ready(self) -> bool:
        """Whether it can be used: an interpreter that was removed under it makes it useless."""
        return os.access(self.python, os.X_OK)

    def _note_use(self) -> None:
        try:
            os.utime(self.recipe)
        except OSError:  # a full disk, or a quota
            pass

    def last_use(self) -> float:
        """Return when a flow asked for it last."""
        try:
            return os.stat(self.recipe).st_mtime
        except OSError:
            return os.stat(self.path).st_mtime

    def is_being_built(self) -> bool:
        """Return whether somebody is at it."""
        self.lock.break_if_stale()
        return self.lock.owner() is not None

    def publish(self, token: str) -> None:
        """Let everybody see what this build made."""
        link = self.draft(token) + ".link"
        os.symlink("env." + token, link)
        os.rename(link, self.link)

    def end(self, token: str, failure: Optional[str]) -> None:
        """Say how a build ended, and let others go on."""
        outcome = {"failure": failure, "ended": time.time()}
        write_whole(os.path.join(self.path, token + ".json"), json.dumps(outcome).encode("ascii"))
        self.lock.release(token)

    def outcome(self, token: str) -> Optional[Dict[str, Any]]:
        """Return how a build ended, or None if it has not."""
        text = read_optional(os.path.join(self.path, token + ".json"))
        outcome: Optional[Dict[str, Any]] = json.loads(text) if text else None
        return outcome

    def state(self, token: Optional[str]) -> BuildState:
        """`state`: "ready", "building" with its `token`, "failed" with the `failure`, or "absent".

        Args:
            token: The build that is followed.
        """
        self.lock.break_if_stale()
        owner = self.lock.owner()
        # The lock is looked at first: it is given up after the link is there.
        if self.is_ready():
            self._note_use()
            return {"state": "ready", "python": self.python}
        if owner is not None:
            if owner["token"] == token and not owner["pid"]:
                self.lock.beat()  # for a job that is still queued
            return {"state": "building", "token": owner["token"], "host": owner["host"]}
        outcome = self.outcome(token) if token else None
        if outcome is not None and outcome["failure"]:
            return {"state": "failed", "failure": outcome["failure"]}
        return {"state": "absent"}

    def watch(self, token: Optional[str], offset: int, wait: float) -> BuildState:
        """Return the state, and what the build printed from this offset on; waits for news."""
        end = time.monotonic() + wait
        while True:
            found = self.state(token)
            lines, offset = self._lines(found.get("token", token), offset)
            found["lines"], found["offset"] = lines, offset
            news = lines or found["state"] != "building" or found["token"] != token
            if news or time.monotonic() > end:
                return found
            time.sleep(_LOOK_SECONDS)

    def _lines(self, token: Optional[str], offset: int) -> "tuple[List[str], int]":
        try:
            with open(self.log(token or ""), "rb") as file:
                file.seek(offset)
                whole, newline, _ = file.read(_LOG_BYTES).rpartition(b"\n")
        except OSError:
            return [], offset
        lines = whole.decode("utf-8", "replace").splitlines()
        return lines, offset + len(whole) + len(newline)


def begin(
    environment: Environment,
    token: str,
    recipe: Dict[str, Any],
    start: Callable[[], BuildBegun],
) -> BuildBegun:
    """Begin a build, unless another one is going on or none is needed.

    Args:
        environment: Its place.
        token: Names the build.
        recipe: What is to be in it.
        start: Begins the build, beside the agent or as a job.
    """
    make_dir(environment.path)
    if not environment.lock.acquire(token):
        return {"begun": False}
    if environment.is_ready():
        environment.lock.release(token)
        return {"begun": False}
    try:
        write_whole(environment.recipe, json.dumps(recipe).encode("ascii"))
        return start()
    except BaseException:
        environment.lock.release(token)
        raise


def submit(
    environment: Environment, token: str, script: str, command: List[str], prologue: str
) -> BuildBegun:
    """Submit the job that builds.

    Args:
        environment: Its place.
        token: Names the build.
        script: The job's script.
        command: The words that submit it; "{script}" stands for the script's path.
        prologue: Lines of a shell after which the command is found.
    """
    path = os.path.join(environment.path, _SCRIPT)
    make_dir(os.path.join(environment.path, "logs"))
    write_whole(path, script.encode("utf-8"))
    os.chmod(path, 0o700)
    argv = [path if part == "{script}" else part for part in command]
    ended = commands.run(argv, cwd=environment.path, prologue=prologue)
    begun = ended["returncode"] == 0
    if not begun:
        environment.lock.release(token)
    return {
        "begun": begun,
        "returncode": ended["returncode"],
        "stdout": ended["stdout"],
        "stderr": ended["stderr"],
    }


def start(
    environment: Environment,
    token: str,
    builder: List[str],
    prologue: str,
    variables_of_block: Dict[str, str],
) -> BuildBegun:
    """Start the process that builds.

    Args:
        environment: Its place.
        token: Names the build.
        builder: The command.
        prologue: Lines of a shell that go before it.
        variables_of_block: Variables.
    """
    argv, variables = after_prologue(builder, prologue, variables_of_block)
    output = open_log(environment.log(token))
    try:
        process = subprocess.Popen(
            argv,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=variables,
            cwd=environment.path,
            start_new_session=True,  # it goes on when this client has gone
        )
    except OSError as error:
        raise Failure("BuildNotStarted", "{}: {}".format(builder[0], error)) from None
    finally:
        os.close(output)

    def reap() -> None:
        returncode = process.wait()
        if environment.outcome(token) is None:
            environment.end(token, _ended_early(environment, token, returncode))

    threading.Thread(target=reap, name="clustrix-reap", daemon=True).start()
    return {"begun": True}


def _ended_early(environment: Environment, token: str, returncode: int) -> str:
    """Return what to say of a build that could not say itself how it ended."""
    how = "ended with exit status {}".format(returncode)
    if returncode < 0:
        how = "was killed ({})".format(signal.Signals(-returncode).name)
    return "the build {}. {}".format(how, tail(environment.log(token), size=2000)).strip()
