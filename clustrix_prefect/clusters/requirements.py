"""Requirement lines, from a list or a file, in the form in which they travel."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from packaging.requirements import InvalidRequirement, Requirement

from clustrix_prefect.errors import ConfigurationError

_COMMENT = re.compile(r"(^|\s+)#.*$")
_OTHER_FILE = re.compile(r"(?P<option>-r|--requirement|-c|--constraint)[\s=]\s*(?P<path>.+)$")
_PASSWORD = re.compile(r"://[^/@\s]+:[^/@\s]+@")
_REMEDY = "Requirements are written as for pip, one a line: numpy>=1.26"


@dataclass(frozen=True)
class Requirements:
    """What an environment is to hold.

    Attributes:
        lines: Requirements, and options of installers.
        constraints: Versions for whatever of them comes in.
    """

    lines: tuple[str, ...] = ()
    constraints: tuple[str, ...] = ()

    @classmethod
    def of_lines(cls, lines: Iterable[str]) -> Requirements:
        """Requirements that were listed.

        Raises:
            ConfigurationError: A line is not one that can travel.
        """
        return cls(tuple(checked(line) for line in lines if line.strip()))

    @classmethod
    def of_file(cls, path: str) -> Requirements:
        """Return the requirements of a file, and of the files that it names.

        Raises:
            ConfigurationError: It cannot be read, or a line cannot travel.
        """
        lines: list[str] = []
        constraints: list[str] = []
        _read(Path(path).expanduser(), lines, constraints, ())
        return cls(tuple(lines), tuple(constraints))


def checked(line: str) -> str:
    """Return a requirement, or an option of installers, that means the same on another machine.

    Raises:
        ConfigurationError: It does not.
    """
    line = _COMMENT.sub("", line).strip()
    if _PASSWORD.search(line):
        raise ConfigurationError(
            "A requirement holds a password.",
            "Set up the cluster's pip or uv for your index; what is listed here is not secret.",
        )
    if line.startswith(("-e", "--editable", ".", "/", "file:")) or "file://" in line:
        raise ConfigurationError(
            f"The requirement {line!r} is a directory of this machine.",
            "Leave it out: your own modules travel with the code that imports them.",
        )
    if not line.startswith("-"):
        try:
            # Options of a single requirement, such as hashes, follow it.
            Requirement(re.split(r"\s--", line)[0])
        except InvalidRequirement as error:
            first = str(error).partition("\n")[0]
            raise ConfigurationError(f"{line!r} is no requirement: {first}.", _REMEDY) from None
    return line


def _read(
    path: Path, lines: list[str], constraints: list[str], including: tuple[Path, ...]
) -> None:
    for line in _logical_lines(path):
        other = _OTHER_FILE.match(line)
        if other:
            named = path.parent / other["path"].strip()
            if named not in including:
                into = lines if other["option"] in ("-r", "--requirement") else constraints
                _read(named, into, constraints, (*including, named))
        else:
            lines.append(checked(line))


def _logical_lines(path: Path) -> Iterator[str]:
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise ConfigurationError(
            f"The requirements file {str(path)!r} cannot be read: {error.strerror}.",
            "Give its path on the machine that the flow runs on.",
        ) from None
    for line in text.replace("\\\n", " ").splitlines():
        stripped = _COMMENT.sub("", line).strip()
        if stripped:
            yield stripped
