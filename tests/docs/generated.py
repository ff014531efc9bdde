"""Write what the code says into the documentation: `python -m tests.docs.generated`.

The pages on blocks, on the command line and on the protocol, and the files that pages show.

`test_generated.py` fails where a page is not what this writes.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Annotated, Any, Literal, get_args, get_origin

from cyclopts import App
from cyclopts.argument import Argument
from prefect.blocks.core import Block
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from clustrix_prefect import ManagedEnvironment
from clustrix_prefect.block_types import BLOCK_TYPES
from clustrix_prefect.cli.main import EXIT_STATUSES, command_line
from clustrix_prefect.clusters.batch import BatchCluster
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.host import SSHHost
from clustrix_prefect.clusters.workers import WorkerCluster
from clustrix_prefect.kubernetes.pods import default_image
from tests.docs.pages import DOCS, pages, with_files
from tests.docs.protocol_page import protocol_page

_NOTE = "<!-- Written by `python -m tests.docs.generated`; change the code, not this page. -->"
_COMPLETION = """\
## Completion

bash, zsh and fish complete commands, options and their values with TAB once this has run in them
and a new shell is open:

<!-- not run: tests/test_completion.py runs it for each shell, and completes a line -->
```console
$ clustrix-prefect --install-completion
```

It writes what the shell reads to where that looks for it: below `~/.local/share/bash-completion`
(and names it in `~/.bashrc`), `~/.zsh/completions` (and names that in `~/.zshrc`; a `compinit`
there has to come after it) or `~/.config/fish/completions`. `--shell bash` names another shell
than the one that runs, `--output FILE` another file. Run it again after an upgrade."""
# What several blocks have in common, and what such blocks are called.
_SHARED: tuple[tuple[type[BaseModel], str, str], ...] = (
    (ClusterBlock, "Every cluster", "All cluster blocks have these fields."),
    (
        SSHHost,
        "Clusters reached over SSH",
        "`SSHCluster`, `SlurmCluster`, `PBSCluster` and `SGECluster` also have these.",
    ),
    (
        BatchCluster,
        "Clusters with a batch scheduler",
        "`SlurmCluster`, `PBSCluster` and `SGECluster` also have these.",
    ),
    (
        WorkerCluster,
        "Clusters without a scheduler",
        "`LocalCluster` and `SSHCluster` also have these.",
    ),
)


def blocks_page() -> str:
    """Return the page of all blocks' fields, as Markdown."""
    lines = [
        "# Fields of the blocks",
        _NOTE,
        "A block is given its fields when it is made (`SlurmCluster(host=...)`), in the form"
        " of the UI, or in a file that [`blocks apply`](command-line.md#blocks-apply) reads."
        " A field without a default has to be given. A secret may be given as"
        " [a reference](../guides/credentials.md).",
    ]
    for kind, title, lead in _SHARED:
        lines += [f"## {title}", lead, _table(_own_fields(kind))]
    for kind in BLOCK_TYPES:
        slug = kind.get_block_type_slug()
        lines += [f"## {kind.__name__}", f"{kind.get_description()} Saved as `{slug}/NAME`."]
        own = _own_fields(kind)
        lines += [_table(own) if own else "It has no further fields."]
    lines += [
        "## ManagedEnvironment",
        "The value of `managed_environment`; see [Environments](../guides/environments.md).",
        _table(ManagedEnvironment.model_fields),
    ]
    return _joined(lines)


def command_line_page() -> str:
    """Return the page of the command line, as Markdown."""
    lines = [
        "# Command line",
        _NOTE,
        "`clustrix-prefect COMMAND --help` prints the same. No command ends in a traceback: what"
        " goes wrong is printed as one sentence on what happened and one on what to do.",
        EXIT_STATUSES,
        "On a terminal, tables are folded to its width, and what is good or bad has a colour,"
        " unless `NO_COLOR` is set. In a pipe or a file there is one line a row, as long as it is,"
        " without colours; with `--json` it is what a program can read.",
    ]
    for name, command in _commands(command_line()):
        arguments = command.assemble_argument_collection(parse_docstring=True)
        about = inspect.getdoc(command.default_command) or ""
        rows = [f"| `{_with_value(one)}` | {_meaning_of(one)} |" for one in arguments]
        lines += [f"## {name}", *map(_sentence, about.partition("Args:")[0].strip().split("\n\n"))]
        lines += [f"`{_usage(name, arguments)}`"]
        lines += ["\n".join(["| argument | meaning |", "|---|---|", *rows])]
    return _joined([*lines, _COMPLETION])


