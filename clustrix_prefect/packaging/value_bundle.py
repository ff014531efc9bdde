"""A task's function by value, and the user's modules that it imports as files.

For the same minor version of Python on both sides.
"""

from __future__ import annotations

import ast
import contextlib
import dis
import io
import json
import pickle
import sys
import types
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from clustrix_prefect.errors import NotPortable
from clustrix_prefect.packaging.bundle import Built, Bundle, Home
from clustrix_prefect.packaging.by_value import ValuePickler, namespaces_of
from clustrix_prefect.packaging.essence import identity_of
from clustrix_prefect.packaging.identity import digest, sha256
from clustrix_prefect.packaging.imports import Imports, needs_prefect, of_tree, top_level
from clustrix_prefect.packaging.local_modules import LocalModules, ModuleFile
from clustrix_prefect.packaging.module_files import ModuleFiles, collect, named_in_text
from clustrix_prefect.packaging.ownership import is_user_module
from clustrix_prefect.packaging.pickling import HERE, LocalClass, Met, Reference
from clustrix_prefect.packaging.source_files import SourceFile, files_of

_NOTHING_BROUGHT = pickle.dumps({}, protocol=5) + pickle.dumps([], protocol=5)


class ValueBuilder:
    """Makes the bundle of a function.

    Args:
        function: The function.
        name: What it is, for errors.
        home: Where it was written.
        data_limit: How many bytes of data files travel with the user's modules.
    """

    def __init__(
        self, function: Callable[..., Any], name: str, home: Home, data_limit: int
    ) -> None:
        self._function = function
        self._name = name
        self._home = home
        self._data_limit = data_limit
        self._namespaces = namespaces_of(home.module)
        self._nodes: list[ast.AST] = []

    def build(self, extra: Iterable[Met]) -> Built:
        """Return the bundle, with this code besides what the function needs."""
        met = sorted(extra, key=repr)
        asked = {each for each in met if isinstance(each, Reference)}
        classes = {each.tracker_id: each.value for each in met if isinstance(each, LocalClass)}
        captured, pickler = self._pickle(asked, classes)
        needed, reachable = LocalModules(), LocalModules()
        imports = self._needs(pickler, asked, needed)
        own = self._follow_all(pickler, asked, reachable)
        reachable.found.update(needed.found)
        reachable.files.update(needed.files)
        asked_back = self._asked_by(reachable)
        if asked_back - asked:
            # Other modules of the user's import names from one that travels by value.
            asked |= asked_back
            captured, pickler = self._pickle(asked, classes)
        texts = [file.text for file in own]
        files = collect(reachable, list(self._own_files(reachable, own)), texts, self._data_limit)
        document = {
            "python": list(HERE),
            "modules": list(files.modules),
            "roots": list(files.roots),
            "everywhere": list(files.everywhere),
            "files": None if not files.blobs else [files.blobs[0].name, files.blobs[0].size],
            "namespaces": [
                self._described(name, files) for name in sorted(self._modules_by_value(pickler))
            ],
            "prefect": self._wants_prefect(pickler, needed),
            "lines": {file.shown_as: file.text for file in own},
        }
        code = json.dumps(document, sort_keys=True, separators=(",", ":")).encode()
        # Results name classes by their module: in a process in which that is another, they would
        # not be found.
        said = [str(self._home.module), repr(sorted(map(repr, asked - asked_back)))]
        said += [f"{name} {module.source}" for name, module in sorted(needed.found.items())]
        values = [self._value_of(each) for each in sorted(asked - asked_back, key=repr)]
        identity = digest(
            *said, identity_of((self._function, values, list(classes.values())), self._namespaces)
        )
        bundle = Bundle(
            code=code,
            code_sha256=sha256(code),
            captured=captured,
            captured_sha256=sha256(captured),
            identity=identity,
            imports=imports,
            needs_sha256=digest(sha256(code), *sorted(imports.required), *sorted(imports.optional)),
            sources=(),
            met=frozenset(met),
            blobs=files.blobs,
        )
        return Built(bundle, lambda: self._pickle(asked, classes)[0] == captured)

    # --- the pickle -----------------------------------------------------------------------

    def _pickle(
        self, asked: set[Reference], classes: dict[str, type]
    ) -> tuple[bytes, ValuePickler]:
        buffer = io.BytesIO()
        pickler = ValuePickler(buffer, self._namespaces, in_bundle=True)
        names: dict[str, dict[str, Any]] = {}
        for each in sorted(asked, key=repr):
            if each.name and each.module in self._namespaces:
                namespace = self._namespace(each.module)
                if each.name in namespace:
                    names.setdefault(each.module, {})[each.name] = namespace[each.name]
        self._dump(pickler, self._function)
        brought = [*classes.values(), *self._subclasses(pickler)]
        # Every call that is submitted by itself comes by here, and most bring neither.
        if names or brought:
            self._dump(pickler, names)
            self._dump(pickler, brought)
        else:
            buffer.write(_NOTHING_BROUGHT)
        return buffer.getvalue(), pickler

    def _dump(self, pickler: ValuePickler, value: Any) -> None:
        try:
            pickler.dump_named(value, self._name)
        except NotPortable as error:
            raise self._named(error) from error

    def _named(self, error: NotPortable) -> NotPortable:
        """Return the same, saying which variable is to blame."""
        for name, value in self._used_variables():
            if isinstance(value, (types.ModuleType, types.FunctionType, type)):
                continue
            pickler = ValuePickler(io.BytesIO(), self._namespaces, in_bundle=True)
            what = f"the variable {name!r} of {self._home.module}"
            try:
                pickler.dump_named(value, f"{what}, which {self._name} uses,")
            except NotPortable as found:
                if what[4:] in found.what:
                    return found
                text = f"{found.what.rstrip('.')}: {what}, which {self._name} uses."
                return NotPortable(text, found.remedy)
        return error

    def _used_variables(self) -> Iterator[tuple[str, Any]]:
        """Yield the variables of its module that the function uses, and those it calls."""
        pickler = ValuePickler(io.BytesIO(), self._namespaces, in_bundle=True)
        with contextlib.suppress(Exception):
            pickler.dump(self._function)
        seen: set[str] = set()
        for function in pickler.functions:
            if function.__globals__ is self._home.namespace:
                for name in _names(function.__code__):
                    if name not in seen and name in self._home.namespace:
                        seen.add(name)
                        yield name, self._home.namespace[name]

    def _subclasses(self, pickler: ValuePickler) -> list[type]:
        """Return the subclasses of classes in the pickle, if anything asks for them."""
        if not any(
            "__subclasses__" in function.__code__.co_names for function in pickler.functions
        ):
            return []
        found: list[type] = []
        waiting = list(pickler.classes)
        each: type
        while waiting:
            for each in type.__subclasses__(waiting.pop()):
                if each.__module__ in self._namespaces and each not in found:
                    found.append(each)
                    waiting.append(each)
        return found

    def _namespace(self, module: str) -> dict[str, Any]:
        if module == self._home.module:
            return self._home.namespace
        return vars(sys.modules[module]) if module in sys.modules else {}

    def _value_of(self, each: Reference) -> Any:
        if each.name and each.module in self._namespaces:
            return self._namespace(each.module).get(each.name)
        return None

    # --- modules --------------------------------------------------------------------------

    def _modules_by_value(self, pickler: ValuePickler) -> set[str]:
        found = {function.__globals__.get("__name__") for function in pickler.functions}
        found |= {each.__module__ for each in pickler.classes}
        if self._home.module is not None:
            found.add(self._home.module)
        return {name for name in found if isinstance(name, str) and name in self._namespaces}

    def _described(self, module: str, files: ModuleFiles) -> dict[str, Any]:
        namespace = self._namespace(module)
        path = namespace.get("__file__")
        return {
            "name": module,
            "package": namespace.get("__package__") or "",
            "path": (files.paths or {}).get(path) if isinstance(path, str) else None,
            "home": path if isinstance(path, str) else None,
        }

    def _own_files(self, reachable: LocalModules, own: list[SourceFile]) -> Iterator[ModuleFile]:
        for module in self._by_value_with_files(own):
            reachable.files.pop(module, None)
            reachable.found.pop(module, None)
            path = self._namespace(module)["__file__"]
            parts = path.rpartition("/")[2] if module == "__main__" else None
            if parts is not None:
                yield ModuleFile(module, path, parts, False)
            else:
                yield ModuleFile.of(module, path)

    def _by_value_with_files(self, own: list[SourceFile]) -> list[str]:
        names = ["__main__"] if self._home.module is None else [self._home.module]
        return [
            name
            for name in names
            if str(self._namespace(name).get("__file__", "")).endswith(".py")
            and any(file.text for file in own)
        ]

    def _sources(self, module: str) -> list[SourceFile]:
        try:
            return files_of(module, self._namespace(module))
        except NotPortable:  # it was changed since, which matters to nobody here
            return []

    def _wants_prefect(self, pickler: ValuePickler, needed: LocalModules) -> bool:
        """Return whether the code needs more of Prefect than its stand-in has."""
        return (
            pickler.needs_prefect
            or any(map(needs_prefect, self._nodes))
            or any(needs_prefect(module.tree) for module in needed.found.values())
        )

    def _needs(self, pickler: ValuePickler, asked: set[Reference], needed: LocalModules) -> Imports:
        """Return what the code in the pickle imports; the user's own of that is taken in."""
        found = Imports()
        for function in pickler.functions:
            module = function.__globals__.get("__name__")
            if module not in self._namespaces:
                continue
            nodes = [
                node
                for file in self._sources(str(module))
                if file.filename == function.__code__.co_filename
                for node in file.functions_at(function.__code__)
            ]
            self._nodes += nodes
            package = function.__globals__.get("__package__") or ""
            for node in nodes:
                found |= of_tree(node)
                needed.follow(node, package)
            if not nodes:
                optional = frozenset(_imported(function.__code__))
                found |= Imports(frozenset(), optional - frozenset(sys.stdlib_module_names))
                for name in optional:
                    needed.add(name)
        packages: set[str] = set()
        for each in (*pickler.met, *asked):
            if isinstance(each, Reference) and each.module not in self._namespaces:
                if is_user_module(each.module):
                    needed.add(each.module)
                else:
                    packages.add(each.module)
        needed.found.pop(self._home.module or "", None)
        needed.files.pop(self._home.module or "", None)
        for local in list(needed.found.values()):
            found |= of_tree(local.tree)
        brought = {name.partition(".")[0] for name in needed.found}
        return Imports(
            frozenset(name for name in found.required if top_level(name) not in brought)
            | needed.compiled
            | packages,
            frozenset(name for name in found.optional if top_level(name) not in brought),
        )

    def _follow_all(
        self, pickler: ValuePickler, asked: set[Reference], reachable: LocalModules
    ) -> list[SourceFile]:
        """Find all that the modules import which travel by value; their own source."""
        own: list[SourceFile] = []
        for module in sorted(self._modules_by_value(pickler)):
            namespace = self._namespace(module)
            for file in self._sources(module):
                own.append(file)
                reachable.follow(file.tree, namespace.get("__package__") or "")
                for name in named_in_text(file.tree, file.text):
                    reachable.add(name)
            for value in list(namespace.values()):
                name = value.__name__ if isinstance(value, types.ModuleType) else ""
                name = name or getattr(value, "__module__", None) or ""
                if isinstance(name, str) and name not in self._namespaces and is_user_module(name):
                    reachable.add(name)
        for local in list(reachable.found.values()):
            for name in named_in_text(local.tree, local.source):
                reachable.add(name)
        return own

    def _asked_by(self, reachable: LocalModules) -> set[Reference]:
        """Return what other modules of the user's import from one that travels by value."""
        found: set[Reference] = set()
        home = self._home.module
        if home is None or home == "__main__":
            return found
        for name, module in reachable.found.items():
            if name == home:
                continue
            package = name if module.is_package else name.rpartition(".")[0]
            aliases = set()
            for node in ast.walk(module.tree):
                if isinstance(node, ast.ImportFrom):
                    base = _absolute(node, package)
                    names = {alias.name for alias in node.names}
                    if base == home:
                        wanted = set(self._home.namespace) if "*" in names else names
                        found |= {Reference(home, each) for each in wanted if each[:2] != "__"}
                    elif home.startswith(f"{base}.") and home[len(base) + 1 :] in names:
                        aliases.add(home.rpartition(".")[2])
                elif isinstance(node, ast.Import):
                    for alias in node.names:
                        if alias.name == home:
                            aliases.add(alias.asname or home.rpartition(".")[2])
            if aliases:
                found |= {
                    Reference(home, node.attr)
                    for node in ast.walk(module.tree)
                    if isinstance(node, ast.Attribute) and node.attr in self._home.namespace
                }
        return {each for each in found if self._can_travel(each)}

    def _can_travel(self, each: Reference) -> bool:
        """Return whether what nobody may ask for can be brought along."""
        value = self._namespace(each.module).get(each.name)
        if isinstance(value, types.ModuleType):
            return False
        try:
            ValuePickler(io.BytesIO(), self._namespaces, in_bundle=True).dump(value)
        except Exception:
            return False
        return True


def _absolute(node: ast.ImportFrom, package: str) -> str:
    if not node.level:
        return node.module or ""
    parts = package.split(".")[: len(package.split(".")) - node.level + 1]
    return ".".join([*parts, node.module] if node.module else parts)


def _names(code: types.CodeType) -> Iterator[str]:
    yield from code.co_names
    for constant in code.co_consts:
        if isinstance(constant, types.CodeType):
            yield from _names(constant)


def _imported(code: types.CodeType) -> Iterator[str]:
    """Yield what code imports that there is no source of."""
    for instruction in dis.get_instructions(code):
        if instruction.opname == "IMPORT_NAME" and instruction.argval:
            yield instruction.argval
        elif isinstance(instruction.argval, types.CodeType):
            yield from _imported(instruction.argval)
