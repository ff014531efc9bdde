"""No secret gets anywhere: one of each kind is used in full runs, and then searched for."""

from __future__ import annotations

import base64
import contextlib
import gzip
import json
import os
import re
import secrets
import subprocess
import sys
import time
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from prefect.blocks.core import Block
from prefect.blocks.system import Secret
from prefect.client.orchestration import get_client

from clustrix_prefect import OnePasswordCLI, OnePasswordConnect, SSHCredentials
from tests.credentials.scanner import Scanner, forms_of
from tests.live import clusters
from tests.live.onepassword_connect import ConnectServer
from tests.live.op_standin import StandInOp
from tests.live.pam_host import CODE, KEYBOARD, PAMHost
from tests.live.prefect_server import PrefectServer
from tests.live.pythons import FarPythons
from tests.live.rundir import RunDirectory
from tests.live.slurm import Slurm
from tests.live.ssh_host import SSHHost

# The first of them runs the flows, and searches whatever is left of them and of this test run.

ENDED = "all flows have ended"


def canary(name: str) -> str:
    """A secret that looks different in every form."""
    return f'{name} ü"\\/+&=%<{secrets.token_hex(12)}>'


def token(name: str) -> str:
    """The same, of letters that a token may have."""
    return f'{name}"\\/+&=%<{secrets.token_hex(12)}>'


class Key:
    """A private key for the far account, encrypted with a passphrase."""

    def __init__(self, passphrase: str) -> None:
        private = Ed25519PrivateKey.generate()
        self.seed = private.private_bytes(Encoding.Raw, PrivateFormat.Raw, NoEncryption())
        self.public = private.public_key().public_bytes(Encoding.OpenSSH, PublicFormat.OpenSSH)
        self.text = private.private_bytes(
            Encoding.PEM, PrivateFormat.OpenSSH, BestAvailableEncryption(passphrase.encode())
        ).decode()
        self.line = self.text.splitlines()[3]  # whole, and of this key only


@dataclass
class Run:
    """What there is to see of the run, while it ran and afterwards.

    Attributes:
        scanner: Looks for the canaries, and for the control.
        hits: Where something was found, by place.
        references_resolve_to: Secrets that blocks only refer to.
        log: What the flows' process wrote.
    """

    scanner: Scanner
    hits: dict[str, set[str]]
    references_resolve_to: dict[str, str]
    log: str


