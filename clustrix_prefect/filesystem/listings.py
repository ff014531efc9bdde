"""What the far side says is in its directories.

A listing is a row of pieces, each a name after a slash, with what is known of it before:

    /inside                 what follows is in this directory; nothing: in the first one
    !13                     it could not be read, for this reason
    f 12 33188 ... /name    an entry: file, directory, link or other, and its facts if wanted
    >target                 where the link before it leads
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from clustrix_prefect.errors import AgentError

Info = dict[str, Any]

_TYPES = {"f": "file", "d": "directory", "l": "other", "o": "other"}


@dataclass
class DirectoryListing:
    """One directory.

    Attributes:
        path: Where it is.
        entries: What is in it, by name.
        error: Why that is not known.
    """

    path: str
    entries: dict[str, Info] = field(default_factory=dict)
    error: OSError | None = None


def pieces_of(body: bytes | bytearray) -> list[str]:
    """Return the pieces of a part of a listing."""
    return bytes(body).decode("utf-8", "surrogateescape").split("\0") if body else []


def below(directory: str, name: str) -> str:
    """Return the path of what is in a directory."""
    return f"{directory}{name}" if directory.endswith("/") else f"{directory}/{name}"


def plain(name: str) -> str:
    """Return a name in a directory, which no other path can be.

    Raises:
        AgentError: It is none: what is copied by it would land somewhere else.
    """
    if name in ("", ".", "..") or "/" in name:
        raise AgentError(
            f"The cluster says that a directory holds {name!r}, which is no name of a file.",
            "Somebody may have tampered with the cluster; nothing was taken from it.",
            type="Tampered",
        )
    return name


def checked(path: str) -> str:
    """Return a path below a directory, of plain names.

    Raises:
        AgentError: It could lead out of the directory.
    """
    for name in path.split("/"):
        plain(name)
    return path


def entries_of(directory: str, pieces: Iterable[str]) -> dict[str, Info]:
    """Return the entries of one directory."""
    listing = DirectoryListing(directory)
    for piece in pieces:
        _add(listing, piece)
    return listing.entries


def directories(top: str, pieces: Iterable[str]) -> Iterator[DirectoryListing]:
    """Yield every directory that is listed, each as soon as all of it is there."""
    current: DirectoryListing | None = None
    for piece in pieces:
        if piece.startswith("/"):
            path = below(top, checked(piece[1:])) if len(piece) > 1 else top
            if current is None or current.path != path:
                if current is not None:
                    yield current
                current = DirectoryListing(path)
        elif current is not None:
            _add(current, piece)
    if current is not None:
        yield current


def paths(top: str, pieces: Iterable[str], *, directories_too: bool) -> Iterator[str]:
    """Yield the paths of all entries, as they arrive."""
    prefix = below(top, "")
    for piece in pieces:
        kind = piece[0]
        if kind == "/":
            inside = below(top, checked(piece[1:])) if len(piece) > 1 else top
            prefix = below(inside, "")
        elif kind in "flo" or (kind == "d" and directories_too):
            yield prefix + plain(piece[2:])


def _add(listing: DirectoryListing, piece: str) -> None:
    kind = piece[0]
    if kind == "!":
        number = int(piece[1:])
        listing.error = OSError(number, os.strerror(number), listing.path)
    elif kind == ">":
        next(reversed(listing.entries.values()))["destination"] = piece[1:]
    else:
        facts, _, name = piece[1:].partition("/")
        plain(name)
        listing.entries[name] = {"name": below(listing.path, name), "type": _TYPES[kind]}
        if facts:
            size, mode, uid, gid, mtime, ctime, ino, nlink = facts.split(" ")
            listing.entries[name].update(
                size=int(size),
                created=float(ctime),
                islink=kind == "l",
                mode=int(mode),
                uid=int(uid),
                gid=int(gid),
                mtime=float(mtime),
                ino=int(ino),
                nlink=int(nlink),
            )
