"""What the page of a failed call says, as far as it needs no cluster."""

from __future__ import annotations

from dataclasses import fields
from types import SimpleNamespace
from typing import Any

import pytest

from clustrix_prefect.dispatch.call import Attempt
from clustrix_prefect.dispatch.failure_page import exit_words, failure_page, index_words
from clustrix_prefect.display.markdown import prose, prose_cell
from clustrix_prefect.errors import RemoteTraceback, SubmissionRefused
from clustrix_prefect.far_side.wire.protocol import Diagnosis


def call(**facts: Any) -> Any:
    """A call of which this is known."""
    of_attempt = {each.name for each in fields(Attempt)}
    attempt = Attempt(**{name: fact for name, fact in facts.items() if name in of_attempt})
    known: dict[str, Any] = {
        "failure": None,
        "context": {},
        "task_run_name": "fit-17-4b3",
        "map_index": None,
    }
    others = {name: fact for name, fact in facts.items() if name not in of_attempt}
    return SimpleNamespace(attempt=attempt, **{**known, **others})


@pytest.mark.parametrize(
    ("code", "words"),
    [
        (7, "7"),
        (0, "0 (the worker ended well: it is the task that failed)"),
        (-9, "-9 (ended by signal 9, SIGKILL)"),
        (139, "139 (ended by signal 11, SIGSEGV)"),
        (127, "127 (the command was not found)"),
        (255, "255"),
    ],
)
def test_exit_codes_in_words(code: int, words: str) -> None:
    assert exit_words(code) == words


@pytest.mark.parametrize(
    ("map_index", "element", "words"),
    [(None, 3, ""), (17, 17, "17"), (17, None, "17"), (17, 19, "17 (array index 19)")],
)
def test_the_array_index_is_told_where_it_is_another(
    map_index: int | None, element: int | None, words: str
) -> None:
    assert index_words(call(map_index=map_index, element=element)) == words


def test_arguments_are_short_and_no_secrets() -> None:
    arguments = {
        "seed": 17,
        "data": "<ndarray>",
        "text": "x" * 500,
        "api_token": "hunter2hunter2",
        "url": "https://alice:hunter2@host/",
    }
    page = failure_page(call(context={"task_run": {"parameters": arguments}}), {})
    assert "seed=17, data=\\<ndarray\\>, text='xxx" in page
    assert "hunter2" not in page
    assert "x" * 100 not in page


def test_what_to_do_is_told_with_code_as_code() -> None:
    refused = SubmissionRefused("No partition debgu.", "Name one that `sinfo` lists <now>.")
    page = failure_page(call(failure=refused), {})
    assert "What to do: Name one that `sinfo` lists \\<now\\>. ([more](http" in page
    assert "### Traceback" not in page


def test_the_lines_around_the_error_are_those_of_the_file_that_it_names() -> None:
    def failing(said: str) -> Any:
        number = failing.__code__.co_firstlineno
        error = ValueError("no")
        text = f'  File "{__file__}", line {number}, in failing\n    {said}\nValueError: no'
        error.__cause__ = RemoteTraceback(text)
        return call(failure=error)

    page = failure_page(failing("def failing(said: str) -> Any:"), {})
    assert "def failing(said: str) -> Any:" in page.partition("### The code")[2]
    assert "co_firstlineno" in page
    # The file is another by now.
    assert "### The code" not in failure_page(failing("def other():"), {})


def test_last_lines_and_the_script() -> None:
    found: Diagnosis = {
        "stdout_tail": "printed",
        "stderr_tail": "",
        "script": "#!/bin/sh\n\necho '<b>'\n",
    }
    page = failure_page(call(last_lines=["one", "two"]), found)
    assert "### The last that it logged\n\n```text\none\ntwo\n```" in page
    assert "### End of its standard output\n\n```text\nprinted\n```" in page
    assert "standard error" not in page
    script = page.splitlines()[-1]
    assert script.startswith("<details><summary>Job script</summary><pre>#!/bin/sh&#10;&#10;echo")
    assert "<b>" not in script


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("Look at `sinfo -N`.", "Look at `sinfo -N`."),
        ("a_b `c_d` e*f", "a\\_b `c_d` e\\*f"),
        ("`a|b`", "`a\\|b`"),
        ("one ` alone", "one \\` alone"),
        ("`x` [y](http://evil) `z`", "`x` \\[y\\](http\\://evil) `z`"),
    ],
)
def test_code_in_prose(text: str, shown: str) -> None:
    assert prose(text) == shown


def test_a_line_of_a_cell_does_not_end_within_code() -> None:
    shown = prose_cell(
        "the words before it are many, and then comes `scontrol show job 12` and more"
    )
    assert "`scontrol show job 12`" in shown
    assert "<br>" in shown
