"""The user's modules as files in a directory, with the data files beside them.

Far away they are imported by Python's own machinery. The directory is described as any folder
that travels is (`far_side/wire/trees.py`): content-addressed, and the same wherever the checkout
is.
"""

from __future__ import annotations

import ast
import functools
import os
import re
import site
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.far_side.wire import trees
from clustrix_prefect.packaging.blobs import Blob
from clustrix_prefect.packaging.local_modules import LocalModules, ModuleFile

# What code says that looks for files beside it.
_LOOKS_BESIDE = re.compile(
    r"\b(__file__|__path__|resources|get_data|getfile|getsourcefile|resource_\w+|FileSystemLoader)\b"
)
# What code says that imports modules by names which it makes up.
_IMPORTS_BY_NAME = re.compile(r"\b(import_module|__import__|iter_modules|walk_packages|runpy)\b")
_NAMES_MODULES = re.compile(_IMPORTS_BY_NAME.pattern + r"|[\"']-m[\"']|[\"']-c[\"']")
_CODE = (".py", ".pyc", ".pyo", ".so", ".pyd")
_LEFT_OUT = {"__pycache__", "node_modules", "site-packages", "venv", "env"}
_MOST_FILES = 10_000
_MODULE_NAME = re.compile(r"[A-Za-z_]\w*(\.[A-Za-z_]\w*){0,7}\Z")


@dataclass(frozen=True)
class ModuleFiles:
    """A directory of modules, as it travels.

    Attributes:
        modules: The names of the modules in it.
        roots: The directories in it from which they are imported.
        everywhere: Those of them that any interpreter that is started here would look in.
        paths: Where in it each file of the user's is, by its path here.
        blobs: Its description first, and its files.
    """

    modules: tuple[str, ...] = ()
    roots: tuple[str, ...] = ()
    everywhere: tuple[str, ...] = ()
    paths: dict[str, str] | None = None
    blobs: tuple[Blob, ...] = ()


def named_in_text(tree: ast.AST, text: str) -> Iterator[str]:
    """Modules that code names in texts: for `-m`, in a program for `-c`, for `import_module`."""
    if not _NAMES_MODULES.search(text):
        return
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            if _MODULE_NAME.match(node.value):
                yield node.value
            elif "import" in node.value:
                try:
                    inner = ast.parse(node.value)
                except (SyntaxError, ValueError):
                    continue
                for statement in ast.walk(inner):
                    if isinstance(statement, ast.Import):
                        yield from (alias.name for alias in statement.names)
                    elif isinstance(statement, ast.ImportFrom) and statement.module:
                        yield statement.module


def collect(
    modules: LocalModules, own: Iterable[ModuleFile], texts: Iterable[str], data_limit: int
) -> ModuleFiles:
    """Return the modules as a directory.

    Args:
        modules: Those that may be imported.
        own: The files of modules that travel by value: they are there to be looked at.
        texts: The source of code that travels by value.
        data_limit: How many bytes of data files may come along.

    Raises:
        NotPortable: The data files are too many.
    """
    _take_whole_packages(modules)
    files = {file.path: file for file in modules.files.values()}
    own = list(own)
    sources = [*texts, *(module.source for module in modules.found.values())]
    looks_beside = any(_LOOKS_BESIDE.search(text) for text in sources)
    if not files and not looks_beside:
        return ModuleFiles()
    for each in own:
        files.setdefault(each.path, each)
    roots = {root: str(number) for number, root in enumerate(_roots(files.values()))}
    content: dict[str, Path] = {}
    paths: dict[str, str] = {}
    for file in files.values():
        inside = f"{roots[file.root]}/{file.inside}"
        content[inside] = Path(file.path)
        paths[file.path] = inside
    data = _Data(data_limit)
    for file in sorted(files.values(), key=lambda each: each.inside):
        directory = Path(file.path).parent
        below = f"{roots[file.root]}/{file.inside}".rpartition("/")[0]
        if file.is_package or ("." not in file.name and looks_beside):
            data.take(directory, below, recursive=True)
        elif looks_beside:
            data.take(directory, below, recursive=False)
    for inside, path in data.checked().items():
        content.setdefault(inside, path)
    return ModuleFiles(
        tuple(sorted({file.name for file in files.values()} - {each.name for each in own})),
        tuple(roots.values()),
        tuple(inside for root, inside in roots.items() if _is_everywhere(root)),
        paths,
        tuple(_as_blobs(content)),
    )


