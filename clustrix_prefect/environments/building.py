"""Which interpreter runs a task's calls, and making it ready before the first of them.

A managed environment has its path before it is built, because the path is made of what is in
it: `interpreter_for` answers at once, so that calls can be packed, and `prepare` does the work.
"""

from __future__ import annotations

import json
import logging
import secrets
import sys
import tempfile
import threading
import time
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

from clustrix_prefect.clusters.environment import ManagedEnvironment
from clustrix_prefect.clusters.requirements import Requirements
from clustrix_prefect.environments import preflight, uv, wheels
from clustrix_prefect.environments.distributions import constraints, pinned
from clustrix_prefect.environments.interpreters import FarPython, ask
from clustrix_prefect.environments.preflight import Code
from clustrix_prefect.environments.wheels import Target
from clustrix_prefect.errors import EnvironmentNotBuilt, PythonVersionMismatch
from clustrix_prefect.far_side.wire import layout, protocol
from clustrix_prefect.packaging.identity import digest, sha256
from clustrix_prefect.schedulers.scheduler import JobSpec
from clustrix_prefect.sessions.session import Session
from clustrix_prefect.task_resources import Resources

Say = Callable[[int, str], None]

_CLIENT = preflight.CLIENT
_WATCH_SECONDS = 10.0
_MOST_ATTEMPTS = 2
# Where neither the build nor the cluster's default says.
_BUILD_RESOURCES = Resources.of(time="01:00:00")


@dataclass(frozen=True)
class Base:
    """The interpreter that an environment is made for.

    Attributes:
        python: Its path, or its version if `uv` has to bring it.
        target: What packages have to fit.
        has_uv: Whether the cluster has a `uv`.
    """

    python: str
    target: Target
    has_uv: bool


@dataclass(frozen=True)
class Recipe:
    """An environment to be built.

    Attributes:
        name: Of its directory: a hash of everything below.
        requirements: What is in it.
        base: For which interpreter.
    """

    name: str
    requirements: Requirements
    base: Base

    @classmethod
    def of(cls, requirements: Requirements, base: Base) -> Recipe:
        target = base.target
        parts = [requirements.lines, requirements.constraints, target.version, target.libc]
        name = digest(base.python, target.platform, *(json.dumps(part) for part in parts))[:16]
        return cls(name, requirements, base)


_of_sessions: WeakKeyDictionary[Session, Environments] = WeakKeyDictionary()
_lock = threading.Lock()


def environments_of(session: Session) -> Environments:
    """Return what the flow runs of an open cluster share of its environments."""
    with _lock:
        found = _of_sessions.get(session)
        if found is None:
            found = _of_sessions[session] = Environments(session)
        return found


