"""What the interpreter that runs this has: modules, and versions of packages.

Preflight asks on the login node, and a job looks again on its own node, which may have been set
up differently.
"""

import sys

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Dict, Iterable, List

_METADATA = r"(?P<name>.+?)-(?P<version>[^-]+)(-py[\d.]+)?\.(dist|egg)-info\Z"


def missing(modules: "Iterable[str]") -> "List[str]":
    """Those of these top-level modules that cannot be found."""
    return [name for name in modules if not _is_there(name)]


def versions(names: "Iterable[str]") -> "Dict[str, str]":
    """The versions of those of these packages that are installed.

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
    import importlib.util

    try:
        return importlib.util.find_spec(module) is not None
    except (ImportError, ValueError, AttributeError):
        return False


def _plain(name: str) -> str:
    import re

    return re.sub(r"[-_.]+", "-", name).lower()