def _roots(files: Iterable[ModuleFile]) -> list[str]:
    """Return the directories that modules are imported from, in an order that no path decides."""
    first: dict[str, str] = {}
    for file in sorted(files, key=lambda each: each.inside):
        first.setdefault(file.root, file.inside)
    return list(first)


def _is_everywhere(root: str) -> bool:
    """Return whether an interpreter that is started here imports from this directory, too."""
    path = os.environ.get("PYTHONPATH", "").split(os.pathsep)
    return root in (os.getcwd(), *map(os.path.abspath, filter(None, path)), *_installed_paths())


@functools.cache
def _installed_paths() -> frozenset[str]:
    """Return the directories that `.pth` files name, as those of editable installations do."""
    return frozenset(
        line.strip()
        for directory in site.getsitepackages()
        for file in Path(directory).glob("*.pth")
        for line in file.read_text("utf-8", "replace").splitlines()
        if os.path.isabs(line.strip())
    )


def _take_whole_packages(modules: LocalModules) -> None:
    """Take in every module of a package in which some are imported by names that are made up."""
    packages = {
        name if module.is_package else name.rpartition(".")[0]
        for name, module in modules.found.items()
        if _IMPORTS_BY_NAME.search(module.source)
    }
    for name in sorted(packages):
        top = modules.files.get(name)
        if top is None or not top.is_package:
            continue
        directory = Path(top.path).parent
        for path in sorted(directory.rglob("*.py"))[:_MOST_FILES]:
            inside = path.relative_to(directory)
            if _LEFT_OUT.isdisjoint(inside.parts):
                modules.add(".".join([name, *inside.parent.parts, *_last(path)]))


def _last(path: Path) -> tuple[str, ...]:
    return () if path.stem == "__init__" else (path.stem,)


class _Data:
    """The files beside the modules that are no code.

    Args:
        limit: How many bytes they may have in all.
    """

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._found: dict[str, tuple[Path, int]] = {}
        self._seen: set[tuple[Path, bool]] = set()

    def take(self, directory: Path, below: str, *, recursive: bool) -> None:
        """Take in what lies in a directory."""
        if (directory, recursive) in self._seen or len(self._found) > _MOST_FILES:
            return
        self._seen.add((directory, recursive))
        try:
            entries = sorted(directory.iterdir())
        except OSError:
            return
        for entry in entries:
            if entry.name.startswith(".") or entry.name in _LEFT_OUT:
                continue
            if entry.is_dir():
                if recursive and not entry.is_symlink() and not (entry / "pyvenv.cfg").exists():
                    self.take(entry, f"{below}/{entry.name}", recursive=True)
            elif entry.is_file() and entry.suffix not in _CODE:
                self._found[f"{below}/{entry.name}"] = (entry, entry.stat().st_size)

    def checked(self) -> dict[str, Path]:
        """Return the files, by where they go.

        Raises:
            NotPortable: They are too large.
        """
        total = sum(size for _, size in self._found.values())
        if total > self._limit:
            largest, size = max(self._found.values(), key=lambda each: each[1])
            raise NotPortable(
                f"The data files beside the modules that the task uses amount to "
                f"{_mebibytes(total)}, and {_mebibytes(self._limit)} of them travel; the largest "
                f"is {largest}, {_mebibytes(size)}.",
                "Pass what the task reads as a `Folder` or `File` argument, or raise the cluster "
                "block's `module_data_limit`.",
            )
        return {inside: path for inside, (path, _) in self._found.items()}


def _mebibytes(size: int) -> str:
    return f"{size / 1024 / 1024:.1f} MiB"


def _as_blobs(content: dict[str, Path]) -> list[Blob]:
    entries: list[trees.Entry] = []
    blobs: dict[str, Blob] = {}
    directories: set[str] = set()
    for inside, path in content.items():
        try:
            blob = Blob.of_bytes(path.read_bytes(), inside)
            executable = bool(path.stat().st_mode & 0o100)
        except OSError as error:
            raise NotPortable(
                f"{path} cannot be read: {error.strerror or error}.", "Check its permissions."
            ) from error
        blobs.setdefault(blob.name, blob)
        entries.append([trees.FILE, inside, blob.size, blob.name, executable])
        while "/" in inside:
            inside = inside.rpartition("/")[0]
            directories.add(inside)
    entries += [[trees.DIRECTORY, inside] for inside in directories]
    return [Blob.of_bytes(trees.describe(entries), "list of modules"), *blobs.values()]
