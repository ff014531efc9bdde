"""Shells complete the command line, once completion was installed as the documentation says."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

LINE = "clustrix-prefect blocks apply --d"
# For each shell: how one asks it how the line may go on, as soon as it has started. zsh completes
# at a terminal only; it says what it would ask, and reads that.
ASK = {
    "bash": """\
. ~/.bashrc
COMP_WORDS=({line}) COMP_CWORD=3 COMP_LINE='{line}' COMP_POINT={point} COMP_TYPE=9
set -- $(complete -p clustrix-prefect)
while [ "$1" != -F ]; do shift; done
"$2" clustrix-prefect
printf '%s\\n' "${{COMPREPLY[@]}}"
""",
    "zsh": """\
. ~/.zshrc
autoload -U compinit; compinit -u -D
autoload -U +X $_comps[clustrix-prefect] && functions $_comps[clustrix-prefect]
""",
    "fish": "complete --do-complete '{line}'",
}


@pytest.mark.parametrize("shell", ASK)
def test_a_shell_completes(shell: str, tmp_path: Path) -> None:
    if shutil.which(shell) is None:
        pytest.skip(f"no {shell} on this machine")
    programs = os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]])
    kept = {name: text for name, text in os.environ.items() if not name.startswith(("XDG_", "ZSH"))}
    environment = {**kept, "PATH": programs, "HOME": str(tmp_path)}

    def run(*command: str) -> str:
        done = subprocess.run(command, capture_output=True, text=True, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    assert str(tmp_path) in run("clustrix-prefect", "--install-completion", "--shell", shell)
    assert "--dry-run" in run(shell, "-c", ASK[shell].format(line=LINE, point=len(LINE)))
