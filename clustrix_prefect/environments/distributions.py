"""Installed packages: who provides a module here, and which requirement asks for the same."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import metadata
from typing import Any

from packaging.requirements import Requirement
from packaging.specifiers import InvalidSpecifier, SpecifierSet
from packaging.utils import canonicalize_name
from packaging.version import InvalidVersion, Version

from clustrix_prefect.packaging.imports import top_level


@dataclass(frozen=True)
class Distribution:
    """A package that is installed here.

    Attributes:
        name: As its index knows it: "scikit-learn".
        version: The installed one.
        requires_python: What its metadata asks of the interpreter, "" for anything.
        origin: What installs it from where this one came from, if not from an index.
        requires: What it needs in turn, as its metadata says.
        is_local: Whether it was installed from a directory or file of this machine.
    """

    name: str
    version: str
    requires_python: str = ""
    origin: str = ""
    requires: tuple[str, ...] = ()
    is_local: bool = False

    def supports(self, python: Sequence[int]) -> bool:
        """Return whether this very version can be installed for a Python."""
        try:
            allowed = SpecifierSet(self.requires_python)
        except InvalidSpecifier:
            return True
        return allowed.contains(".".join(map(str, python)), prereleases=True)

    def requirement(self, python: Sequence[int]) -> str:
        """Return the requirement line for a Python: this version, if there is one for it."""
        if not self.supports(python):
            return self.name
        return self.pin

    @property
    def pin(self) -> str:
        """The requirement line for this version."""
        # A local version ("2.3.0+cu121") names a build that other indexes do not have.
        return self.origin or f"{self.name}=={self.version.partition('+')[0]}"

    def agrees_with(self, version: str) -> bool:
        """Whether another version of the package can be taken for this one: the same major."""
        try:
            return Version(version).release[0] == Version(self.version).release[0]
        except InvalidVersion:
            return version == self.version


def providers(module: str) -> list[Distribution]:
    """Return the installed packages that a module comes from; several share a namespace package."""
    names = dict.fromkeys(_packages().get(top_level(module), ()))
    if len(names) > 1:
        names = dict.fromkeys(_with_file(names, module)) or names
    return [_distribution(name) for name in names]


def pinned(modules: Iterable[str], python: Sequence[int]) -> list[str]:
    """Requirement lines that bring these modules as they are here, sorted."""
    found = {one.name: one for module in modules for one in providers(module)}
    return sorted(one.requirement(python) for one in found.values())


def constraints(modules: Iterable[str], markers: Mapping[str, str]) -> list[str]:
    """Lines that keep what these modules' packages need in turn at the versions here, sorted.

    Args:
        modules: What is imported.
        markers: What the markers of requirements ask about the far interpreter. It has to be of
            the same minor version: for another one the versions here may not exist.
    """
    direct = {canonicalize_name(one.name) for module in modules for one in providers(module)}
    followed: set[tuple[str, str]] = set()
    pending = [(name, "") for name in direct]
    while pending:
        each = name, extra = pending.pop()
        if each in followed or (found := _installed(name)) is None:
            continue
        followed.add(each)
        for requirement in map(Requirement, found.requires):
            if requirement.marker is None or requirement.marker.evaluate(
                {**markers, "extra": extra}
            ):
                needed = canonicalize_name(requirement.name)
                pending += [(needed, other) for other in ("", *requirement.extras)]
    names = {name for name, _ in followed} - direct
    return sorted(_distribution(name).pin for name in names if not _distribution(name).is_local)


def _installed(name: str) -> Distribution | None:
    try:
        return _distribution(name)
    except metadata.PackageNotFoundError:
        return None


def _with_file(names: Iterable[str], module: str) -> list[str]:
    """Return those of the packages that hold the longest part of the module's path."""
    parts = module.split(".")
    for length in range(len(parts), 1, -1):
        path = "/".join(parts[:length])
        wanted = (f"{path}.py", f"{path}/", f"{path}.")
        fitting = [name for name in names if any(f.startswith(wanted) for f in _files(name))]
        if fitting:
            return fitting
    return []


@cache
def _packages() -> dict[str, list[str]]:
    return dict(metadata.packages_distributions())


@cache
def _files(name: str) -> tuple[str, ...]:
    return tuple(str(path) for path in metadata.distribution(name).files or ())


@cache
def _distribution(name: str) -> Distribution:
    found = metadata.distribution(name)
    text = found.read_text("direct_url.json")  # where it came from, if not from an index (PEP 610)
    source = json.loads(text) if text else {}
    return Distribution(
        name=found.metadata["Name"],
        version=found.version,
        requires_python=str(found.metadata.json.get("requires_python", "")),
        origin=_origin(found.metadata["Name"], source),
        requires=tuple(found.requires or ()),
        is_local=str(source.get("url", "")).startswith("file:"),
    )


def _origin(name: str, source: Mapping[str, Any]) -> str:
    """Return the repository that a package was installed from."""
    repository = source.get("vcs_info")
    return (
        f"{name} @ {repository['vcs']}+{source['url']}@{repository['commit_id']}"
        if repository
        else ""
    )
