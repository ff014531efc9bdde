"""What holds for every command: its help, its exit status, and what it prints where."""

from __future__ import annotations

import fcntl
import inspect
import io
import json
import logging
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path
from typing import Any

import pytest
from cyclopts import App
from rich.text import Text

from clustrix_prefect import clusters
from clustrix_prefect.cli.main import command_line, main
from clustrix_prefect.cli.running import new_app, run, run_flow
from clustrix_prefect.cli.terminal import print_table
from clustrix_prefect.pricing.arguments import Endpoints, Regions, flow_parameters
from clustrix_prefect.schedulers.scheduler import JobState
from clustrix_prefect.sessions import job_listing
from flows import (
    approve_pricing_baseline,
    benchmark_transfer,
    validate_all,
    validate_cluster_access,
    validate_credentials,
    validate_filesystem,
    validate_packaging,
    validate_pricing,
)

PROGRAM = str(Path(sys.executable).with_name("clustrix-prefect"))
_LONG = " ".join(["the partition is down"] * 8)


def commands(of: App, prefix: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    for name in of:
        if not name.startswith("-"):
            words = (*prefix, name)
            yield from [words] if of[name].default_command else commands(of[name], words)


COMMANDS = list(commands(command_line()))


def test_the_commands_are_these() -> None:
    assert sorted(" ".join(words) for words in COMMANDS) == [
        "automations apply",
        "blocks apply",
        "check",
        "jobs cancel",
        "jobs list",
        "jobs logs",
        "login",
        "prices",
        "store prune",
        "store usage",
    ]


@pytest.mark.parametrize("words", COMMANDS, ids=" ".join)
def test_help_has_a_line_for_everything(words: tuple[str, ...], capsys: Any) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    assert f"Usage: clustrix-prefect {' '.join(words)} " in shown
    command: Any = command_line()
    for word in words:
        command = command[word]
    first = (inspect.getdoc(command.default_command) or "").splitlines()[0]
    assert first in " ".join(shown.split())
    for argument in command.assemble_argument_collection(parse_docstring=True):
        assert argument.parameter.help, argument.name
        assert argument.name in shown
        assert " ".join(argument.parameter.help.split()) in " ".join(shown.split())
    assert "--json" in shown
    for status in ("0 if", "1 if", "2 if", "3 if", "130 after"):
        assert status in shown
    assert not re.search("[\x1b╭│]", shown), "there is no terminal"


@pytest.mark.parametrize("words", [[], ["jobs"]])
def test_help_of_several_has_a_line_for_each(words: list[str], capsys: Any) -> None:
    assert main([*words, "--help"]) == 0
    shown = capsys.readouterr().out
    command: Any = command_line()
    for word in words:
        command = command[word]
    for name in command:
        if not name.startswith("-"):
            assert re.search(rf"^ +{name}: \w.*\.$|^ +{name}: ", shown, re.MULTILINE)


WRONG = {
    "": "Say which command: automations, blocks, check, jobs, login, prices, store.",
    "jobs": "Say which command: cancel, list, logs.",
    "nonsense": 'Unknown command "nonsense".',
    "jobs nope": 'Unknown command "nope".',
    "chekc x": 'Did you mean "check"?',
    "check": "requires an argument.",
    "check a b": "It takes no b.",
    "check a --jsn": "--json",
    "check a --no-json": "Unknown option",
    "jobs logs a": "CALL",
    "blocks apply": "PATH",
    "login a --status --logout": "--status, --logout",
    "login a --hours nan": "--hours",
    "login a --hours 9000": "at most 8,760",
    "login a --hours": "--hours",
    "store usage a --items -1": "--items",
    "store usage a --items some": "--items",
    "store prune a --older-than 3y": "'3y' is not an age; write for example 12h or 30d",
    "prices m5.large": "--region",
    "prices m5.large --region us-east-1 --providers acme": "acme",
    "prices m5.large --region us-east-1 --providers": "Name one at least.",
    "prices m5.large --region us-east-1 --deadline -1": "--deadline",
    "prices m5.large --region us-east-1 --endpoint aws=": "PROVIDER=URL",
}


@pytest.mark.parametrize("line", WRONG)
def test_a_wrong_command_line_is_one_sentence(line: str, capsys: Any) -> None:
    assert main(line.split()) == 2
    shown = capsys.readouterr()
    assert shown.out == ""
    said, more = shown.err.splitlines()
    assert said.startswith("clustrix-prefect: ")
    assert WRONG[line] in said
    words = re.fullmatch(r"`clustrix-prefect (.*)--help` says what there is\.", more)
    assert words, more
    assert main([*words[1].split(), "--help"]) == 0


@pytest.mark.parametrize("line", ["--help", "jobs --help", "check", "nonsense", "--version"])
def test_it_is_quick(line: str) -> None:
    """Prefect takes a second to import; what needs none of it does without."""
    program = (
        "import sys; from clustrix_prefect.cli.main import main\n"
        "main(sys.argv[1:]); print(*sys.modules, file=sys.stderr)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, *line.split()], capture_output=True, text=True
    )
    loaded = {name.partition(".")[0] for name in done.stderr.split()}
    assert "cyclopts" in loaded
    assert not loaded & {"prefect", "pydantic", "paramiko", "cloudpickle", "httpx", "boto3"}


def test_nobody_reads_to_the_end() -> None:
    program = """
import sys
from clustrix_prefect.cli.running import new_app, run
from clustrix_prefect.cli.terminal import print_table

command = new_app("many", None, "")
command.default(lambda: print_table([["x" * 99]] * 9999))
sys.exit(run(command, []))
"""
    ours, theirs = os.pipe()
    os.close(ours)
    with open(theirs, "w") as pipe:
        done = subprocess.run(
            [sys.executable, "-c", program], stdout=pipe, stderr=subprocess.PIPE, text=True
        )
    assert done.stderr == ""
    assert done.returncode == 141


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (KeyboardInterrupt(), 130, ""),
        (
            ZeroDivisionError("by\nnothing"),
            1,
            "clustrix-prefect: ZeroDivisionError: by nothing\n"
            "PREFECT_LOGGING_LEVEL=DEBUG shows where it comes from.\n",
        ),
    ],
)
def test_no_command_ends_in_a_traceback(
    error: BaseException, status: int, said: str, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(block: str) -> None:
        raise error

    monkeypatch.setattr(clusters, "load_cluster", fail)
    assert main(["check", "local-cluster/x"]) == status
    shown = capsys.readouterr()
    assert shown.out == ""
    assert shown.err == said


def test_at_level_debug_it_is_told_where_an_error_comes_from(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(block: str) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(clusters, "load_cluster", fail)
    with caplog.at_level(logging.DEBUG, logger="prefect"), pytest.raises(ZeroDivisionError):
        main(["check", "local-cluster/x"])


@pytest.mark.parametrize("what", ["blocks", "automations"])
def test_prefect_is_away(what: str, tmp_path: Path) -> None:
    file = tmp_path / "one.yaml"
    file.write_text(
        "block: local-cluster/one\n"
        if what == "blocks"
        else "name: one\ntrigger: {type: event, posture: Reactive, expect: [x]}\nactions: []\n"
    )
    done = subprocess.run(
        [PROGRAM, what, "apply", str(file)],
        capture_output=True,
        text=True,
        env={**os.environ, "PREFECT_API_URL": "http://127.0.0.1:9/api"},
    )
    assert done.returncode == 1
    assert "The Prefect API at http://127.0.0.1:9/api does not answer." in done.stderr
    assert "Traceback" not in done.stderr


FLOWS = [
    benchmark_transfer,
    validate_all,
    validate_cluster_access,
    validate_credentials,
    validate_filesystem,
    validate_packaging,
    validate_pricing,
    approve_pricing_baseline,
]


@pytest.mark.parametrize("flow", FLOWS, ids=lambda flow: flow.__name__)
def test_a_flow_has_a_command_line_like_it(
    flow: Any, capsys: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = new_app("flow.py", None, "Exit status: 0 if all is well.")
    command.default(flow.main)
    for argument in command.assemble_argument_collection(parse_docstring=True):
        assert argument.parameter.help, argument.name
    monkeypatch.setattr("sys.argv", ["flow.py", "--nope"])
    with pytest.raises(SystemExit) as caught:
        run_flow(flow.main)
    assert caught.value.code == 2
    told = capsys.readouterr().err
    assert re.fullmatch(r"flow.py: .*--nope.*\n`flow.py --help` says what there is\.\n", told)


def test_what_a_flow_is_told() -> None:
    told: list[object] = []

    def main(*, region: Regions = (), endpoint: Endpoints = ()) -> int:
        told.append(flow_parameters((), region, endpoint))
        return 0

    command = new_app("flow.py", None, "")
    command.default(main)
    line = "--region aws=us-east-1 --endpoint gcp=http://x --region aws=us-east-2"
    assert run(command, [*line.split(), "--endpoint", "azure.authority=http://y/?a=b"]) == 0
    assert run(command, []) == 0
    assert told == [
        {
            "providers": None,
            "regions": {"aws": ["us-east-1", "us-east-2"]},
            "options": {
                "gcp": {"endpoint": "http://x"},
                "azure": {"authority": "http://y/?a=b"},
            },
        },
        {"providers": None, "regions": None, "options": None},
    ]


# --- tables ---------------------------------------------------------------------------------


def test_a_table_in_a_pipe_is_whole(capsys: Any, monkeypatch: Any) -> None:
    monkeypatch.setenv("COLUMNS", "40")
    print_table([("1", _LONG, Text("ok", "green")), ("[bold]12", "", "")], ["JOB", "REASON", "IT"])
    header, first, second = capsys.readouterr().out.splitlines()
    assert first == f"1         {_LONG}  ok"
    assert header.index("IT") == first.index("ok")
    assert second == "[bold]12"


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize("no_color", [False, True])
def test_a_table_fits_the_terminal(no_color: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("NO_COLOR", "FORCE_COLOR", "TTY_COMPATIBLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("COLUMNS", "50")
    monkeypatch.setenv("TERM", "xterm")
    if no_color:
        monkeypatch.setenv("NO_COLOR", "1")
    terminal = Terminal()
    print_table(
        [("268_19", _LONG, Text("ok", "green")), ("x" * 70, "", "")],
        ["JOB", "REASON", "IT"],
        file=terminal,
    )
    shown = terminal.getvalue()
    assert ("\x1b[32m" in shown) is not no_color
    lines = re.sub(r"\x1b\[[0-9;]*m", "", shown).splitlines()
    assert max(map(len, lines)) <= 50
    assert len(lines) > 4
    assert sum(line.count("x") for line in lines) == 70, "nothing is cut off"
    assert sum(line.count("partition") for line in lines) == 8


def test_help_on_a_terminal_has_its_width() -> None:
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 50, 60, 0, 0))
    hidden = ("COLUMNS", "LINES", "NO_COLOR")
    environment = {name: text for name, text in os.environ.items() if name not in hidden}
    process = subprocess.Popen(
        [PROGRAM, "prices", "--help"], stdout=theirs, env={**environment, "TERM": "xterm"}
    )
    os.close(theirs)
    read = b""
    try:
        while some := os.read(ours, 4096):
            read += some
    except OSError:  # it has ended
        pass
    os.close(ours)
    assert process.wait() == 0
    assert b"\x1b[" in read
    lines = re.sub(r"\x1b\[[0-9;]*m", "", read.decode()).splitlines()
    assert max(map(len, lines)) <= 60


def test_json_asks_on_the_other_side(capsys: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """What a program reads is JSON and nothing else, though a person is asked."""

    class Jobs:
        def find(self) -> list[job_listing.OurJob]:
            job = job_listing.OurJob("7", run="r", name="fit")
            job.elements[JobState.RUNNING] += 1
            return [job]

        def cancel(self, jobs: Any) -> None:
            raise AssertionError("nobody said so")

    monkeypatch.setattr(clusters, "load_cluster", lambda block: None)
    monkeypatch.setattr(job_listing, "cluster_jobs", lambda cluster: nullcontext(Jobs()))
    monkeypatch.setattr("sys.stdin", io.StringIO("no\n"))
    assert main(["jobs", "cancel", "slurm-cluster/x", "--json"]) == 1
    shown = capsys.readouterr()
    assert json.loads(shown.out) == {"cancelled": []}
    assert "Cancel this job? [y/N]" in shown.err
    assert "fit" in shown.err
