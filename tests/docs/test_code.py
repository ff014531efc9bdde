"""Every block of code in the README and the documentation does what it is there for.

Python is executed, page by page, with saved blocks kept in memory and this machine in place of the
clusters that are named; `test_scripts.py` runs the whole scripts. Configuration is parsed, shell
lines are held against the commands' own parsers. What cannot be run says why, in a comment.
"""

from __future__ import annotations

import configparser
import importlib
import importlib.util
import re
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import cyclopts
import prefect.settings
import pytest
import yaml

from clustrix_prefect.applying.files import read_documents
from clustrix_prefect.cli.main import command_line
from tests.docs.pages import ROOT, Code, code_of, every_code, pages

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

LANGUAGES = {"python", "console", "yaml", "ini", "sh", "mermaid", "text"}
_WITH_PYTHON = [
    page for page in pages() if any(code.language == "python" for code in code_of(page))
]


def _runnable(*languages: str) -> list[Any]:
    return [
        pytest.param(code, id=str(code))
        for code in every_code(*languages)
        if code.why_not_run is None
    ]


@pytest.mark.parametrize("page", pages(), ids=lambda page: str(page.relative_to(ROOT)))
def test_a_block_has_a_language_that_is_looked_at(page: Path) -> None:
    assert {code.language for code in code_of(page) if code.why_not_run is None} <= LANGUAGES


# --- Python ---------------------------------------------------------------------------------


@pytest.mark.parametrize("page", _WITH_PYTHON, ids=lambda page: str(page.relative_to(ROOT)))
def test_python_runs(page: Path, stand_ins: dict[str, str]) -> None:
    names: dict[str, Any] = {"__name__": "a_page"}
    for code in code_of(page):
        # Those that import Clustrix are for test_migrating.py.
        if (
            code.language == "python"
            and code.why_not_run is None
            and "from clustrix " not in code.text
        ):
            text = code.text
            for path, instead in stand_ins.items():
                text = text.replace(path, instead)
            exec(compile("\n" * (code.line - 1) + text, code.page, "exec"), names)


# --- configuration --------------------------------------------------------------------------


@pytest.mark.parametrize("code", _runnable("yaml"))
def test_yaml_is_what_it_says(code: Code, tmp_path: Path) -> None:
    documents = list(yaml.safe_load_all(code.text))
    assert documents
    if "block" in documents[0]:
        (file := tmp_path / "block.yaml").write_text(code.text)
        assert read_documents([file])


@pytest.mark.parametrize("code", _runnable("ini"))
def test_a_unit_has_sections(code: Code) -> None:
    units = configparser.ConfigParser(strict=False, interpolation=None)
    units.read_string(code.text)
    assert units.sections()


@pytest.mark.parametrize("code", _runnable("sh"))
def test_variables_of_prefect_are_settings(code: Code) -> None:
    for line in code.text.splitlines():
        name, equals, _ = line.partition("=")
        assert equals, line
        assert hasattr(prefect.settings, name), line


# --- shell lines ----------------------------------------------------------------------------


def _clustrix_prefect(words: list[str], page: str) -> None:
    command_line().parse_args(words)


def _prefect(words: list[str], page: str) -> None:
    app = pytest.importorskip("prefect.cli._app", reason="an older Prefect's command line")
    words = [word for word in words if word != "--no-prompt"]
    app._app.parse_args(words, exit_on_error=False, print_error=False)


def _python(words: list[str], page: str) -> None:
    if words[0] == "-m":
        assert importlib.util.find_spec(words[1]), words
        return
    file = ROOT / words[0]
    if not file.exists():
        # A script that the page has the reader save.
        assert re.search(rf"`{re.escape(words[0])}`", (ROOT / page).read_text()), words
        return
    if words[0].startswith("flows/"):
        name = ".".join(Path(words[0]).with_suffix("").parts)
        main: Callable[..., int] | None = getattr(importlib.import_module(name), "main", None)
        if main is None:
            assert not any(word.startswith("-") for word in words[1:]), words
        else:
            cyclopts.App(default_command=main).parse_args(
                words[1:], exit_on_error=False, print_error=False
            )


def _pip(words: list[str], page: str) -> None:
    assert words[0] == "install", words
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for extras in re.findall(r"\[(.*?)\]", " ".join(words)):
        assert set(extras.split(",")) <= settings["optional-dependencies"].keys(), words


def _make(words: list[str], page: str) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    assert next(word for word in words if "=" not in word) in targets, words


COMMANDS: dict[str, Callable[[list[str], str], None]] = {
    "clustrix-prefect": _clustrix_prefect,
    "prefect": _prefect,
    "python": _python,
    ".venv/bin/python": _python,
    "python3": _python,
    "pip": _pip,
    "make": _make,
}
_OF_THE_SHELL = {".", "cd"}


def _command_lines(code: Code) -> Iterator[list[str]]:
    """The commands of a session: lines that begin with `$`, with those that continue them."""
    for line in re.findall(r"^\$ (.*)$", code.text.replace("\\\n", " "), re.MULTILINE):
        words = shlex.split(line, comments=True)
        yield words


@pytest.mark.parametrize("code", _runnable("console"))
def test_a_command_is_one(code: Code) -> None:
    lines = list(_command_lines(code))
    assert lines, "no line begins with `$ `"
    for command, *words in lines:
        if command in COMMANDS:
            COMMANDS[command](words, code.page)
        else:
            assert command in _OF_THE_SHELL, f"say why {command} is not run, in a comment"
