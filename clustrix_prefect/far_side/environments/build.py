"""Builds a virtual environment: beside the agent, or as a job.

`uv` builds it where it is to be had; where it is not, or fails because only pip is set up
for this site's package index, Python's own `venv` and pip do.
"""

import glob
import json
import os
import shutil
import signal
import subprocess
import sys
from typing import Any, Dict, List, Optional

from ..wire.files import draft_beside, make_dir, open_log, write_private
from .environments import Environment
from .locks import Heartbeat

_KEPT_LINES = 40
# Older ones do not know the wheels of today.
_OLDEST_PIP = (20, 3)
# Nothing of the login's may leak into what is built.
_LEFT_OUT = ("PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "PIP_USER", "PIP_TARGET", "PIP_PREFIX")
_PIP_OPTIONS = ["install", "--no-input", "--disable-pip-version-check"]


class BuildFailed(Exception):
    """The environment cannot be built; the text says why."""


def main(arguments: List[str]) -> None:
    """Build the environment of this directory, for this token."""
    path, token = arguments
    os.umask(0o077)
    signal.signal(signal.SIGTERM, _leave)
    environment = Environment(path)
    if environment.is_ready():
        return
    if not environment.lock.take_over(token):
        print("somebody else is building this environment", flush=True)
        return
    failure: Optional[str] = None
    with Heartbeat(environment.lock):
        try:
            build = Build(environment, token)
            build.run()
        except BuildFailed as error:
            failure = str(error)
        except SystemExit:
            failure = "the build was told to end (SIGTERM)"
        except OSError as error:
            failure = "{}: {}".format(error.filename or path, error.strerror or error)
        if failure is not None:
            shutil.rmtree(environment.draft(token), ignore_errors=True)
        environment.end(token, failure)


def _leave(*_: object) -> None:
    sys.exit(143)


class Build:
    """One attempt at building an environment."""

    def __init__(self, environment: Environment, token: str) -> None:
        self._place = environment
        self._token = token
        self._draft = environment.draft(token)
        self._python = os.path.join(self._draft, "bin", "python")
        self._wheels = os.path.join(environment.path, "wheels")
        with open(environment.recipe, encoding="utf-8") as file:
            self._recipe: Dict[str, Any] = json.load(file)
        self._variables = {
            name: value for name, value in os.environ.items() if name not in _LEFT_OUT
        }
        self._variables.update(NO_COLOR="1", UV_NO_PROGRESS="1", PIP_PROGRESS_BAR="off")
        self._tail: List[str] = []

    def run(self) -> None:
        """Build, try and publish it.

        Raises:
            BuildFailed: With the reason, and what the installer said last.
        """
        self._remove_drafts(but=os.path.realpath(self._place.link))
        self._write_requirements()
        self._unpack_wheels()
        uv = self._find_uv()
        if not (uv and self._build_with_uv(uv)):
            self._build_with_pip()
        if not self._try([self._python, "-c", "pass"]):
            raise BuildFailed(self._because("its interpreter does not start"))
        if self._place.is_ready():
            # Our lock was broken while this process was stopped, and another build is done.
            shutil.rmtree(self._draft, ignore_errors=True)
            return
        self._remove_drafts(but=self._draft)
        self._place.publish(self._token)
        self._say("Ready: {}".format(self._place.python))

    def _remove_drafts(self, but: str) -> None:
        """Remove what other builds left behind, or made and cannot be used any more."""
        for path in glob.glob(os.path.join(glob.escape(self._place.path), "env.*")):
            if os.path.realpath(path) != os.path.realpath(but):
                shutil.rmtree(path, ignore_errors=True)

    def _write_requirements(self) -> None:
        for name in ("requirements", "constraints"):
            text = "".join(line + "\n" for line in self._recipe[name])
            write_private(self._file(name), text.encode("utf-8"))

    def _file(self, name: str) -> str:
        return os.path.join(self._place.path, name + ".txt")

    def _unpack_wheels(self) -> None:
        """Give the wheels that were sent the names that installers read."""
        make_dir(self._wheels)
        for name, blob in self._recipe["wheels"].items():
            target = os.path.join(self._wheels, os.path.basename(name))
            if not os.path.exists(target):
                _copy(blob, target)

    # --- uv -------------------------------------------------------------------------------

    def _find_uv(self) -> Optional[str]:
        if not self._recipe["use_uv"]:
            return None
        there = shutil.which("uv") or shutil.which("uv", path=os.path.expanduser("~/.local/bin"))
        if there is None and self._recipe["uv"]:
            there = os.path.join(self._place.path, "uv")
            if not os.path.exists(there):
                _copy(self._recipe["uv"], there, mode=0o700)
        return there if there and self._try([there, "--version"]) else None

    def _build_with_uv(self, uv: str) -> bool:
        self._say("Building with uv for Python {}".format(self._recipe["python"]))
        made = self._try([uv, "venv", "--quiet", "--python", self._recipe["python"], self._draft])
        if not made:
            return False
        command = [uv, "pip", "install", "--python", self._python]
        # uv's own compiling fails under 3.6; there each first import does it.
        if self._install(command + (["--compile-bytecode"] if self._is_recent() else [])):
            return True
        self._say("uv did not manage; trying pip")
        shutil.rmtree(self._draft, ignore_errors=True)
        return False

    def _is_recent(self) -> bool:
        return self._try([self._python, "-c", "import sys; sys.exit(sys.version_info < (3, 7))"])

    # --- venv and pip -----------------------------------------------------------------------

    def _build_with_pip(self) -> None:
        base = self._recipe["python"]
        if not os.path.isabs(base):
            raise BuildFailed(self._because("there is no Python {}".format(base)))
        self._say("Building with venv and pip for {}".format(base))
        if self._try([base, "-m", "venv", self._draft]):
            pip = [self._python, "-m", "pip"]
            self._renew(pip)
        else:
            # Debian keeps what brings pip into an environment in a package of its own.
            shutil.rmtree(self._draft, ignore_errors=True)
            if not self._try([base, "-m", "venv", "--without-pip", self._draft]):
                raise BuildFailed(self._because("`{} -m venv` failed".format(base)))
            pip = self._pip_from_elsewhere(base)
        if not self._install(pip + _PIP_OPTIONS):
            raise BuildFailed(self._because("the packages could not be installed"))

    def _pip_from_elsewhere(self, base: str) -> List[str]:
        sent = glob.glob(os.path.join(glob.escape(self._wheels), "pip-*.whl"))
        if sent:
            return [self._python, os.path.join(sent[0], "pip")]
        pip = [base, "-m", "pip", "--python", self._python]
        if not self._try(pip + ["--version"]):
            raise BuildFailed(
                "Python's `ensurepip` is missing there, and there is neither pip nor uv. "
                "Have the package that brings it installed (python3-venv on Debian), or install "
                "uv where the flow runs: it is then sent along"
            )
        return pip

    def _renew(self, pip: List[str]) -> None:
        """Have a pip that knows the wheels of today; without one, the old must do."""
        program = "import pip; print(pip.__version__)"
        output = subprocess.check_output([self._python, "-c", program], env=self._variables)
        version = tuple(int(part) for part in output.decode("ascii").split(".")[:2])
        if version < _OLDEST_PIP:
            self._try(pip + _PIP_OPTIONS + self._sources() + ["--upgrade", "pip"])

    # --- both ---------------------------------------------------------------------------------

    def _install(self, command: List[str]) -> bool:
        if not self._recipe["requirements"]:
            return True
        options = ["-r", self._file("requirements")]
        if self._recipe["constraints"]:
            options += ["-c", self._file("constraints")]
        return self._try(command + self._sources() + options)

    def _sources(self) -> List[str]:
        """Where packages come from: the wheels that were sent, or what this host is set up for."""
        return ["--no-index", "--find-links", self._wheels] if self._recipe["wheels"] else []

    def _try(self, command: List[str]) -> bool:
        """Run a command, passing on what it prints; whether it succeeded."""
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            env=self._variables,
            cwd=self._place.path,
        )
        assert process.stdout is not None
        try:
            for line in process.stdout:
                self._say(line.decode("utf-8", "replace").rstrip())
        except BaseException:
            process.kill()
            raise
        finally:
            process.stdout.close()
            returncode = process.wait()
        return returncode == 0

    def _say(self, line: str) -> None:
        # The address of an index may have a user's name in it.
        if line and not line.startswith("Looking in indexes"):
            self._tail = (self._tail + [line])[-_KEPT_LINES:]
            with os.fdopen(open_log(self._place.log(self._token)), "a", encoding="utf-8") as file:
                file.write(line + "\n")

    def _because(self, what: str) -> str:
        return "{}:\n{}".format(what, "\n".join(self._tail))


def _copy(source: str, target: str, mode: int = 0o600) -> None:
    """A blob of the store under a name of its own; a link would share its times and mode."""
    draft = draft_beside(target)
    shutil.copyfile(source, draft)
    os.chmod(draft, mode)
    os.rename(draft, target)
