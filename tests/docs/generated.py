"""Write what the code says into the documentation: `python -m tests.docs.generated`.

The pages on blocks, on the command line and on the protocol, and the files that pages show.

`test_generated.py` fails where a page is not what this writes.
"""

from __future__ import annotations

import argparse
import inspect
import re
from collections.abc import Iterable, Iterator, Mapping
from html import escape
from typing import Annotated, Any, Literal, get_args, get_origin

from prefect.blocks.core import Block
from pydantic import BaseModel, SecretStr
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined

from clustrix_prefect import ManagedEnvironment
from clustrix_prefect.block_types import BLOCK_TYPES
from clustrix_prefect.cli.main import parser
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

A shell completes commands, options and their values with TAB once it has read this line. Put it
into `~/.bashrc`, `~/.zshrc` (after `compinit`) or `~/.config/fish/config.fish`.

bash and zsh:

<!-- not run: tests/test_completion.py runs it, and completes a line -->
```bash
eval "$(register-python-argcomplete clustrix-prefect)"
```

fish:

<!-- not run: tests/test_completion.py runs it, and completes a line -->
```fish
register-python-argcomplete --shell fish clustrix-prefect | source
```"""
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
        " goes wrong is printed as one sentence on what happened and one on what to do, and the"
        " exit status is then 1. Wrong arguments end with 2, and Ctrl-C with 130.",
    ]
    for name, about, command in _commands(parser()):
        lines += [f"## {name}", _sentence(command.description or about)]
        lines += [f"`{_usage(command)}`"]
        lines += ["| argument | meaning |\n|---|---|\n" + "\n".join(_arguments(command))]
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


def _commands(
    of: argparse.ArgumentParser, prefix: str = "", about: str = ""
) -> Iterator[tuple[str, str, argparse.ArgumentParser]]:
    """Every command that does something: its name, what it does, and its parser."""
    groups = [one for one in of._actions if isinstance(one, argparse._SubParsersAction)]
    if not groups:
        yield prefix.strip(), about, of
    for group in groups:
        told = {choice.dest: choice.help or "" for choice in group._choices_actions}
        for name, command in group.choices.items():
            yield from _commands(command, f"{prefix} {name}", told[name])


def _usage(command: argparse.ArgumentParser) -> str:
    words = [command.prog]
    for action in _in_order(command):
        if action.option_strings:
            word = " ".join([action.option_strings[-1], *([_metavar(action)] * _values(action))])
            words.append(word if action.required else f"[{word}]")
        else:
            many = action.nargs in ("*", "+")
            word = f"{_metavar(action)} ..." if many else _metavar(action)
            words.append(f"[{word}]" if action.nargs == "*" else word)
    return " ".join(words)


def _arguments(command: argparse.ArgumentParser) -> Iterator[str]:
    for action in _in_order(command):
        names = [action.option_strings[-1]] if action.option_strings else []
        words = [*names, *([_metavar(action)] * (not names or _values(action)))]
        yield f"| `{' '.join(words)}` | {_cell(action.help or '')} |"


def _in_order(command: argparse.ArgumentParser) -> list[argparse.Action]:
    """What it takes but `--help`, what is given by its place first."""
    return sorted(command._actions[1:], key=lambda action: bool(action.option_strings))


def _values(action: argparse.Action) -> bool:
    return action.nargs != 0


def _metavar(action: argparse.Action) -> str:
    return str(action.metavar or action.dest.upper())


def _sentence(text: str) -> str:
    text = " ".join(text.split())
    return f"{text[:1].upper()}{text[1:].rstrip('.')}."


if __name__ == "__main__":
    for page, write in PAGES.items():
        (DOCS / page).write_text(write())
    for path in pages():
        path.write_text(with_files(path.read_text()))