class Environments:
    """The interpreters of one cluster.

    Args:
        session: The open connection.
    """

    def __init__(self, session: Session) -> None:
        self._session: Session = weakref.proxy(session)
        self._base: Base | None = None
        self._recipes: dict[str, Recipe] = {}
        self._versions: dict[str, Mapping[str, str]] = {}  # of code that is ready
        self._lock = threading.Lock()

    def interpreter_for(self, code: Code) -> FarPython:
        """Return the interpreter that runs this code, which may still have to be built.

        Raises:
            ConfigurationError: What the environment is to hold cannot be told.
            PythonVersionMismatch: The cluster has no Python that will do.
        """
        session = self._session
        managed = session.cluster.managed_environment
        if managed is None:
            return FarPython(session.python, session.python_version)
        with self._lock:
            recipe = self._recipes.get(code.sha256)
            if recipe is None:
                if self._base is None:
                    self._base = self._choose_base(managed)
                recipe = Recipe.of(_requirements(managed, code, self._base), self._base)
                self._recipes[code.sha256] = recipe
        major, minor, *_ = recipe.base.target.version
        path = layout.environment_python(session.work_dir, recipe.name)
        return FarPython(path, (major, minor))

    def is_ready(self, code: Code) -> bool:
        """Return whether calls of this code can be sent at once."""
        if code.sha256 in self._versions:
            return True
        return self._session.cluster.managed_environment is None and preflight.is_needless(
            code, self.interpreter_for(code)
        )

    def prepare(self, code: Code, say: Say) -> None:
        """Build what is missing, and look whether the code can run there. Takes its time.

        Args:
            code: What is to run.
            say: Takes a level and a line for the flow's log.

        Raises:
            EnvironmentNotBuilt: The environment cannot be built.
            EnvironmentMismatch: The interpreter lacks what the code needs.
            ClustrixError: The cluster cannot be reached, or does not answer.
        """
        python = self.interpreter_for(code)
        managed = self._session.cluster.managed_environment
        if managed is not None:
            _Build(self._session, managed, self._recipes[code.sha256], say).run()
        found = preflight.PackagesFound()
        if not preflight.is_needless(code, python):
            found = preflight.check(self._session, code, python)
        for warning in found.warnings:
            say(logging.WARNING, f"{code.task_name}: {warning}")
        self._versions[code.sha256] = found.versions

    def expected_of_nodes(self, code: Code) -> dict[str, Any] | None:
        """What the node of a job must have, as the login node has; None if there are no jobs."""
        if self._session.scheduler is None:
            return None
        return {
            "python": list(self.interpreter_for(code).version),
            "modules": [name for name in code.packages if name not in sys.stdlib_module_names],
            "versions": dict(self._versions.get(code.sha256, {})),
        }

    # --- the interpreter to build on --------------------------------------------------------

    def _choose_base(self, managed: ManagedEnvironment) -> Base:
        session = self._session
        if session.cluster.interpreter is not None or session.python_version == _CLIENT:
            base = self._ask(session.python)
            if managed.accepts(list(base.target.version)):
                return base
        found = []
        if session.cluster.interpreter is None:
            found = session.request(protocol.find_pythons(prologue=session.prologue))["found"]
        fitting = [one for one in found if managed.accepts(one["version"])]
        # The newest comes first; among them the flow's own version, for its sake.
        fitting.sort(key=lambda one: tuple(one["version"][:2]) != _CLIENT)
        if fitting:
            return self._ask(fitting[0]["path"])
        return self._brought_by_uv(managed, found)

    def _ask(self, python: str) -> Base:
        facts = ask(self._session, python, {})["python"]
        version, libc = tuple(facts["version"]), tuple(facts["libc"])
        target = Target(version, facts["platform"], (libc[0], libc[1]))
        return Base(python, target, facts["uv"] is not None)

    def _brought_by_uv(
        self, managed: ManagedEnvironment, found: list[protocol.Interpreter]
    ) -> Base:
        """No interpreter there will do, but uv can bring one."""
        agents = self._ask(self._session.agent_python)
        has_uv = managed.use_uv and (agents.has_uv or uv.program_for(agents.target) is not None)
        if has_uv and managed.accepts([*_CLIENT, 0]):
            target = Target(_CLIENT, agents.target.platform, agents.target.libc)
            return Base(".".join(map(str, _CLIENT)), target, agents.has_uv)
        names = ", ".join(f"{'.'.join(map(str, one['version']))} ({one['path']})" for one in found)
        raise PythonVersionMismatch(
            f"The managed environment needs Python {managed.python};"
            f" {self._session.cluster.description} has {names or self._session.python}.",
            "Name one in the block's `python`, load one with `modules`, or install `uv`, which"
            " brings one along.",
        )


def _requirements(managed: ManagedEnvironment, code: Code, base: Base) -> Requirements:
    if not managed.is_automatic:
        return managed.listed
    imports = code.imports.required | code.imports.optional
    target = base.target
    # For another minor version, those here may not exist: there only what is imported is pinned.
    kept = constraints(imports, target.markers) if target.version[:2] == _CLIENT else []
    return Requirements(tuple(pinned(imports, target.version)), tuple(kept))


