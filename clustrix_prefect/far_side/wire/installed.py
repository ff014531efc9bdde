"""What the interpreter that runs this has: modules, names in them, and versions of packages.

Preflight asks on the login node, and a job looks again on its own node, which may have been set
up differently.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from importlib.machinery import ModuleSpec
    from typing import Any, Dict, Iterable, List, Optional

_METADATA = r"(?P<name>.+?)-(?P<version>[^-]+)(-py[\d.]+)?\.(dist|egg)-info\Z"


def missing(modules: "Iterable[str]") -> "List[str]":
    """Those of these modules that cannot be found; of "a.b.c" the first part that is not there."""
    found = {}  # type: Dict[str, bool]
    for module in modules:
        for name in _with_parents(module):
            if name not in found:
                found[name] = _is_there(name)
            if not found[name]:
                break
    return [name for name in found if not found[name]]


def module_in(dotted: str) -> str:
    """The part of a dotted name that is a module here, as far as is known without importing it.

    A name in a package without code of its own (a namespace package) can be nothing else.
    """
    module = dotted.partition(".")[0]
    spec = _find(module)
    for name in _with_parents(dotted)[1:]:
        if spec is None or spec.submodule_search_locations is None:
            break
        inside = _find(name)
        if inside is None and not _is_namespace(spec):
            break
        module, spec = name, inside
    return module


def lacking(names: "Iterable[str]") -> "List[str]":
    """Return those of these names that the standard library does not have: "functools.cache"."""
    return [name for name in names if not _has(name)]


def _has(dotted: str) -> bool:
    import importlib

    module, *rest = _with_parents(dotted)
    if not rest:
        return _is_there(module)
    try:
        found = importlib.import_module(module)
        for name in rest:
            last = name.rpartition(".")[2]
            if not hasattr(found, last):
                importlib.import_module(name)
            found = getattr(found, last)
    except (ImportError, AttributeError):
        return False
    return True


def versions(names: "Iterable[str]") -> "Dict[str, str]":
    """Return the versions of those of these packages that are installed.

    By what `importlib.metadata` reads, too; 3.6 and 3.7 do not have it.
    """
    import os
    import re

    wanted = {_plain(name): name for name in names}
    metadata = re.compile(_METADATA)
    found = {}  # type: Dict[str, str]
    for directory in sys.path if wanted else ():
        try:
            entries = os.listdir(directory or ".")
        except OSError:
            continue
        for entry in entries:
            match = metadata.match(entry)
            name = match and wanted.get(_plain(match.group("name")))
            # What comes first on the path is what is imported.
            if match and name and name not in found:
                found[name] = match.group("version")
    return found


def differences(expected: "Dict[str, Any]") -> "List[str]":
    """In what this interpreter is not what preflight found on the login node.

    Args:
        expected: `python`, its minor version; `modules` that it found; `versions` of packages,
            of which another major version will not do.
    """
    differences = []
    here = list(sys.version_info[:2])
    if here != expected["python"]:
        text = "its {} is Python {}.{} and the login node's {}.{}"
        differences.append(text.format(sys.executable, *(here + expected["python"])))
    for module in missing(expected["modules"]) if expected["modules"] else ():
        differences.append("`{}` is not installed there".format(module))
    there = expected["versions"]
    for name, version in sorted(versions(there).items()) if there else ():
        if version.partition(".")[0] != there[name].partition(".")[0]:
            text = "{} is {} there and {} on the login node"
            differences.append(text.format(name, version, there[name]))
    return differences


def _is_there(module: str) -> bool:
    if _find(module) is not None:
        return True
    if "." not in module:
        return False
    import importlib

    # Some packages make modules while they are imported.
    try:
        importlib.import_module(module)
    except BaseException:  # what a package does then may be anything
        return False
    return True


def _find(module: str) -> "Optional[ModuleSpec]":
    """Return a module's spec, found without running code of the packages that it is in."""
    import importlib.util
    from importlib.machinery import PathFinder

    parent = module.rpartition(".")[0]
    above = _find(parent) if parent else None
    try:
        if above is None or _is_namespace(above):
            return importlib.util.find_spec(module) if above is not None or not parent else None
        return PathFinder.find_spec(module, above.submodule_search_locations or [])
    except (ImportError, ValueError, AttributeError, KeyError):
        return None


def _is_namespace(spec: "ModuleSpec") -> bool:
    return spec.submodule_search_locations is not None and spec.origin in (None, "namespace")


def _with_parents(module: str) -> "List[str]":
    parts = module.split(".")
    return [".".join(parts[:length]) for length in range(1, len(parts) + 1)]


def _plain(name: str) -> str:
    import re

    return re.sub(r"[-_.]+", "-", name).lower()