@pytest.fixture(scope="module")
def run(
    prefect_server: PrefectServer,
    ssh_host: SSHHost,
    pam_host: PAMHost,
    slurm: Slurm,
    far_pythons: FarPythons,
    run_directory: RunDirectory,
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Run]:
    """Flows over SSH, SLURM and on this machine, with a canary of every kind in use."""
    began = time.time() - 1  # what the tests before left behind is not ours to search
    tmp_path = tmp_path_factory.mktemp("canaries")
    kinds = {
        name: canary(name)
        for name in (
            "plain passphrase",
            "password from Connect",
            "passphrase from Connect",
            "passphrase from Prefect",
            "neighbour in an item",
            "variable",
            "secret block",
        )
    }
    tokens = {
        name: token(name.replace(" ", "-"))
        for name in ("token in a block", "token in the environment", "service account")
    }
    keys = {
        "plain key": Key(kinds["plain passphrase"]),
        "key from op": Key(kinds["passphrase from Prefect"]),
        "key in the environment": Key(kinds["passphrase from Connect"]),
    }
    control = canary("control")

    connect = ConnectServer()
    connect.tokens = {tokens[name]: {"Canaries"} for name in list(tokens)[:2]}
    connect.vault("Canaries").add(
        "of the account",
        {
            "password": kinds["password from Connect"],
            "passphrase": kinds["passphrase from Connect"],
            "neighbour": kinds["neighbour in an item"],
        },
    )
    connect.start()
    op = StandInOp(tmp_path / "op-standin")
    op.allow(tokens["service account"], "Canaries")
    op.add("Canaries", "key", {"private key": keys["key from op"].text})
    # Beside the variables that references name, those that 1Password's own tools read.
    variables = {
        "CANARY_OF_ENVIRONMENT": kinds["variable"],
        "CANARY_KEY": keys["key in the environment"].text,
        "OP_CONNECT_HOST": connect.url,
        "OP_CONNECT_TOKEN": tokens["token in the environment"],
        "OP_SERVICE_ACCOUNT_TOKEN": tokens["service account"],
    }

    user = ssh_host.username
    logins = {
        "plain": SSHCredentials(
            username=user,
            private_key=keys["plain key"].text,
            passphrase=kinds["plain passphrase"],
        ),
        "connect": SSHCredentials(
            username=user,
            password="op://Canaries/of the account/password",
            secret_store="onepassword-connect/canary",
        ),
        "cli": SSHCredentials(
            username=user,
            private_key="op://Canaries/key/private key",
            passphrase="prefect:canary-passphrase",
            secret_store="onepassword-cli/canary",
        ),
        "environment": SSHCredentials(
            username=user,
            private_key="env:CANARY_KEY",
            passphrase="op://Canaries/of the account/passphrase",
        ),
    }
    work = ssh_host.home / "work" / "canaries"
    fields: dict[str, Any] = {"keep_job_files": "always", "environment": {"CONTROL": control}}
    blocks: dict[str, Block] = {
        "secret/canary-passphrase": Secret(value=kinds["passphrase from Prefect"]),
        "secret/canary-of-the-flow": Secret(value=kinds["secret block"]),
        "onepassword-connect/canary": OnePasswordConnect(
            host=connect.url, token=tokens["token in a block"]
        ),
        "onepassword-cli/canary": OnePasswordCLI(executable=op.executable),
        **{f"ssh-credentials/canary-{name}": login for name, login in logins.items()},
        "local-cluster/canary-local": clusters.local_cluster(tmp_path / "work", **fields),
    }
    for name, login in logins.items():
        make = clusters.ssh_cluster if name in ("plain", "connect") else clusters.slurm_cluster
        kind = "ssh" if make is clusters.ssh_cluster else "slurm"
        blocks[f"{kind}-cluster/canary-{name}"] = make(
            ssh_host, far_pythons, work / name, credentials=login, **fields
        )
    asks = contextlib.ExitStack()
    asks.enter_context(pam_host.codes(period=5))
    chain = "AuthenticationMethods publickey,keyboard-interactive"
    asks.enter_context(pam_host.asking(chain, KEYBOARD, auth=(CODE,)))
    blocks["ssh-cluster/canary-codes"] = clusters.ssh_cluster(
        pam_host,
        far_pythons,
        pam_host.home / "work",
        credentials=SSHCredentials(
            username=pam_host.username, key_file=str(pam_host.key_file), totp=pam_host.seed_uri
        ),
        **fields,
    )
    for name, block in blocks.items():
        block.save(name.partition("/")[2], overwrite=True, _sync=True)  # type: ignore[call-arg]

    scanner = Scanner(
        {
            **kinds,
            **tokens,
            **{f"{name}, a line": key.line for name, key in keys.items()},
            **{f"{name}, decrypted": key.seed for name, key in keys.items()},
            "seed of codes": pam_host.seed,
            "seed of codes, decoded": base64.b32decode(pam_host.seed),
            "control": control,
        }
    )
    far_dir = run_directory.child("canary-marks")
    far_dir.chmod(0o777)
    (far_dir / "gates").mkdir()
    authorized = ssh_host.home / ".ssh" / "authorized_keys"
    before = authorized.read_bytes()
    authorized.write_bytes(before + b"".join(key.public + b"\n" for key in keys.values()))

    names = [name for name in blocks if "-cluster/" in name]
    log = tmp_path / "flows.log"
    environment = {**os.environ, **variables, "PREFECT_LOGGING_LEVEL": "DEBUG"}
    command = [sys.executable, "-m", "tests.credentials.canary_flow", str(far_dir), control]
    hits: dict[str, set[str]] = {}
    try:
        with ssh_host.password(kinds["password from Connect"]), log.open("wb") as output:
            process = subprocess.Popen(
                [*command, *names], stdout=output, stderr=output, env=environment
            )
            for number, name in enumerate(names, 1):
                _wait_for(process, log, lambda number=number: _marked(far_dir, number))
                for place, found in scanner.in_processes(os.getpid(), process.pid).items():
                    hits[f"process of {name}: {place}"] = found
                (far_dir / "gates" / name.partition("/")[2]).touch()
            assert process.wait(120) == 0, log.read_text()[-5000:]
        time.sleep(1)  # the server writes what it was sent
        for places in (
            scanner.in_files(
                run_directory.path,
                ssh_host.home,
                pam_host.home / "work",
                tmp_path / "work",
                # Interpreters and images, made before: none of the flows runs in a pod.
                without=[run_directory.path / name for name in ("pythons", "kubernetes")],
                since=began,
            ),
            scanner.in_database(run_directory.child("prefect") / "prefect.db"),
        ):
            hits.update(places)
        if found := scanner.in_bytes(log.read_bytes()):
            hits["the flows' own log"] = found
        refer = {name: text for name, text in kinds.items() if "Connect" in name}
        yield Run(scanner, hits, refer, log.read_text())
    finally:
        authorized.write_bytes(before)
        asks.close()
        connect.stop()
        for name, block in blocks.items():
            type(block).delete(name.partition("/")[2], _sync=True)  # type: ignore[call-arg]


def _marked(directory: Path, count: int) -> bool:
    return len(list(directory.glob("canary-*"))) >= count


def _wait_for(process: subprocess.Popen[bytes], log: Path, holds: Any) -> None:
    deadline = time.monotonic() + 90
    while not holds():
        assert process.poll() is None, log.read_text()[-8000:]
        assert time.monotonic() < deadline, log.read_text()[-8000:]
        time.sleep(0.05)


def test_the_run_was_a_full_one(run: Run) -> None:
    assert ENDED in run.log
    assert "has no such field; it has password, passphrase, neighbour" in run.log
    assert run.scanner.looked_at > 1_000_000


def test_no_canary_is_anywhere(run: Run) -> None:
    found = {
        place: names
        for place, all_names in run.hits.items()
        if (names := {name for name in all_names if not name.startswith("control ")})
    }
    assert not found