class _Build:
    """Has one environment built, or waits for whoever builds it already."""

    def __init__(
        self, session: Session, managed: ManagedEnvironment, recipe: Recipe, say: Say
    ) -> None:
        self._session = session
        self._managed = managed
        self._recipe = recipe
        self._say = say
        self._job: str | None = None
        self._token: str | None = None
        self._attempts = 0

    def run(self) -> None:
        """Return when the environment is there.

        Raises:
            EnvironmentNotBuilt: It cannot be built.
        """
        name, followed, offset, wait = self._recipe.name, None, 0, 0.0
        waited = False
        while True:
            found = self._session.request(
                protocol.environment(name=name, token=followed, offset=offset, wait=wait),
                timeout=_WATCH_SECONDS + 60,
            )
            for line in found["lines"]:
                self._say(logging.INFO, f"Environment {name}: {line}")
            offset, wait = found["offset"], _WATCH_SECONDS
            if found["state"] == "ready":
                if waited:
                    self._say(logging.INFO, f"Environment {name} is ready")
                return
            waited = True
            if found["state"] == "failed":
                raise self._failed(found["failure"])
            if found["state"] == "absent":
                self._begin()
                followed, offset = self._token, 0
            elif found["token"] != followed:
                followed = found["token"]
                self._say(
                    logging.INFO,
                    f"Environment {name} is being built on {found['host']} already; waiting",
                )
            elif self._job is not None:
                self._look_at_job()

    def _failed(self, why: str) -> EnvironmentNotBuilt:
        return EnvironmentNotBuilt(
            f"The managed environment of {self._session.cluster.description} could not be built:"
            f" {why}",
            "Change its requirements or its Python; without a package index there, use"
            " `wheelhouse=True`.",
        )

    def _begin(self) -> None:
        session, recipe = self._session, self._recipe
        if self._attempts == _MOST_ATTEMPTS:
            raise self._failed("the build ended without saying why, more than once.")
        self._attempts += 1
        base, lines = recipe.base, recipe.requirements.lines
        packages = ", ".join(lines) if lines else "no packages"
        self._say(
            logging.INFO,
            f"Building environment {recipe.name} on {session.cluster.description} for"
            f" {base.target}: {packages}",
        )
        self._token = secrets.token_hex(6)
        self._job = None
        python = base.python if base.python.startswith("/") else session.agent_python
        building = partial(
            protocol.build_environment,
            name=recipe.name,
            token=self._token,
            python=python,
            prologue=session.prologue,
            environment=session.cluster.environment,
            recipe={
                "python": base.python,
                "requirements": list(lines),
                "constraints": list(recipe.requirements.constraints),
                "wheels": self._send_wheels() if self._managed.wheelhouse else {},
                "use_uv": self._managed.use_uv,
                "uv": self._send_uv() if self._managed.use_uv else None,
            },
        )
        if not self._managed.build_in_job:
            session.request(building())
            return
        spec = self._job_spec(python, self._token)
        scheduler = session.scheduler
        assert scheduler is not None  # or the block would have refused build_in_job
        answer = session.request(
            building(
                script=scheduler.job_script(spec),
                command=scheduler.submit_command("{script}", spec),
            ),
            timeout=300,
        )
        if "returncode" not in answer:
            return  # somebody else was faster
        job = scheduler.parse_submit(answer["returncode"], answer["stdout"], answer["stderr"])
        self._job = scheduler.element_id(job, None)
        self._say(logging.INFO, f"{scheduler.name} job {self._job} builds it")

    def _job_spec(self, python: str, token: str) -> JobSpec:
        session = self._session
        directory = layout.environment_directory(session.work_dir, self._recipe.name)
        wanted = _BUILD_RESOURCES.merged(session.cluster.resources).merged(
            Resources.of(**self._managed.build_resources)
        )
        return JobSpec(
            name=f"environment-{self._recipe.name}",
            resources=wanted,
            array_size=None,
            directory=directory,
            command=layout.build_command(python, session.far_side, directory, token),
            prologue=session.worker_prologue,
            environment=session.cluster.environment,
        )

    def _look_at_job(self) -> None:
        """A job that ended without a word, or never began, will not say so itself."""
        session, scheduler = self._session, self._session.scheduler
        assert scheduler is not None
        assert self._job is not None
        assert self._token is not None
        asked = scheduler.details_command([self._job])
        told = session.request(protocol.command(argv=asked))["stdout"]
        status = scheduler.parse_details([self._job], told).get(self._job)
        if status is None:
            listing = scheduler.status_command(session.user_id)
            answer = session.request(protocol.command(argv=listing))
            if answer["returncode"] != 0:
                return  # a scheduler that cannot be reached has lost nothing
            status = scheduler.parse_status(answer["stdout"]).get(self._job)
        if status is not None and not status.state.is_final:
            return
        time.sleep(_WATCH_SECONDS / 2)  # its last words may be on their way
        how = status.state.value if status is not None else "lost"
        session.request(
            protocol.abandon_build(
                name=self._recipe.name,
                token=self._token,
                reason=f"{scheduler.name} job {self._job} is over without a result: {how}.",
            )
        )

    def _send_wheels(self) -> dict[str, str]:
        target = self._recipe.base.target
        self._say(logging.INFO, f"Collecting wheels for {target}")
        with tempfile.TemporaryDirectory() as directory:
            found = wheels.collect(self._recipe.requirements, target, Path(directory))
            size = sum(wheel.stat().st_size for wheel in found) / 1e6
            self._say(
                logging.INFO,
                f"Sending {len(found)} wheels, {size:.1f} MB: {', '.join(wheels.names(found))}",
            )
            return {wheel.name: self._send_file(wheel) for wheel in found}

    def _send_uv(self) -> str | None:
        base = self._recipe.base
        program = None if base.has_uv else uv.program_for(base.target)
        return self._send_file(program) if program is not None else None

    def _send_file(self, path: Path) -> str:
        content = path.read_bytes()
        self._session.ensure_blobs(content)
        return sha256(content)
