"""YAML files whose mistakes are told with the line that they are on."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from clustrix_prefect.errors import ConfigurationError

Place = tuple[str | int, ...]

_MOST_PARTS = 100_000
# What the reader lets through of what goes wrong in it, besides its own errors.
_SLIPPED = (ArithmeticError, AttributeError, LookupError, TypeError, ValueError)


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
        """Return a mistake at a place, or at what is around it where the place is not written."""
        while place and place not in self.lines:
            place = place[:-1]
        return Mistake(self.file, self.lines.get(place, 1), text)


def read_documents(paths: Sequence[Path]) -> list[Document]:
    """Return the documents in files, and in all `*.yaml` of directories.

    Raises:
        ConfigurationError: There is no such file.
        WrongFiles: A file is not YAML.
    """
    documents: list[Document] = []
    mistakes: list[Mistake] = []
    for file in _files(paths):
        try:
            documents += _documents(file, file.read_text(encoding="utf-8"))
        except WrongFiles as error:
            mistakes += error.mistakes
        except UnicodeDecodeError:
            mistakes.append(Mistake(file, 1, "This is not UTF-8."))
        except OSError as error:
            mistakes.append(Mistake(file, 1, f"This cannot be read: {error.strerror}."))
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


class _Loader(yaml.SafeLoader):  # type: ignore[misc]
    """Whatever goes wrong while a value is made of a node is told with the node's line."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            made = super().construct_object(node, deep)
            if isinstance(made, str):
                made.encode()  # half of a pair of surrogates can be sent to nobody
            return made
        except _SLIPPED as error:
            # Such as an impossible date. Not what the error says: it may quote the value.
            kind = node.tag.rpartition(":")[2]
            raise yaml.constructor.ConstructorError(
                None, None, f"a value is no {kind}", node.start_mark
            ) from error


def _documents(file: Path, text: str) -> list[Document]:
    """Return the documents in a text.

    Raises:
        WrongFiles: It is not YAML, names something twice, or has no end.
    """
    found: list[Document] = []
    mistakes: list[Mistake] = []
    loader: _Loader | None = None
    node: yaml.Node | None = None
    try:
        loader = _Loader(text)
        while loader.check_node():
            node = None
            node = loader.get_node()
            noted = _Lines(file, node)
            mistakes += noted.mistakes
            data = loader.construct_document(node)
            found.append(Document(file, data, noted.lines))
    except yaml.reader.ReaderError as error:
        # Its position counts characters from the beginning.
        line = text.count("\n", 0, error.position) + 1
        code = error.character if isinstance(error.character, int) else ord(error.character)
        told = f"the character U+{code:04X} has no place in it"
        raise WrongFiles([Mistake(file, line, f"This is not YAML: {told}.")]) from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        # Not the whole error: it quotes the line, and whatever is on it.
        told = error.problem or "it cannot be understood"
        raise WrongFiles(
            [Mistake(file, mark.line + 1 if mark else 1, f"This is not YAML: {told}.")]
        ) from None
    except (RecursionError, *_SLIPPED) as error:
        mark = node.start_mark if node is not None else loader.get_mark() if loader else None
        told = "a value in it is not possible"
        if isinstance(error, RecursionError):
            told = "it is nested too deeply"
        line = mark.line + 1 if mark else 1
        raise WrongFiles([Mistake(file, line, f"This is not YAML: {told}.")]) from None
    if mistakes:
        raise WrongFiles(mistakes)
    return found


class _Lines:
    """The line of each part of a document.

    Args:
        file: Where the document is.
        root: Its node.

    Attributes:
        lines: The lines, from one.
        mistakes: Names that are there twice.

    Raises:
        WrongFiles: Aliases make it endless, or a name is more than a word.
    """

    def __init__(self, file: Path, root: yaml.Node) -> None:
        self.lines: dict[Place, int] = {}
        self.mistakes: list[Mistake] = []
        self._file = file
        self._parts = 0
        self._note(root, (), ())

    def _note(self, node: yaml.Node, place: Place, around: tuple[yaml.Node, ...]) -> None:
        line = node.start_mark.line + 1
        if any(node is outer for outer in around):
            raise WrongFiles([Mistake(self._file, line, "An alias leads to what it is within.")])
        self._parts += 1
        if self._parts > _MOST_PARTS:
            # Each alias of aliases is written out: ten lines make thousands of millions of parts.
            told = f"This has more than {_MOST_PARTS:,} parts, aliases written out."
            raise WrongFiles([Mistake(self._file, line, told)])
        self.lines.setdefault(place, line)
        around = (*around, node)
        if isinstance(node, yaml.MappingNode):
            names: set[str] = set()
            for key, value in node.value:
                if not isinstance(key, yaml.ScalarNode):
                    line = key.start_mark.line + 1
                    told = "A name is one word, not a list or a mapping."
                    raise WrongFiles([Mistake(self._file, line, told)])
                inner = (*place, key.value)
                if key.value in names:
                    told = f"{key.value!r} is here twice."
                    self.mistakes.append(Mistake(self._file, key.start_mark.line + 1, told))
                names.add(key.value)
                self.lines[inner] = key.start_mark.line + 1
                self._note(value, inner, around)
        elif isinstance(node, yaml.SequenceNode):
            for number, value in enumerate(node.value):
                self._note(value, (*place, number), around)
