"""Shells complete the command line, once they have read what the documentation says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.pages import DOCS, code_of

LINE = "clustrix-prefect blocks apply --d"
# For each shell: which block of the page it reads, after what, and how one asks it how the line may
# go on. zsh completes at a terminal only; it says what it would ask.
ASK = {
    "bash": (
        "bash",
        "",
        """\
COMP_WORDS=({line}) COMP_CWORD=3 COMP_LINE='{line}' COMP_POINT={point} COMP_TYPE=9
set -- $(complete -p clustrix-prefect)
while [ "$1" != -F ]; do shift; done
"$2" clustrix-prefect
printf '%s\\n' "${{COMPREPLY[@]}}"
""",
        "--dry-run",
    ),
    "zsh": (
        "bash",
        "autoload -U compinit; compinit -u -D\n",
        "print $_comps[clustrix-prefect]",
        "_python_argcomplete",
    ),
    "fish": ("fish", "", "complete --do-complete '{line}'", "--dry-run"),
}


@pytest.mark.parametrize("shell", ASK)
def test_a_shell_completes(shell: str) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    language, before, ask, told = ASK[shell]
    page = DOCS / "reference/command-line.md"
    (setup,) = (code.text for code in code_of(page) if code.language == language)
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    script = before + setup + ask.format(line=LINE, point=len(LINE))
    done = subprocess.run(
        [shell, "-c", script], capture_output=True, text=True, env={**os.environ, "PATH": path}
    )
    assert told in done.stdout, done.stderr
