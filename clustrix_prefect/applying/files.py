"""YAML files whose mistakes are told with the line that they are on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clustrix_prefect.errors import ConfigurationError

Place = tuple[str | int, ...]


@dataclass(frozen=True)
class Mistake:
    """What is wrong, and where.

    Attributes:
        file: The file.
        line: The line, from one.
        text: What is wrong; no value of a secret is in it.
    """

    file: Path
    line: int
    text: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {self.text}"


class WrongFiles(ConfigurationError):
    """Files that are not what they should be; nothing was changed.

    Attributes:
        mistakes: Everything that is wrong with them.
    """

    def __init__(self, mistakes: Iterable[Mistake]) -> None:
        self.mistakes = tuple(sorted(mistakes, key=lambda one: (str(one.file), one.line)))
        lines = "\n".join(f"  {mistake}" for mistake in self.mistakes)
        super().__init__(f"Nothing was changed:\n{lines}\n", "Correct the files, and apply again.")


@dataclass(frozen=True)
class Document:
    """One YAML document.

    Attributes:
        file: Where it is from.
        data: Its content.
        lines: The line of each of its parts.
    """

    file: Path
    data: Any
    lines: Mapping[Place, int] = field(repr=False)

    def mistake(self, text: str, *place: str | int) -> Mistake:
        """A mistake at a place, or at what is around it where the place is not written."""
        while place and place not in self.lines:
            place = place[:-1]
        return Mistake(self.file, self.lines.get(place, 1), text)


def read_documents(paths: Sequence[Path]) -> list[Document]:
    """The documents in files, and in all `*.yaml` of directories.

    Raises:
        ConfigurationError: There is no such file.
        WrongFiles: A file is not YAML.
    """
    documents: list[Document] = []
    mistakes: list[Mistake] = []
    for file in _files(paths):
        try:
            for node in yaml.compose_all(file.read_text(encoding="utf-8"), yaml.SafeLoader):
                if node is not None:
                    documents.append(_document(file, node, mistakes))
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            # Not the whole error: it quotes the line, and whatever is on it.
            mistakes.append(Mistake(file, line, f"This is not YAML: {error.problem}."))
        except UnicodeDecodeError:
            mistakes.append(Mistake(file, 1, "This is not UTF-8."))
    if mistakes:
        raise WrongFiles(mistakes)
    return documents


def _files(paths: Sequence[Path]) -> Iterator[Path]:
    for path in paths:
        if path.is_dir():
            yield from sorted(one for one in path.iterdir() if one.suffix in (".yaml", ".yml"))
        elif path.is_file():
            yield path
        else:
            raise ConfigurationError(
                f"There is no {str(path)!r}.", "Name YAML files, or directories of them."
            )


def _document(file: Path, node: yaml.Node, mistakes: list[Mistake]) -> Document:
    lines: dict[Place, int] = {}
    _note_lines(node, (), lines, file, mistakes)
    loader = yaml.SafeLoader("")
    try:
        data = loader.construct_document(node)
    except yaml.MarkedYAMLError as error:
        line = error.problem_mark.line + 1 if error.problem_mark else 1
        mistakes.append(Mistake(file, line, f"This is not YAML: {error.problem}."))
        data = None
    return Document(file, data, lines)


def _note_lines(
    node: yaml.Node, place: Place, lines: dict[Place, int], file: Path, mistakes: list[Mistake]
) -> None:
    lines.setdefault(place, node.start_mark.line + 1)
    if isinstance(node, yaml.MappingNode):
        for key, value in node.value:
            inner = (*place, str(key.value))
            line = key.start_mark.line + 1
            if inner in lines:
                mistakes.append(Mistake(file, line, f"{key.value!r} is here twice."))
            lines[inner] = line
            _note_lines(value, inner, lines, file, mistakes)
    elif isinstance(node, yaml.SequenceNode):
        for number, value in enumerate(node.value):
            _note_lines(value, (*place, number), lines, file, mistakes)
