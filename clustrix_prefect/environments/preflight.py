"""Before the first call of a task is queued: can the interpreter there run its code?

Everything that stands in the way is told at once, with what to do about it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from clustrix_prefect.environments.distributions import Distribution, pinned, providers
from clustrix_prefect.environments.interpreters import FarPython, ask
from clustrix_prefect.errors import AgentError, EnvironmentMismatch
from clustrix_prefect.far_side.wire.installed import module_in
from clustrix_prefect.packaging.bundle import Bundle
from clustrix_prefect.packaging.imports import Imports, top_level
from clustrix_prefect.sessions.session import Session

CLIENT = (sys.version_info.major, sys.version_info.minor)


@dataclass(frozen=True)
class Code:
    """The code of a task, as far as it decides where it can run.

    Attributes:
        task_name: Whose it is.
        sha256: Names it, and what it imports.
        imports: What it imports from outside of the user's own code.
        sources: The source in it, to be compiled by another minor version: the file, the line
            where it begins, the text.
    """

    task_name: str
    sha256: str
    imports: Imports
    sources: Sequence[tuple[str, int, str]] = ()

    @classmethod
    def of(cls, task_name: str, bundle: Bundle) -> Code:
        """Return the code that a bundle brings."""
        return cls(task_name, bundle.needs_sha256, bundle.imports, bundle.sources)

    @property
    def packages(self) -> list[str]:
        """The top-level modules that it cannot do without."""
        return sorted({top_level(module) for module in self.imports.required})

    @property
    def modules(self) -> list[str]:
        """Those that have to be installed, also those inside of packages."""
        return sorted({module_in(name) for name in self.imports.required if not _is_standard(name)})

    @property
    def standard_names(self) -> list[str]:
        """What it takes from the standard library, whose parts differ between versions."""
        return sorted(name for name in self.imports.required if _is_standard(name))


@dataclass(frozen=True)
class PackagesFound:
    """What an interpreter that can run some code has.

    Attributes:
        versions: Of the packages that the code imports, where another major will not do.
        warnings: What is to be said of others.
    """

    versions: Mapping[str, str] = field(default_factory=dict)
    warnings: Sequence[str] = ()


def is_needless(code: Code, python: FarPython) -> bool:
    """Return whether the answer is known: nothing but the library of the same Python."""
    return python.version == CLIENT and sys.stdlib_module_names.issuperset(code.packages)


def check(session: Session, code: Code, python: FarPython) -> PackagesFound:
    """Ask the interpreter whether it has what the code needs.

    Raises:
        EnvironmentMismatch: It does not; with all that is missing.
        AgentError: It does not answer.
    """
    installed = {one.name: one for module in code.imports.required for one in providers(module)}
    question = {
        "modules": code.modules,
        "names": code.standard_names,
        "distributions": sorted(installed),
        "sources": list(code.sources) if python.version != CLIENT else [],
    }
    try:
        answer = ask(session, python.path, question)
    except AgentError as error:
        raise AgentError(
            f"{python} on {session.cluster.description} does not start: {error.what}",
            "Check the block's `python`, `modules` and `setup`.",
            type=error.type,
        ) from error
    version: list[int] = answer["python"]["version"]
    versions: dict[str, str] = answer["versions"]
    other, warnings = _other_versions(installed, versions, version)
    if _versions_are_chosen(session):
        warnings, other, versions = warnings + [text for _, text in other], [], {}
    missing: list[str] = answer["missing"]
    lacks = [
        *(_missing(module, version) for module in missing),
        *(text for _, text in other),
        *(_does_not_compile(error, version) for error in answer["errors"]),
    ]
    if lacks:
        wanted = [name for name in missing if not _is_standard(name)]
        requirements = sorted(
            {*pinned(wanted, version), *(one.requirement(version) for one, _ in other)}
        )
        raise EnvironmentMismatch(
            f"The task {code.task_name!r} cannot run under {python} on"
            f" {session.cluster.description}: {'; '.join(lacks)}.",
            _remedy(session, requirements, answer, bool(other)),
            lacks=lacks,
            requirements=requirements,
        )
    return PackagesFound(versions, warnings)


def _versions_are_chosen(session: Session) -> bool:
    """Return whether the user said which versions are wanted there, or that any will do."""
    managed = session.cluster.managed_environment
    listed = managed is not None and not managed.is_automatic
    return listed or session.cluster.package_versions == "any"


def _missing(module: str, version: Sequence[int]) -> str:
    if _is_standard(module):
        return f"`{module}` is not in the standard library of Python {_text(version)} there"
    names = " or ".join(one.name for one in providers(module))
    package = f" (of {names})" if names and names.lower() != module.lower() else ""
    return f"`{module}`{package} is not installed there"


def _other_versions(
    installed: Mapping[str, Distribution], there: Mapping[str, str], python: Sequence[int]
) -> tuple[list[tuple[Distribution, str]], list[str]]:
    """Packages in a version that does not agree with ours; those that cannot are warned of."""
    other: list[tuple[Distribution, str]] = []
    warnings: list[str] = []
    for name, version in sorted(there.items()):
        here = installed[name]
        if here.agrees_with(version):
            continue
        text = f"{name} is {version} there and {here.version} here"
        if here.supports(python):
            other.append((here, text))
        else:
            warnings.append(f"{text}, which needs Python {here.requires_python}")
    return other, warnings


def _does_not_compile(error: Mapping[str, Any], version: Sequence[int]) -> str:
    where = f"line {error['line']} of {error['file']}" if error["line"] else error["file"]
    return f"{where} is no Python {_text(version)}: {error['message']}"


def _remedy(
    session: Session,
    requirements: Sequence[str],
    answer: Mapping[str, Any],
    has_other_versions: bool,
) -> str:
    steps = []
    missing, errors, version = answer["missing"], answer["errors"], answer["python"]["version"]
    lines = ", ".join(requirements)
    environment = session.cluster.managed_environment
    standard = [name for name in missing if _is_standard(name)]
    if lines and environment is None:
        steps.append(
            f"Install {lines} there, name an interpreter that has it (`python`, `modules`,"
            " `conda_environment`, `virtual_environment`), or let the block's"
            " `managed_environment=ManagedEnvironment()` bring it."
        )
    elif lines:
        steps.append(f"Add {lines} to the requirements of the block's `managed_environment`.")
    elif set(missing) - set(standard):
        steps.append(
            "Install what is missing there, or name it in the requirements of the block's"
            " `managed_environment`; it is not installed here either."
        )
    if has_other_versions:
        steps.append('Or accept other versions: the block\'s `package_versions="any"`.')
    if standard or errors:
        which = "a newer" if tuple(version[:2]) < CLIENT else "an older"
        steps.append(
            f"Use {which} Python there: the block's `python`, or a module that brings one."
        )
    return " ".join(steps)


def _is_standard(name: str) -> bool:
    return top_level(name) in sys.stdlib_module_names


def _text(version: Sequence[int]) -> str:
    return ".".join(map(str, version[:2]))
