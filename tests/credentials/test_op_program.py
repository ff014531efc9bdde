"""`op`, by its stand-in: what it is given, what it says, and that it never waits for anybody."""

from __future__ import annotations

import contextlib
import os
import pty
import sys
import time
import traceback
import unicodedata
from pathlib import Path
from typing import Literal

import pytest

from clustrix_prefect import OnePasswordCLI
from clustrix_prefect.credentials import resolve
from clustrix_prefect.credentials.cache import SecretCache, remembering
from clustrix_prefect.errors import (
    CredentialError,
    CredentialForbidden,
    CredentialNotFound,
    CredentialStoreUnavailable,
)
from tests.credentials.conftest import SERVICE_ACCOUNT
from tests.live.daemon import wait_until
from tests.live.op_standin import StandInOp

REFERENCE = "op://Clusters/ndoli/password"


def failure(store: OnePasswordCLI, reference: str = REFERENCE) -> CredentialError:
    """The error of a read; what every one of them has in common is checked here."""
    with pytest.raises(CredentialError) as caught:
        store.read(reference)
    error = caught.value
    assert error.reference == reference
    assert store.executable in error.store
    assert error.remedy
    shown = "".join(traceback.format_exception(error))
    for secret in (SERVICE_ACCOUNT, "correct horse"):
        assert secret not in shown
    return error


def test_fields_of_an_item_with_one_run(cli: OnePasswordCLI, standin_op: StandInOp) -> None:
    with remembering(SecretCache()):
        assert resolve(REFERENCE, store=cli) == "correct horse"
        assert resolve("op://Clusters/ndoli/keys/private key", store=cli) == "KEY"
    (call,) = standin_op.calls
    assert call["arguments"] == [
        "item", "get", "--vault=Clusters", "--format=json", "--", "ndoli",
    ]  # fmt: skip


