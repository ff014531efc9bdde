"""Folders as data: which files, directories and links they consist of.

Used on both sides, each of which takes what the other says with care: no entry may lead out
of the folder that is made from it.

A folder is described by JSON, `{"format": 1, "entries": [...]}`, sorted by path, each entry
one of

    ["d", path]                               a directory
    ["f", path, size, content, executable]    a file
    ["l", path, target]                       a symbolic link to another part of the folder
"""

import json
import os
import stat
from typing import Any, Callable, Dict, Iterator, List, Tuple

from .chunks import is_digest

DIRECTORY, FILE, LINK = "d", "f", "l"
_FORMAT = 1

Entry = List[Any]


class TreeError(ValueError):
    """A folder cannot be described, or a description cannot be followed."""


# --- reading a folder ---------------------------------------------------------------------


def scan(root: str) -> Iterator[Tuple[str, str, str]]:
    """Yield what a folder consists of: kind, path inside it, and where a file is or a link leads.

    A link to another part of the folder stays a link. A link to a file elsewhere counts as
    that file, since its target would not be there where the folder goes.

    Raises:
        TreeError: Something in it cannot be sent: a link to a directory elsewhere, a broken
            link, a socket.
        OSError: Something cannot be read.
    """
    real_root = os.path.realpath(root)

    def fail(error: OSError) -> None:
        raise error

    for directory, names, files in os.walk(real_root, onerror=fail):
        inside = os.path.relpath(directory, real_root)
        for name in sorted(names + files):
            path = name if inside == "." else inside + "/" + name
            source = os.path.join(directory, name)
            if os.path.islink(source):
                yield _link(real_root, path, source)
            elif os.path.isdir(source):
                yield DIRECTORY, path, ""
            elif stat.S_ISREG(os.stat(source).st_mode):
                yield FILE, path, source
            else:
                raise TreeError("{} is neither a file nor a directory".format(source))


def _link(root: str, path: str, source: str) -> Tuple[str, str, str]:
    target = os.path.realpath(source)
    if not os.path.exists(target):
        raise TreeError("{} is a link that leads nowhere".format(source))
    if target == root or target.startswith(root + os.sep):
        # Said anew: by the shortest way, without what other links contribute.
        return LINK, path, os.path.relpath(target, os.path.dirname(source))
    if stat.S_ISREG(os.stat(target).st_mode):
        return FILE, path, target
    raise TreeError("{} is a link to {}, which is outside the folder".format(source, target))


def describe(entries: List[Entry]) -> bytes:
    """Return the description of a folder, the same for the same entries."""
    ordered = sorted(entries, key=lambda entry: entry[1])
    document = {"format": _FORMAT, "entries": ordered}
    return json.dumps(document, sort_keys=True, separators=(",", ":")).encode("ascii")


# --- making a folder ----------------------------------------------------------------------


def parse(description: bytes) -> List[Entry]:
    """Return the entries of a description, each checked.

    Raises:
        TreeError: It is not a description, or an entry would leave the folder.
    """
    try:
        document = json.loads(bytes(description).decode("ascii"))
        entries = document["entries"] if document["format"] == _FORMAT else None
    except (ValueError, KeyError, TypeError):
        entries = None
    if not isinstance(entries, list):
        raise TreeError("this does not describe a folder")
    kinds: Dict[str, str] = {}
    for entry in entries:
        path = _checked_entry(entry)
        if path in kinds:
            raise TreeError("{!r} is named twice".format(path))
        kinds[path] = entry[0]
    for path in kinds:
        # Below a link, an entry would be made where the link leads.
        for parent in _parents(path):
            if kinds.get(parent, DIRECTORY) != DIRECTORY:
                raise TreeError("{!r} lies in {!r}, which is no directory".format(path, parent))
    return entries


def _checked_entry(entry: Any) -> str:
    shapes = {
        DIRECTORY: (str, str),
        FILE: (str, str, int, str, bool),
        LINK: (str, str, str),
    }
    shape = shapes.get(entry[0]) if isinstance(entry, list) and entry else None
    if shape is None or tuple(map(type, entry)) != shape:
        raise TreeError("{!r} is not an entry of a folder".format(entry))
    path: str = entry[1]
    parts = path.split("/")
    if "\0" in path or any(part in ("", ".", "..") for part in parts):
        raise TreeError("{!r} is not a path inside a folder".format(path))
    if entry[0] == LINK:
        _check_target(path, entry[2])
    if entry[0] == FILE and (entry[2] < 0 or not (entry[3] == "" or is_digest(entry[3]))):
        raise TreeError("{!r} has no content that can be named".format(path))
    return path


def _check_target(path: str, target: str) -> None:
    """Refuse a link that leads out, also where it passes through other links."""
    parts = target.split("/")
    climbs = 0
    while climbs < len(parts) and parts[climbs] == "..":
        climbs += 1
    rest = parts[climbs:]
    # The directories above a link are real ones; once the way has led through a name, which
    # may be another link, going up again could leave the folder.
    harmless = all(part not in ("", "..") for part in rest) and "\0" not in target
    if not target or not harmless or climbs > path.count("/"):
        raise TreeError("the link {!r} to {!r} leads out of its folder".format(path, target))


def _parents(path: str) -> Iterator[str]:
    while "/" in path:
        path = path.rpartition("/")[0]
        yield path


def make(entries: List[Entry], target: str, place: Callable[[Entry, str], None]) -> None:
    """Make a folder from checked entries.

    Args:
        entries: As `parse` gave them.
        target: A directory that does not exist.
        place: Puts the content of a file's entry at a path.
    """
    os.mkdir(target, 0o700)
    for kind, path, *rest in sorted(entries, key=lambda entry: entry[1]):
        destination = os.path.join(target, *path.split("/"))
        os.makedirs(os.path.dirname(destination), 0o700, exist_ok=True)
        if kind == DIRECTORY:
            os.makedirs(destination, 0o700, exist_ok=True)
        elif kind == FILE:
            place([kind, path] + rest, destination)
    # Last, so that nothing is ever written through one.
    for kind, path, *rest in entries:
        if kind == LINK:
            os.symlink(rest[0], os.path.join(target, *path.split("/")))
