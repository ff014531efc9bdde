"""What a host asks of who logs in (keyboard-interactive, RFC 4256), and the answers."""

from __future__ import annotations

import re
from collections.abc import Sequence

import paramiko

from clustrix_prefect.connections.one_time_codes import OneTimeCodes
from clustrix_prefect.connections.prompts import Prompt
from clustrix_prefect.errors import AuthenticationFailed, ClustrixError

METHOD = "keyboard-interactive"
_SHOWN = 200
_MOST_CODES = 2  # of one login; hosts count

_CHANGE = re.compile(
    r"\b(new|retype|re-?enter|repeat|old|current)\b[^\n]*pass ?word[^\n]*\Z"
    r"|\b(required to|must|have to) change your password (now|immediately)\b|^changing password",
    re.I | re.M,
)
_BY_HAND = (
    'log in by hand: set connection="openssh" in the cluster\'s block, and run '
    "`clustrix-prefect login` with its name"
)


class Questions:
    """The questions of one host, and what they are answered.

    Args:
        where: The host and the account, for people.
        user: The account.
        password: Its password, if there is one to give.
        codes: Its one-time codes, if there are.

    Attributes:
        said: What the host said beside its questions.
        were_asked: Whether it asked any.
    """

    def __init__(
        self, where: str, user: str, password: str | None, codes: OneTimeCodes | None
    ) -> None:
        self.said: list[str] = []
        self.were_asked = False
        self._where = where
        self._user = user
        self._password = password
        self._codes = codes
        self._without_answer: ClustrixError | None = None
        self._answered: set[str] = set()
        self._given: list[str] = []  # codes

    @property
    def label(self) -> str:
        """What there is to answer with, for people."""
        named = ["the password"] if self._password is not None else []
        named += ["a one-time code"] if self._codes is not None else []
        return f"{' and '.join(named) or 'no answer'} ({METHOD})"

    def run(self, transport: paramiko.Transport, user: str) -> list[str]:
        """Log in; the methods that are still wanted after it.

        Raises:
            AuthenticationFailed: It asks what there is no answer for.
            CredentialError: A code cannot be asked for.
        """
        try:
            return transport.auth_interactive(user, self._answer)
        except (paramiko.SSHException, EOFError, OSError):
            if self._without_answer is None:
                raise
            raise self._without_answer from None

    def _answer(
        self, title: str, instructions: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str]:
        """Run on paramiko's thread, which ends the connection and itself with an SSHException."""
        try:
            return self._answers(title, instructions, prompts)
        except ClustrixError as error:
            self._without_answer = error
            raise paramiko.SSHException("There is no answer.") from error

    def _answers(
        self, title: str, instructions: str, prompts: Sequence[tuple[str, bool]]
    ) -> list[str]:
        texts = [title, instructions, *(prompt for prompt, _ in prompts)]
        if _CHANGE.search("\n".join(text.strip() for text in texts)):
            raise AuthenticationFailed(
                f"The password of {self._user} has expired: {self._where} wants it to be changed.",
                "Log in with `ssh` and change it; if the block has it, put the new one there.",
            )
        questions = [_question(prompt) for prompt, _ in prompts]
        self.were_asked = self.were_asked or bool(questions)
        self._note([title, instructions, *(before for before, _ in questions)])
        return [self._answer_to(question) for _, question in questions]

    def _answer_to(self, question: str) -> str:
        prompt = Prompt.read(re.sub(rf"\b{re.escape(self._user)}\b", "", question))
        if prompt.code and prompt.password and prompt.in_turn:
            return self._give_password(question) + self._give_code(question)
        if prompt.pin or prompt.code == prompt.password:
            raise self._failure(
                f'asks {self._user} "{self._shown(question)}", which cannot be answered from here',
                f"Ask its administrators for a login without that question, or {_BY_HAND}.",
            )
        return self._give_code(question) if prompt.code else self._give_password(question)

    def _give_password(self, question: str) -> str:
        if self._password is None:
            raise self._failure(
                f'asks for the password of {self._user} ("{self._shown(question)}"), and there is '
                "none to give",
                "Give SSHCredentials a `password`.",
            )
        if question in self._answered:
            raise self._failure(
                f"does not take the password of {self._user}",
                "Correct the `password` of SSHCredentials.",
            )
        self._answered.add(question)
        return self._password

    def _give_code(self, question: str) -> str:
        if self._codes is None:
            raise self._failure(
                f'asks for a one-time code of {self._user} ("{self._shown(question)}"), and there '
                "is none to give",
                f"Give SSHCredentials a `totp` that codes are made from, or {_BY_HAND}.",
            )
        if self._codes.count >= _MOST_CODES:
            raise self._failure(
                f"took none of {_MOST_CODES} one-time codes of {self._user}",
                "Check the `totp` of SSHCredentials and this machine's clock.",
            )
        code = self._codes.next()
        self._given.append(code)
        return code

    def _note(self, texts: Sequence[str]) -> None:
        for text in texts:
            if (shown := self._shown(text)) and shown not in self.said:
                self.said.append(shown)

    def _failure(self, what: str, remedy: str) -> AuthenticationFailed:
        said = f' It says "{" / ".join(self.said)}".' if self.said else ""
        counted = bool(self._answered or self._given)
        return AuthenticationFailed(f"{self._where} {what}.{said}", remedy, is_counted=counted)

    def _shown(self, text: str) -> str:
        """Return the host's words in one line, without any answer that it repeats."""
        for answer in filter(None, (self._password, *self._given)):
            text = text.replace(answer, "...")
        words = "".join(letter if letter.isprintable() else " " for letter in text).split()
        return " ".join(words)[:_SHOWN]


def _question(prompt: str) -> tuple[str, str]:
    """Return what a prompt says first, and the question that is its last line."""
    before, _, question = prompt.strip().rpartition("\n")
    return before, question.strip()