def test_it_gets_the_token_and_nothing_that_leads_elsewhere(
    cli: OnePasswordCLI, standin_op: StandInOp, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("OP_CONNECT_HOST", "http://127.0.0.1:1")
    monkeypatch.setenv("OP_CONNECT_TOKEN", "of-connect")
    monkeypatch.setenv("OP_SESSION_abc", "of-a-session")
    monkeypatch.setenv("OP_ACCOUNT", "my.1password.com")
    cli.read(REFERENCE)
    variables = standin_op.calls[0]["variables"]
    assert variables["OP_SERVICE_ACCOUNT_TOKEN"] == SERVICE_ACCOUNT
    assert not {"OP_CONNECT_HOST", "OP_CONNECT_TOKEN", "OP_SESSION_abc", "OP_ACCOUNT"} & {
        *variables
    }


_AT_A_TERMINAL = """
import subprocess, sys
from clustrix_prefect import OnePasswordCLI

token, executable = sys.argv[1:]
subprocess.run([executable, "vault", "list"], stdin=subprocess.DEVNULL)  # as it would be
OnePasswordCLI(service_account_token=token, executable=executable).read("{reference}")
"""


def test_it_has_no_terminal_and_no_input(standin_op: StandInOp) -> None:
    """Even where somebody sits at a terminal: op would ask there, whatever its input is."""
    code = _AT_A_TERMINAL.format(reference=REFERENCE)
    pid, terminal = pty.fork()
    if pid == 0:
        arguments = [sys.executable, "-c", code, SERVICE_ACCOUNT, standin_op.executable]
        os.execv(sys.executable, arguments)
    with contextlib.suppress(OSError):  # the terminal's other end is closed
        while os.read(terminal, 4096):
            pass
    _, status = os.waitpid(pid, 0)
    os.close(terminal)
    assert os.waitstatus_to_exitcode(status) == 0
    by_hand, ours = standin_op.calls
    assert by_hand["has_terminal"]
    assert not ours["has_terminal"]
    assert ours["stdin_is_empty"]


def test_names_are_never_options(cli: OnePasswordCLI, standin_op: StandInOp) -> None:
    standin_op.add("Clusters", "--help", {"password": "dashing"})
    assert resolve("op://Clusters/--help/password", store=cli) == "dashing"


@pytest.mark.parametrize("how", ["asks", "asks and ignores SIGTERM"])
def test_it_never_waits_for_anybody(standin_op: StandInOp, how: str) -> None:
    standin_op.behave(how)
    cli = OnePasswordCLI(
        service_account_token=SERVICE_ACCOUNT, executable=standin_op.executable, timeout_seconds=0.5
    )
    began = time.monotonic()
    error = failure(cli)
    assert time.monotonic() - began < 60
    assert isinstance(error, CredentialStoreUnavailable)
    assert "did not end within 0.5 seconds and was killed" in str(error)
    assert "service account" in error.remedy
    # Nothing of it is left, as soon as the kernel has ended what was killed.
    wait_until(lambda: not running(standin_op.executable))


def running(executable: str) -> list[int]:
    found = []
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit() and int(entry.name) != os.getpid():
            try:
                command = (entry / "cmdline").read_bytes().decode().split("\0")
            except OSError:
                continue
            if executable in command:
                found.append(int(entry.name))
    return found


def test_without_a_token_it_is_not_started(standin_op: StandInOp) -> None:
    with pytest.raises(CredentialStoreUnavailable, match="OP_SERVICE_ACCOUNT_TOKEN"):
        OnePasswordCLI(executable=standin_op.executable).read(REFERENCE)
    assert standin_op.calls == []


def test_what_it_leaves_running_is_not_waited_for(
    cli: OnePasswordCLI, standin_op: StandInOp
) -> None:
    standin_op.behave("leaves a daemon")
    began = time.monotonic()
    assert resolve(REFERENCE, store=cli) == "correct horse"
    assert time.monotonic() - began < 60


@pytest.mark.parametrize(
    ("reference", "kind", "says"),
    [
        ("op://Nowhere/ndoli/password", CredentialNotFound, "isn't a vault in this account"),
        ("op://Clusters/nothing/password", CredentialNotFound, "isn't an item"),
        ("op://Clusters/ndoli/pin", CredentialNotFound, "has no such field; it has username"),
    ],
)
def test_what_is_not_there(
    cli: OnePasswordCLI, reference: str, kind: type[CredentialError], says: str
) -> None:
    error = failure(cli, reference)
    assert type(error) is kind
    assert says in str(error)


def test_two_items_of_one_name(cli: OnePasswordCLI, standin_op: StandInOp) -> None:
    standin_op.add("Clusters", "ndoli", {"password": "another"})
    error = failure(cli)
    assert type(error) is CredentialNotFound
    assert "id" in error.remedy


def test_a_wrong_token(standin_op: StandInOp) -> None:
    cli = OnePasswordCLI(
        service_account_token=f"{SERVICE_ACCOUNT}x", executable=standin_op.executable
    )
    error = failure(cli)
    assert type(error) is CredentialForbidden
    assert "wrong or has expired" in error.remedy


@pytest.mark.parametrize(
    ("says", "kind", "remedy"),
    [
        ("(403) (Forbidden), You don't have permission", CredentialForbidden, "access"),
        ("(429) Too Many Requests: rate limit exceeded", CredentialStoreUnavailable, "quota"),
        ("error initializing client: dial tcp", CredentialStoreUnavailable, "op vault list"),
        ("failed to DecodeSACredentials", CredentialForbidden, "token"),
        ("you are not currently signed in. Please run `op signin`", CredentialForbidden, "token"),
        # op 2.32's own, in several lines
        ("error initializing client: failed to session.DecodeSACredentials:\n\tinvalid character",
         CredentialForbidden, "token"),
        ("error initializing client: invalid service account token, please make sure you provide a "
         "valid one", CredentialForbidden, "token"),
        # Digits of ports, times and ids, and the words of whoever is between here and there.
        ("read tcp 10.0.0.5:40122->3.64.1.9:443: read: connection reset by peer",
         CredentialStoreUnavailable, "reached"),
        ("read tcp 10.0.0.5:42915->3.64.1.9:443: i/o timeout", CredentialStoreUnavailable,
         "reached"),
        ('Get "https://my.1password.com/api/v1/auth?__t=1667584403.401": dial tcp: lookup '
         "my.1password.com: no such host", CredentialStoreUnavailable, "reached"),
        ("proxyconnect tcp: Forbidden", CredentialStoreUnavailable, "reached"),
        ("x509: certificate signed by unknown authority", CredentialStoreUnavailable, "reached"),
        ("request 7f403ab1-4290-4401: internal error", CredentialStoreUnavailable, "op vault list"),
        ("open /home/ana/.config/op/config: permission denied", CredentialStoreUnavailable,
         "OP_CONFIG_DIR"),
        ('"rate limit forbidden" isn\'t an item in the "(401) (Unauthorized)" vault',
         CredentialNotFound, "reference"),
        ("(404) (Not Found), The resource could not be found.", CredentialNotFound, "reference"),
    ],
)  # fmt: skip
def test_what_it_says(
    cli: OnePasswordCLI,
    standin_op: StandInOp,
    says: str,
    kind: type[CredentialError],
    remedy: str,
) -> None:
    standin_op.behave(f"says {says}")
    error = failure(cli)
    assert type(error) is kind
    assert says.partition("\n")[0] in str(error)
    assert remedy in error.remedy


@pytest.mark.parametrize(
    ("how", "says"),
    [
        ("html", "printed something that is not JSON"),
        ("floods", "printed more than 16 MiB"),
        ("half an item", "printed something that is not JSON"),
        ("repeats the token", "cannot use (the token) now"),
    ],
)
def test_nonsense_is_not_repeated(
    cli: OnePasswordCLI, standin_op: StandInOp, how: str, says: str
) -> None:
    standin_op.behave(how, half="correct horse")
    error = failure(cli)
    assert isinstance(error, CredentialStoreUnavailable)
    assert says in str(error)


def test_there_is_no_such_program(tmp_path: Path) -> None:
    cli = OnePasswordCLI(
        service_account_token=SERVICE_ACCOUNT, executable=str(tmp_path / "missing")
    )
    error = failure(cli)
    assert "cannot be run (No such file or directory)" in str(error)
    assert "Install" in error.remedy


def test_the_code_of_a_one_time_password(cli: OnePasswordCLI, standin_op: StandInOp) -> None:
    standin_op.add("Clusters", "two steps", {"login/otp": "SEED", "password": "p"})
    reference = "op://Clusters/two steps/login/otp"
    with remembering(SecretCache()):
        assert "SEED" in str(resolve(reference, store=cli))
        assert resolve(f"{reference}?attribute=otp", store=cli) == "134253"
        # A code holds for seconds: it is asked for each time.
        assert resolve(f"{reference}?attribute=OTP", store=cli) == "134253"
    assert len(standin_op.calls) == 3
    error = failure(cli, "op://Clusters/two steps/password?attribute=otp")
    assert "is no one-time password" in str(error)
    assert "correct" not in str(error)


@pytest.mark.parametrize("spelt", ["NFC", "NFD"])
def test_letters_with_marks_have_two_spellings(
    cli: OnePasswordCLI, standin_op: StandInOp, spelt: Literal["NFC", "NFD"]
) -> None:
    title, label = (unicodedata.normalize(spelt, text) for text in ("Zürich", "Schlüssel"))
    standin_op.add("Clusters", title, {label: "found"})
    for form in ("NFC", "NFD"):
        reference = unicodedata.normalize(form, "op://Clusters/Zürich/Schlüssel")
        assert resolve(reference, store=cli) == "found"