@pytest.mark.parametrize(
    "place",
    [
        r"process of ssh-cluster/canary-connect: \d+ environ",
        r"process of ssh-cluster/canary-connect: \d+ cmdline",
        r"process of slurm-cluster/canary-cli: \d+ environ",
        r"process of slurm-cluster/canary-cli: \d+ cmdline",
        r"process of local-cluster/canary-local: \d+ environ",
        r"process of local-cluster/canary-local: \d+ cmdline",
        r"/home/.*/work/canaries/plain/.*",
        r"/home/.*/work/canaries/cli/.*",
        r"/home/cxpam\d+/work/.*",
        r".*/canaries0/work/.*",
        r".*/prefect-home/storage/.*",
        r"log\.message",
        r"artifact\.data",
        r"events\.payload",
        r"task_run_state\.message|task_run\..*|events\..*",
        r"flow_run_state\..*|flow_run\..*",
        r"the flows' own log",
    ],
)
def test_the_control_was_leaked_there_and_is_found(run: Run, place: str) -> None:
    assert any(re.fullmatch(place, where) for where in run.hits), sorted(run.hits)


def test_blocks_hold_references_and_not_what_they_lead_to(run: Run) -> None:
    scanner = Scanner(run.references_resolve_to)
    with get_client(sync_client=True) as client:
        documents = client.read_block_documents(include_secrets=True, offset=0, limit=200)
    shown = b"\n".join(json.dumps(document.data).encode() for document in documents)
    assert b"op://Canaries/of the account/password" in shown
    assert not scanner.in_bytes(shown)


class TestScanner:
    """The scanner finds a planted secret in whatever form, at whatever place of a text."""

    SECRET = 'pä"ss\\/w+o&r=d%<8f3a>'

    @pytest.mark.parametrize("before", ["", "a", "ab", "abc"])
    @pytest.mark.parametrize("after", ["", "z", "zy"])
    def test_forms(self, before: str, after: str) -> None:
        text = f"{before}{self.SECRET}{after}"
        scanner = Scanner({"it": self.SECRET})
        raw = text.encode()
        for planted in (
            raw,
            raw.hex().encode(),
            base64.b64encode(raw),
            base64.urlsafe_b64encode(raw),
            base64.encodebytes(b"x" * 40 + raw * 3),
            json.dumps(base64.encodebytes(b"x" * 50 + raw).decode()).encode(),
            quote(text).encode(),
            quote_plus(text).encode(),
            quote(text, safe="").encode(),
            json.dumps(text).encode(),
            json.dumps(json.dumps(text)).encode(),
            json.dumps(text, ensure_ascii=False).encode(),
            repr(text).encode(),
            text.encode("utf-16-le"),
            b"--" + zlib.compress(raw) + b"--",
            gzip.compress(base64.b64encode(json.dumps(text).encode())),
            base64.b64encode(zlib.compress(raw)),
        ):
            assert scanner.in_bytes(b"padding " + planted + b" padding"), planted
        assert not scanner.in_bytes(b"padding " * 100)

    def test_every_form_is_long_enough_to_mean_something(self) -> None:
        assert all(len(form) >= 16 for form in forms_of(self.SECRET.encode()))

    def test_files_and_their_names(self, tmp_path: Path) -> None:
        (tmp_path / "here").write_text(f"x{self.SECRET}")
        (tmp_path / "safe").write_text("nothing")
        scanner = Scanner({"it": self.SECRET})
        assert list(scanner.in_files(tmp_path)) == [str(tmp_path / "here")]

    def test_files_from_before_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "old").write_text(self.SECRET)
        changed = (tmp_path / "old").stat().st_ctime
        scanner = Scanner({"it": self.SECRET})
        assert scanner.in_files(tmp_path, since=changed)
        assert not scanner.in_files(tmp_path, since=changed + 1)

    def test_what_only_looks_compressed_is_not_decompressed_to_the_end_each_time(self) -> None:
        scanner = Scanner({"it": self.SECRET})
        hidden = zlib.compress(self.SECRET.encode() * 9)
        assert scanner.in_bytes(b"x\x9c" * 2**19 + hidden)
        # Each of the half million would have been followed by a copy of what comes after it.
        assert scanner.looked_at < 2 * 2**21

    def test_processes(self) -> None:
        scanner = Scanner({"it": self.SECRET})
        wait = [sys.executable, "-c", "import time; print(1, flush=True); time.sleep(60)"]
        by_environment = subprocess.Popen(
            wait, env={**os.environ, "X": self.SECRET}, stdout=subprocess.PIPE
        )
        by_argument = subprocess.Popen([*wait, self.SECRET], stdout=subprocess.PIPE)
        try:
            for process in (by_environment, by_argument):
                assert process.stdout is not None
                process.stdout.readline()
            found = set(scanner.in_processes(os.getpid()))
            assert f"{by_environment.pid} environ" in found
            assert f"{by_argument.pid} cmdline" in found
        finally:
            for process in (by_environment, by_argument):
                process.kill()
                process.wait()
                assert process.stdout is not None
                process.stdout.close()
