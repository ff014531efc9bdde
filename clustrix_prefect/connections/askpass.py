"""Answers the one question of `ssh` that is about a one-time code, and no other.

`ssh` has a program of ours ask (SSH_ASKPASS), which hands the question to this process over a
socket that nobody else can reach: the code is in no file, on no command line, and in nobody's
environment.
"""

from __future__ import annotations

import os
import shlex
import socket
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from clustrix_prefect.connections.prompts import Prompt

_SECONDS = 30.0
_LONGEST_QUESTION = 4096

_PROGRAM = """
import socket, sys
with socket.socket(socket.AF_UNIX) as asked:
    asked.connect(sys.argv[1])
    asked.sendall(sys.argv[2].encode() + b"\\0")
    answer = asked.makefile("rb").read()
if not answer:
    sys.exit(1)
sys.stdout.buffer.write(answer)
"""


class OneAnswer:
    """Answers one question about a one-time code while the context lasts.

    Args:
        path: Where the program and its socket are made, with these suffixes; for us alone.
        code: The answer, given once.

    Attributes:
        refused: The questions that were not answered.
        was_given: Whether the code was asked for.
    """

    def __init__(self, path: Path, code: str) -> None:
        self.refused: list[str] = []
        self.was_given = False
        self._code = code
        self._program = path.with_name(f"{path.name}.ask")
        self._address = path.with_name(f"{path.name}.answer")
        self._listener = socket.socket(socket.AF_UNIX)

    @property
    def environment(self) -> Mapping[str, str]:
        """The environment for `ssh`; releases before 8.4 ask a program only where there is X11."""
        return {
            **os.environ,
            "SSH_ASKPASS": str(self._program),
            "SSH_ASKPASS_REQUIRE": "force",
            "DISPLAY": os.environ.get("DISPLAY") or ":0",
        }

    def __enter__(self) -> OneAnswer:
        python = shlex.join([sys.executable, "-I", "-S", "-c", _PROGRAM, str(self._address)])
        self._program.touch(mode=0o700)
        self._program.write_text(f'#!/bin/sh\nexec {python} "$1"\n')
        self._listener.bind(str(self._address))
        self._listener.listen()
        threading.Thread(target=self._serve, name="clustrix-askpass", daemon=True).start()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self._code = ""
        # A thread that is blocked on it wakes up.
        self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()
        self._program.unlink(missing_ok=True)
        self._address.unlink(missing_ok=True)

    def _serve(self) -> None:
        while True:
            try:
                asked, _ = self._listener.accept()
            except OSError:  # closed
                return
            with asked:
                asked.settimeout(_SECONDS)
                try:
                    asked.sendall(self._answer(_question(asked)).encode())
                except OSError:  # it did not wait
                    continue

    def _answer(self, question: str) -> str:
        if not self.was_given and Prompt.read(question).is_for_code_alone:
            self.was_given = True
            return f"{self._code}\n"
        self.refused.append(question)
        return ""


def _question(asked: socket.socket) -> str:
    data = b""
    while not data.endswith(b"\0") and len(data) < _LONGEST_QUESTION:
        more = asked.recv(_LONGEST_QUESTION)
        if not more:
            break
        data += more
    return data.rstrip(b"\0").decode("utf-8", "replace").strip()
