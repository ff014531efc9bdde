"""Who else could change what a path leads to.

As sshd's StrictModes, which looks at the directories up to the home directory: here it is every
directory on the way, from the root on, and every symbolic link that the way goes through.
"""

import errno
import grp
import os
import pwd
import stat
from typing import List, Optional, Set

from ..wire.failures import Failure

# As many as Linux follows.
_MOST_LINKS = 40
_REMEDY = "Let remote_work_dir be in a directory that is yours, or have `chmod go-w` done there"


def check_way(path: str) -> None:
    """Refuse a path that somebody else could make lead to something else.

    What is not there yet is not looked at: below a directory that passes, only this account can
    make it.

    Args:
        path: An absolute path.

    Raises:
        Failure: "WorkDirNotPrivate": a directory or link on the way belongs to somebody else
            than this account or root, or others may write to it and it is not sticky.
        OSError: It cannot be followed.
    """
    # Whoever has the root directory is root, whatever number that has in this container.
    trusted = {0, os.geteuid(), os.stat("/").st_uid}
    here, links = "/", 0
    _check_directory(here, os.stat(here), trusted)
    waiting = _parts(path)
    while waiting:
        name = waiting.pop()
        if name == "..":
            here = os.path.dirname(here)
            continue
        place = os.path.join(here, name)
        try:
            status = os.lstat(place)
        except FileNotFoundError:
            return
        if stat.S_ISLNK(status.st_mode):
            links += 1
            if links > _MOST_LINKS:
                raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
            if status.st_uid not in trusted:
                raise _strange("the link " + place, status)
            target = os.readlink(place)
            here = "/" if target.startswith("/") else here
            waiting.extend(_parts(target))
        elif stat.S_ISDIR(status.st_mode):
            _check_directory(place, status, trusted)
            here = place
        else:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), place)


def check_own(path: str) -> None:
    """Refuse what somebody else has put at a path.

    Raises:
        Failure: "WorkDirNotPrivate".
    """
    try:
        status = os.lstat(path)
    except FileNotFoundError:
        return
    if status.st_uid != os.geteuid():
        raise _strange(path, status)


def _parts(path: str) -> List[str]:
    """Return the names of a path, the first at the end."""
    return [name for name in reversed(path.split("/")) if name not in ("", ".")]


def _check_directory(path: str, status: os.stat_result, trusted: Set[int]) -> None:
    if status.st_uid not in trusted:
        raise _strange(path, status)
    # In a sticky directory, nobody can replace what belongs to another.
    if status.st_mode & stat.S_ISVTX:
        return
    writers: Optional[str] = None
    if status.st_mode & stat.S_IWOTH:
        writers = "everybody"
    elif status.st_mode & stat.S_IWGRP and not _is_group_of_one(status.st_gid):
        writers = "its group " + _group_name(status.st_gid)
    if writers is not None:
        raise Failure(
            "WorkDirNotPrivate",
            "{} can be written to by {}, who could put programs of theirs there. {}".format(
                path, writers, _REMEDY
            ),
        )


def _strange(what: str, status: os.stat_result) -> Failure:
    try:
        owner = pwd.getpwuid(status.st_uid).pw_name
    except KeyError:
        owner = "user {}".format(status.st_uid)
    return Failure(
        "WorkDirNotPrivate",
        "{} belongs to {}, who could put programs there. {}".format(what, owner, _REMEDY),
    )


def _is_group_of_one(gid: int) -> bool:
    """Whether it is the group that many systems make for each account, with nobody else in it."""
    try:
        account, group = pwd.getpwuid(os.geteuid()), grp.getgrgid(gid)
    except KeyError:
        return False
    names = {account.pw_name}
    return account.pw_gid == gid and group.gr_name in names and names.issuperset(group.gr_mem)


def _group_name(gid: int) -> str:
    try:
        return grp.getgrgid(gid).gr_name
    except KeyError:
        return str(gid)
