"""What is in directories: names as bytes, whatever they hold, and nothing through a shell.

Links are not followed below the directory that was asked for. What vanishes while it is being
looked at was never there. A directory that cannot be read ends the question if it is the one
that was asked about; further down it is left out and reported.
"""

import fnmatch
import os
import re
import stat
from typing import Any, Callable, Iterator, List, Optional, Tuple

# A directory: where it is below the first one, and what is in it or why that is not known.
Listing = Tuple[bytes, Optional[OSError], List[Any]]
Skipped = Callable[[OSError], None]


def to_text(name: bytes) -> str:
    """A name as it travels: UTF-8 whatever the locale here is, other bytes as lone surrogates."""
    return name.decode("utf-8", "surrogateescape")


def to_name(text: Any) -> bytes:
    """Return a name that has travelled, or a path that somebody gave."""
    path = os.fspath(text)
    return path if isinstance(path, bytes) else path.encode("utf-8", "surrogateescape")


def resolve(path: bytes, start: bytes) -> bytes:
    """Return where a path leads: `~` is the home directory, what is relative begins at `start`.

    Raises:
        FileNotFoundError: The path is empty.
        ValueError: It holds a null byte.
    """
    if not path:
        raise FileNotFoundError(2, os.strerror(2), path)
    if b"\0" in path:
        raise ValueError("embedded null byte")
    if path == b"~" or path.startswith(b"~/"):
        path = os.path.expanduser(b"~") + path[1:]
    return os.path.join(start, path)


def walk(top: bytes, maxdepth: Optional[int] = None) -> Iterator[Listing]:
    """Yield every directory from `top` on, the upper ones first, with its entries.

    Raises:
        OSError: `top` cannot be read.
    """
    # In reverse, so that the first comes off the end.
    waiting = [(b"", 1)]
    while waiting:
        inside, depth = waiting.pop()
        directory = os.path.join(top, inside) if inside else top
        error: Optional[OSError] = None
        entries: List[Any] = []
        try:
            with os.scandir(directory) as scan:
                entries = list(scan)
        except OSError as failure:
            if not inside:
                raise
            if isinstance(failure, (FileNotFoundError, NotADirectoryError)):
                continue  # it was there a moment ago
            error = failure
        yield inside, error, entries
        if maxdepth is None or depth < maxdepth:
            below = [entry.name for entry in entries if is_directory(entry)]
            prefix = inside + b"/" if inside else b""
            waiting.extend((prefix + name, depth + 1) for name in reversed(below))


def is_directory(entry: Any) -> bool:
    """Return whether an entry is a directory itself, not a link to one."""
    try:
        return bool(entry.is_dir(follow_symlinks=False))
    except OSError:
        return False


def _text(name: bytes) -> str:
    # As text, so that `?` stands for a letter and not for a part of one.
    return name.decode("utf-8", "surrogateescape")


def matcher(pattern: bytes) -> Callable[[bytes], bool]:
    """Return whether names fit a pattern of `*`, `?` and `[...]`; any name may begin with a dot."""
    if pattern == b"*":
        return lambda name: True
    fits = re.compile(fnmatch.translate(_text(pattern))).match
    return lambda name: fits(_text(name)) is not None


def find(pattern: bytes, top: bytes, skipped: Skipped) -> List[bytes]:
    """Everything below a directory that is no directory itself and whose name fits.

    A pattern with a slash is compared with the whole path below the directory.
    """
    fits, whole = matcher(pattern), b"/" in pattern
    found = []
    for inside, error, entries in walk(top):
        if error is not None:
            skipped(error)
        prefix = inside + b"/" if inside else b""
        for entry in entries:
            name = entry.name
            if fits(prefix + name if whole else name) and not is_directory(entry):
                found.append(prefix + name)
    return sorted(found)


def usage(top: bytes, skipped: Skipped) -> Tuple[int, int]:
    """Return the size of all regular files, and how many there are."""
    if not stat.S_ISDIR(os.stat(top).st_mode):
        facts = os.lstat(top)
        return (facts.st_size, 1) if stat.S_ISREG(facts.st_mode) else (0, 0)
    total = count = 0
    for _, error, entries in walk(top):
        if error is not None:
            skipped(error)
        for entry in entries:
            try:
                if entry.is_file(follow_symlinks=False):
                    total += entry.stat(follow_symlinks=False).st_size
                    count += 1
            except FileNotFoundError:
                pass  # it vanished
            except OSError as failure:
                skipped(failure)
    return total, count


# --- patterns as the shell knows them --------------------------------------------------------

_MAGIC = re.compile(b"[*?[]")


def glob(pattern: bytes, top: bytes, skipped: Skipped) -> List[bytes]:
    """Return what fits a pattern, as in a shell: `*` stays within one name and finds no dotfiles.

    `**` stands for any number of directories; it does not pass through links.
    """
    parts = [part for part in pattern.split(b"/") if part]
    if pattern.endswith(b"/"):
        parts.append(b"")  # directories only
    if not parts:
        return []
    if pattern.startswith(b"/"):
        found = {b"/" + path for path in _expand(b"/", b"", parts, skipped)}
    else:
        with os.scandir(top):
            pass  # it must be there, whatever is looked for in it
        found = set(_expand(top, b"", parts, skipped))
    return sorted(found)


def _expand(top: bytes, inside: bytes, parts: List[bytes], skipped: Skipped) -> Iterator[bytes]:
    part, rest = parts[0], parts[1:]
    here = os.path.join(top, inside) if inside else top
    prefix = inside + b"/" if inside else b""
    if not part:
        if inside and os.path.isdir(here):
            yield inside
    elif part == b"**":
        yield from _expand_deep(top, inside, rest, skipped)
    elif not _MAGIC.search(part):
        if rest:
            yield from _expand(top, prefix + part, rest, skipped)
        elif os.path.lexists(os.path.join(here, part)):
            yield prefix + part
    else:
        fits, dotted = matcher(part), part.startswith(b".")
        for entry in _entries(here, skipped):
            name = entry.name
            if fits(name) and (dotted or not name.startswith(b".")):
                if not rest:
                    yield prefix + name
                elif os.path.isdir(os.path.join(here, name)):
                    yield from _expand(top, prefix + name, rest, skipped)


def _expand_deep(top: bytes, inside: bytes, rest: List[bytes], skipped: Skipped) -> Iterator[bytes]:
    prefix = inside + b"/" if inside else b""
    if rest:
        yield from _expand(top, inside, rest, skipped)
    for entry in _entries(os.path.join(top, inside) if inside else top, skipped):
        if not entry.name.startswith(b"."):
            if not rest:
                yield prefix + entry.name
            if is_directory(entry):
                yield from _expand_deep(top, prefix + entry.name, rest, skipped)


def _entries(directory: bytes, skipped: Skipped) -> List[Any]:
    try:
        with os.scandir(directory) as scan:
            return list(scan)
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        skipped(error)
        return []
