"""The user's modules that some code imports, found without importing anything."""

from __future__ import annotations

import ast
import importlib.machinery
import importlib.util
import sys
import tokenize
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from clustrix_prefect.packaging.ownership import is_user_file
from clustrix_prefect.packaging.source_files import parse, shown_path


@dataclass(frozen=True)
class LocalModule:
    """A module that travels whole.

    Attributes:
        name: The name by which it is imported.
        path: Its file, as shown in tracebacks.
        is_package: Whether it is a package's `__init__`.
        source: Its text.
        tree: The same, parsed; empty if it is no Python.
    """

    name: str
    path: str
    is_package: bool
    source: str
    tree: ast.Module = field(compare=False, repr=False)


@dataclass(frozen=True)
class ModuleFile:
    """Where a module is.

    Attributes:
        name: The name by which it is imported.
        path: Its file.
        inside: The same below the directory that it is imported from, by its name.
        is_package: Whether it is a package's `__init__`.
    """

    name: str
    path: str
    inside: str
    is_package: bool

    @classmethod
    def of(cls, name: str, path: str) -> ModuleFile:
        """Return the file of a module."""
        file = Path(path)
        is_package = file.stem == "__init__"
        parts = name.split(".")
        last = [*parts, file.name] if is_package else [*parts[:-1], f"{parts[-1]}{file.suffix}"]
        return cls(name, path, "/".join(last), is_package)

    @property
    def root(self) -> str:
        """The directory that it is imported from."""
        return str(Path(self.path).parents[self.inside.count("/")])


@dataclass
class LocalModules:
    """The modules that were found so far.

    Attributes:
        found: The modules, by name.
        files: Where each is that is in a file.
        compiled: Names of those that are not Python source, and can only be installed there.
    """

    found: dict[str, LocalModule] = field(default_factory=dict)
    files: dict[str, ModuleFile] = field(default_factory=dict)
    compiled: set[str] = field(default_factory=set)
    _seen: set[str] = field(default_factory=set)

    def follow(self, node: ast.AST, package: str) -> None:
        """Find what some code imports, wherever in it, and what that imports.

        Args:
            node: The code.
            package: The package that relative imports start from.
        """
        for name in imported_names(node, package):
            self.add(name)

    def add(self, name: str) -> None:
        """Find a module, the packages it is in, and what it imports."""
        parts = name.split(".")
        for length in range(1, len(parts) + 1):
            if not self._is_users(".".join(parts[:length])):
                return

    def _is_users(self, name: str) -> bool:
        if name in self._seen:
            return True
        spec = _find_spec(name)
        if spec is None or not _is_in_users_file(spec, name):
            return False
        self._seen.add(name)
        if spec.origin is None or not spec.has_location:
            return True  # a directory without `__init__`
        source = _source_of(spec)
        if source is None:
            self.compiled.add(name)
            return True
        is_package = spec.submodule_search_locations is not None
        try:
            tree = parse(source)
        except SyntaxError:  # importing it fails far away as it does here
            tree = ast.Module([], [])
        shown = shown_path(name, spec.origin)
        if spec.origin.endswith(".py"):
            self.files[name] = ModuleFile.of(name, spec.origin)
        self.found[name] = LocalModule(name, shown, is_package, source, tree)
        self.follow(tree, name if is_package else name.rpartition(".")[0])
        return True


def imported_names(tree: ast.AST, package: str) -> Iterator[str]:
    """Yield every module that code may import.

    What `from a import b` imports may be a module `a.b`, so that is named as well.
    """
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
        elif isinstance(node, ast.ImportFrom) and (base := _absolute(node, package)):
            yield base
            for alias in node.names:
                yield f"{base}.{alias.name}"


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _find_spec(name: str) -> importlib.machinery.ModuleSpec | None:
    """Return where a module is, without importing the packages it is in, as `find_spec` would."""
    loaded: Any = sys.modules.get(name)
    if loaded is not None:
        spec = getattr(loaded, "__spec__", None)
        if spec is not None or not getattr(loaded, "__file__", None):
            return spec if isinstance(spec, importlib.machinery.ModuleSpec) else None
        return importlib.util.spec_from_file_location(name, loaded.__file__)
    parent = name.rpartition(".")[0]
    path = None
    if parent:
        found = _find_spec(parent)
        if found is None or found.submodule_search_locations is None:
            return None
        path = list(found.submodule_search_locations)
    for finder in sys.meta_path:
        find = getattr(finder, "find_spec", None)
        if find is not None and (spec := find(name, path, None)) is not None:
            return spec  # type: ignore[no-any-return]
    return None


def _is_in_users_file(spec: importlib.machinery.ModuleSpec, name: str) -> bool:
    if spec.origin is not None and spec.has_location:
        return is_user_file(spec.origin, name)
    places = spec.submodule_search_locations
    return places is not None and any(is_user_file(place, name) for place in places)


def has_file(name: str) -> bool:
    """Return whether a user's module can be imported from a file, or from an archive."""
    try:
        spec = _find_spec(name)
    except (ImportError, ValueError, AttributeError):
        return False
    return spec is not None and _is_in_users_file(spec, name)


def _source_of(spec: importlib.machinery.ModuleSpec) -> str | None:
    assert spec.origin is not None
    try:
        if spec.origin.endswith(".py"):
            # Not by the loader: one that rewrites what it loads has no source to give.
            with tokenize.open(spec.origin) as file:
                return file.read()
        get_source = getattr(spec.loader, "get_source", None)
        return get_source(spec.name) if get_source is not None else None
    except (ImportError, OSError, SyntaxError, UnicodeError):
        return None