PAGES = {
    "reference/blocks.md": blocks_page,
    "reference/command-line.md": command_line_page,
    "develop/protocol.md": protocol_page,
}


def _joined(parts: Iterable[str]) -> str:
    return "\n\n".join(parts) + "\n"


def _own_fields(kind: type[BaseModel]) -> dict[str, FieldInfo]:
    """The fields of a block that are in no table of shared ones, or say something else there."""
    shared = [one for one, _, _ in _SHARED if issubclass(kind, one) and one is not kind]
    theirs = {name: field for one in shared for name, field in one.model_fields.items()}
    return {
        name: field
        for name, field in kind.model_fields.items()
        if name not in Block.model_fields
        and (name not in theirs or theirs[name].description != field.description)
    }


def _table(fields: Mapping[str, FieldInfo]) -> str:
    rows = [
        f"| `{name}` | {_type(field.annotation)} | {_default(field)} | {_meaning(field)} |"
        for name, field in fields.items()
    ]
    return "\n".join(["| field | type | default | meaning |", "|---|---|---|---|", *rows])


def _meaning(field: FieldInfo) -> str:
    text = (field.description or f"{field.title}.").strip()
    examples = " or ".join(f"`{_shown(one)}`" for one in field.examples or ())
    return _cell(f"{text} Example: {examples}." if examples else text)


def _default(field: FieldInfo) -> str:
    default = field.get_default(call_default_factory=True)
    if default is PydanticUndefined:
        return ""
    if default == default_image():
        return "`python:X.Y-slim`, X.Y being the flow's Python"
    return _cell(f"`{_shown(default)}`")


def _shown(value: Any) -> str:
    return f'"{value}"' if isinstance(value, str) else str(value).replace("'", '"')


def _type(annotation: Any) -> str:
    if annotation is SecretStr:
        return "secret"
    if get_origin(annotation) is Literal:
        return _cell(" or ".join(f'`"{value}"`' for value in get_args(annotation)))
    if get_origin(annotation) is Annotated:
        return _type(get_args(annotation)[0])
    if annotation is Any:
        return "any"
    if inspect.isclass(annotation) and not get_args(annotation):
        return annotation.__name__
    inner = [one for one in get_args(annotation) if one is not type(None)]
    if get_origin(annotation) in (list, tuple):
        return f"list of {_type(inner[0])}"
    if get_origin(annotation) is dict:
        return f"dict of {_type(inner[0])} to {_type(inner[1])}"
    return " or ".join(dict.fromkeys(map(_type, inner)))


def _cell(text: str) -> str:
    """A text as a cell of a table: the site and GitHub read a bar within `code` differently."""
    text = re.sub(r"`([^`]*\|[^`]*)`", lambda code: f"<code>{escape(code[1])}</code>", text)
    return text.replace("|", "&#124;").replace("\n", " ")


def _commands(of: App, prefix: str = "") -> Iterator[tuple[str, App]]:
    """Every command that does something: its name, and what it is."""
    for name in of:
        if name.startswith("-"):
            continue
        command = of[name]
        if command.default_command is None:
            yield from _commands(command, f"{name} ")
        else:
            yield prefix + name, command


def _usage(name: str, arguments: Iterable[Argument]) -> str:
    words = ["clustrix-prefect", name]
    for argument in arguments:
        word = _with_value(argument)
        words.append(word if argument.required else f"[{word}]")
    return " ".join(words)


_VALUES = {int: "INTEGER", float: "NUMBER"}


def _with_value(argument: Argument) -> str:
    """An argument as it is written, with what stands for its value."""
    name, hint = argument.name, argument.hint
    is_many = get_origin(hint) is list or argument.parameter.consume_multiple
    if is_many or argument.field_info.kind is argument.field_info.VAR_POSITIONAL:
        return f"{name} NAME ..." if name.startswith("-") else f"{name} ..."
    if not name.startswith("-") or hint is bool:
        return name
    return f"{name} {_VALUES.get(hint, 'TEXT')}"


def _meaning_of(argument: Argument) -> str:
    choices = ", ".join(argument.get_choices() or ())
    return _cell(f"{argument.parameter.help}{f': {choices}' if choices else ''}")


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


if __name__ == "__main__":
    for page, write in PAGES.items():
        (DOCS / page).write_text(write())
    for path in pages():
        path.write_text(with_files(path.read_text()))
