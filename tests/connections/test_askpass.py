"""The one question that is answered with a code that somebody typed into a form."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from clustrix_prefect.connections.control_master import ControlMaster, _own_directory
from clustrix_prefect.connections.openssh import open_openssh
from clustrix_prefect.connections.prompts import Prompt
from clustrix_prefect.errors import LoginNeeded
from tests.connections.conftest import master_of, read_all
from tests.live import pam_host as pam
from tests.live.pam_host import PAMHost

PASSWORD = "correct horse"
BOTH = "AuthenticationMethods publickey,keyboard-interactive"


@pytest.fixture
def master(pam_host: PAMHost) -> Iterator[ControlMaster]:
    with master_of(pam_host) as made:
        yield made


def test_a_key_and_a_code(master: ControlMaster, pam_host: PAMHost) -> None:
    with pam_host.codes(), pam_host.asking(pam.KEYBOARD, BOTH, auth=[pam.CODE]):
        with pytest.raises(LoginNeeded, match=r"Permission denied \(keyboard-interactive"):
            master.ensure()
        with pytest.raises(LoginNeeded, match="did not take the code"):
            master.open_with_code("000000", 600)
        code = pam_host.code()
        master.open_with_code(code, 600)
        connection = open_openssh(master)
        assert read_all(connection.start("whoami")).decode().strip() == pam_host.username
        opened = master.opened
        assert opened is not None
        assert opened.by_hand
        left = [path.name for path in _own_directory().iterdir()]
        assert not [name for name in left if name.endswith((".ask", ".answer"))]
        for path in _own_directory().glob("*.conf"):
            assert code not in path.read_text()


def test_a_password_is_asked_on_a_terminal_only(master: ControlMaster, pam_host: PAMHost) -> None:
    with (
        pam_host.password(PASSWORD),
        pam_host.asking(pam.KEYBOARD, "AuthenticationMethods keyboard-interactive"),
        pytest.raises(LoginNeeded, match="asked on a terminal only"),
    ):
        master.open_with_code("123456", 600)


@pytest.mark.parametrize(
    "question",
    [
        "Verification code:",
        "(ana@ndoli) Verification code: ",
        "One-time password (OATH) for `ana':",
        "Enter your OTP:",
        "Duo two-factor login for ana\n\nPasscode or option (1-3): ",
        "Enter PASSCODE: ",
        "Token: ",
    ],
)
def test_questions_about_codes(question: str) -> None:
    assert Prompt.read(question).is_for_code_alone


@pytest.mark.parametrize(
    "question",
    [
        *("Password:", "(ana@ndoli) Password: ", "Enter passphrase for key '/home/ana/.ssh/id':"),
        *("Password & verification code: ", "Enter PIN for authenticator: ", "First Factor: "),
        *("Are you sure you want to continue connecting (yes/no)?", "", "Mot de passe :"),
    ],
)
def test_other_questions(question: str) -> None:
    assert not Prompt.read(question).is_for_code_alone
