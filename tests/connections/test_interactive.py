"""What hosts ask, in the words of their PAM modules, and what they are answered."""

from __future__ import annotations

import uuid
from collections.abc import Callable
from typing import Any

import pytest

from clustrix_prefect.connections.interactive import Questions
from clustrix_prefect.connections.one_time_codes import OneTimeCodes
from clustrix_prefect.errors import AuthenticationFailed

PASSWORD = "correct horse"
WHERE = "ana@ndoli:22"
DUO = """Duo two-factor login for ana

Enter a passcode or select one of the following options:

 1. Duo Push to XXX-XXX-1234
 2. Phone call to XXX-XXX-1234

Passcode or option (1-2): """


class Transport:
    """A transport whose host asks these, one after another."""

    def __init__(self, *rounds: tuple[str, str, list[str]]) -> None:
        self._rounds = rounds
        self.answers: list[str] = []

    def auth_interactive(self, user: str, handler: Callable[..., list[str]]) -> list[str]:
        for title, instructions, prompts in self._rounds:
            self.answers += handler(title, instructions, [(prompt, False) for prompt in prompts])
        return []


def codes(count: int = 9) -> OneTimeCodes:
    given = iter([f"{number:06}" for number in range(count)])
    return OneTimeCodes(str(uuid.uuid4()), lambda now: next(given), period=1)


def answers(*prompts: str, password: str | None = PASSWORD, with_codes: bool = True) -> list[str]:
    host: Any = Transport(*(("", "", [prompt]) for prompt in prompts))
    Questions(WHERE, "ana", password, codes() if with_codes else None).run(host, "ana")
    return list(host.answers)


@pytest.mark.parametrize(
    "prompt",
    [
        "Password: ",
        "(ana@ndoli) Password:",
        "ana@EXAMPLE.ORG's Password:",
        "Password for ana@EXAMPLE.ORG: ",
        "LDAP Password: ",
        "First Factor: ",
        "Passwort: ",
        "Mot de passe : ",
        "Contraseña: ",
        "Your password will expire in 7 days.\nPassword: ",
        "You have to change your password every 90 days.\nPassword: ",
    ],
)
def test_a_password(prompt: str) -> None:
    assert answers(prompt) == [PASSWORD]


@pytest.mark.parametrize(
    "prompt",
    [
        "Verification code: ",
        "One-time password (OATH) for `ana': ",
        "Enter your one-time passcode:",
        "Enter PASSCODE:",
        "Second Factor: ",
        "Second Factor (optional): ",
        "TACC Token Code:",
        "Token_Response: ",
        "OTP: ",
        "TOTP:",
        "Enter your 6-digit code: ",
        "Enter MFA code:",
        "Enter Your Microsoft verification code",
        "2FA token: ",
        DUO,
    ],
)
def test_a_one_time_code(prompt: str) -> None:
    assert answers(prompt) == ["000000"]


@pytest.mark.parametrize("prompt", ["Password & verification code: ", "Password + Token value: "])
def test_both_in_one(prompt: str) -> None:
    assert answers(prompt) == [f"{PASSWORD}000000"]


def test_several_questions_at_once_and_words_without_any() -> None:
    host: Any = Transport(
        ("Welcome", "Maintenance on Friday.", []), ("", "", ["Password:", "OTP:"]), ("", "", [])
    )
    Questions(WHERE, "ana", PASSWORD, codes()).run(host, "ana")
    assert host.answers == [PASSWORD, "000000"]


def test_an_account_whose_name_is_one_of_the_words() -> None:
    host: Any = Transport(("", "", ["Password for token@ndoli: "]))
    Questions(WHERE, "token", PASSWORD, codes()).run(host, "token")
    assert host.answers == [PASSWORD]


@pytest.mark.parametrize(
    "prompt", ["Favourite colour? ", "Enter PIN: ", "YubiKey for `ana': ", "Passcode or password:"]
)
def test_what_is_not_understood_is_quoted(prompt: str) -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        answers("Password: ", prompt)
    assert f'{WHERE} asks ana "{prompt.strip()}", which cannot be answered from here' in str(
        caught.value
    )
    assert PASSWORD not in str(caught.value)
    assert 'connection="openssh"' in caught.value.remedy


def test_no_answer_is_quoted_though_the_host_repeats_it() -> None:
    with pytest.raises(AuthenticationFailed) as caught:
        answers("Password: ", "Code: ", f"You said {PASSWORD} and 000000.\n\x1b[1mReally 000000? ")
    assert "You said ... and ..." in str(caught.value)
    assert "[1mReally ...?" in str(caught.value)
    assert "\x1b" not in str(caught.value)


def test_what_is_asked_for_and_was_not_given() -> None:
    with pytest.raises(AuthenticationFailed, match=r'one-time code of ana \("OTP:"\)') as caught:
        answers("OTP: ", with_codes=False)
    assert "`totp`" in caught.value.remedy
    with pytest.raises(AuthenticationFailed, match=r'password of ana \("Password:"\)') as caught:
        answers("Password: ", password=None)
    assert "`password`" in caught.value.remedy


def test_the_same_password_is_not_given_twice() -> None:
    assert answers("LDAP Password: ", "Password: ") == [PASSWORD, PASSWORD]
    with pytest.raises(AuthenticationFailed, match="does not take the password of ana"):
        answers("Password: ", "Permission denied, please try again.\nPassword: ")


def test_a_code_that_is_asked_for_again_is_another_one_and_the_last() -> None:
    refused = f"Incorrect passcode. Please try again.\n{DUO}"
    assert answers(DUO, refused) == ["000000", "000001"]
    with pytest.raises(
        AuthenticationFailed, match="took none of 2 one-time codes of ana"
    ) as caught:
        answers(DUO, refused, refused)
    assert "Incorrect passcode." in str(caught.value)
    assert "clock" in caught.value.remedy


@pytest.mark.parametrize(
    "prompt",
    [
        "You are required to change your password immediately (administrator enforced).\n"
        "Changing password for ana.\nCurrent password: ",
        "(current) UNIX password: ",
        "New password: ",
        "Enter new UNIX password: ",
        "Retype new password: ",
        "Password expired. You must change your password now.\nOld Password: ",
    ],
)
def test_a_password_that_has_to_be_changed(prompt: str) -> None:
    with pytest.raises(AuthenticationFailed, match="The password of ana has expired") as caught:
        answers(prompt)
    assert "change it" in caught.value.remedy
