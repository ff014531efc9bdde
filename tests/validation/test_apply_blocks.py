"""`clustrix-prefect blocks apply`, against a real Prefect server."""

from __future__ import annotations

import json
import uuid
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prefect.client.orchestration import get_client

from clustrix_prefect import KubernetesCluster, LocalCluster, SlurmCluster, SSHCredentials
from clustrix_prefect.applying.blocks import KINDS
from clustrix_prefect.cli.main import main
from tests.live.prefect_server import PrefectServer

ROOT = Path(__file__).parents[2]
TWO = """\
block: slurm-cluster/NAME
fields:
  host: ndoli.example.edu
  credentials: ssh-credentials/NAME
  environment:
    OMP_NUM_THREADS: "1"
---
block: ssh-credentials/NAME
fields:
  username: ana
  password: env:NDOLI_PASSWORD
"""


@pytest.fixture
def name(prefect_server: PrefectServer) -> Iterator[str]:
    name = f"n{uuid.uuid4().hex[:8]}"
    yield name
    with get_client(sync_client=True) as client:
        for document in client.read_block_documents(limit=200, offset=0):
            if document.name == name:
                client.delete_block_document(document.id)


@pytest.fixture
def file(name: str, tmp_path: Path) -> Path:
    path = tmp_path / "ndoli.yaml"
    path.write_text(TWO.replace("NAME", name))
    return path


def versions() -> dict[str, Any]:
    """When each block was last written."""
    with get_client(sync_client=True) as client:
        documents = client.read_block_documents(limit=200, offset=0)
    return {
        f"{one.block_type.slug}/{one.name}": one.updated
        for one in documents
        if one.name and one.block_type
    }


def apply(*arguments: Any) -> int:
    return main(["blocks", "apply", *map(str, arguments)])


def test_blocks_are_saved_and_a_second_time_nothing_is(
    file: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply(file) == 0
    assert "2 of 2 blocks saved." in capsys.readouterr().out
    cluster: Any = SlurmCluster.load(name, _sync=True)  # type: ignore[call-arg]
    assert (cluster.host, cluster.environment) == ("ndoli.example.edu", {"OMP_NUM_THREADS": "1"})
    assert cluster.credentials.password.get_secret_value() == "env:NDOLI_PASSWORD"
    before = versions()
    assert apply(file) == 0
    assert "0 of 2 blocks saved." in capsys.readouterr().out
    assert versions() == before
    # What is within is the other block itself, not a copy of it.
    file.write_text(file.read_text().replace("ana", "bob"))
    assert apply(file) == 0
    assert "1 of 2 blocks saved." in capsys.readouterr().out
    assert SlurmCluster.load(name, _sync=True).credentials.username == "bob"  # type: ignore[call-arg, union-attr]


def test_a_dry_run_shows_the_difference_and_changes_nothing(
    file: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply("--dry-run", file) == 0
    assert "2 of 2 blocks would be saved." in capsys.readouterr().out
    assert f"slurm-cluster/{name}" not in versions()
    apply(file)
    capsys.readouterr()
    before = versions()
    file.write_text(file.read_text().replace("ndoli.example.edu", "kili.example.edu"))
    assert apply("--dry-run", file) == 0
    out = capsys.readouterr().out
    assert "host: 'ndoli.example.edu' -> 'kili.example.edu'" in out
    assert "1 of 2 blocks would be saved." in out
    assert apply("--dry-run", "--json", file) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["saved"] is None
    assert [(one["name"], one["new"]) for one in told["blocks"]] == [
        (f"ssh-credentials/{name}", False),
        (f"slurm-cluster/{name}", False),
    ]
    assert told["blocks"][1]["differences"] == ["host: 'ndoli.example.edu' -> 'kili.example.edu'"]
    assert versions() == before
    assert apply("--json", file) == 0
    assert json.loads(capsys.readouterr().out)["saved"] == [f"slurm-cluster/{name}"]


def test_what_was_not_made_from_a_file_is_replaced_only_if_somebody_says_so(
    file: Path, name: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    by_hand = SlurmCluster(host="by-hand.example.edu")
    by_hand.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]
    asked: list[str] = []

    def answer(question: str) -> str:
        asked.append(question)
        if len(asked) == 1:
            raise EOFError
        return "y" if len(asked) == 3 else ""

    monkeypatch.setattr("builtins.input", answer)
    for _ in range(2):  # nobody is there; somebody says no
        assert apply(file) == 1
        assert "--overwrite replaces them" in capsys.readouterr().err
        assert SlurmCluster.load(name, _sync=True).host == "by-hand.example.edu"  # type: ignore[call-arg, union-attr]
    assert f"slurm-cluster/{name} was not made from a file. Replace it?" in asked[0]
    assert apply(file) == 0
    assert SlurmCluster.load(name, _sync=True).host == "ndoli.example.edu"  # type: ignore[call-arg, union-attr]
    # From now on it is one that was made from a file.
    file.write_text(file.read_text().replace("ndoli.example.edu", "kili.example.edu"))
    assert apply(file) == 0
    assert len(asked) == 3
    by_hand.save(f"{name}-b", _sync=True)  # type: ignore[call-arg]
    file.write_text(f"block: slurm-cluster/{name}-b\nfields: {{host: from-a-file}}\n")
    assert apply("--overwrite", file) == 0
    assert len(asked) == 3
    SlurmCluster.delete(f"{name}-b", _sync=True)  # type: ignore[call-arg]


def test_a_dry_run_never_shows_a_secret(
    file: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    apply(file)
    block = SSHCredentials(username="ana", password="canary-one", passphrase="canary-two")
    block.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]
    cluster = LocalCluster(environment={"API_TOKEN": "canary-three", "A": "b"})
    cluster.save(name, overwrite=True, _sync=True)  # type: ignore[call-arg]
    with file.open("a") as text:
        text.write(f"---\nblock: local-cluster/{name}\nfields: {{environment: {{A: c}}}}\n")
    capsys.readouterr()
    assert apply("--dry-run", file) == 0
    shown = capsys.readouterr()
    assert "password: a value that is not shown -> env:NDOLI_PASSWORD" in shown.out
    assert "passphrase: a value that is not shown -> nothing" in shown.out
    assert "{API_TOKEN: a value that is not shown, A: 'b'} -> {A: 'c'}" in shown.out
    assert "canary" not in shown.out + shown.err


@pytest.mark.parametrize(
    ("old", "new", "line", "told"),
    [
        ("env:NDOLI_PASSWORD", "canary", 11, "This is a secret"),
        ("env:NDOLI_PASSWORD", "ev:CANARY", 11, "This is a secret"),
        ("env:NDOLI_PASSWORD", "12345", 11, "This is a secret"),
        ("env:NDOLI_PASSWORD", "[env:A, canary]", 11, "This is a secret"),
        ("env:NDOLI_PASSWORD", "env:NO NAME", 11, "env:"),
        ('OMP_NUM_THREADS: "1"', "API_TOKEN: canary", 6, "~/secrets.sh"),
        ('OMP_NUM_THREADS: "1"', "API_TOKEN: env:CANARY", 6, "neither it nor a reference"),
        ('OMP_NUM_THREADS: "1"', "DATABASE_URL: postgres://u:canary@h/db", 6, "This is a secret"),
        ("host: ndoli.example.edu", 'setup: ["export HF_TOKEN=canary"]', 3, "This is a secret"),
        ("username: ana", "username: '-----BEGIN RSA PRIVATE KEY-----canary'", 10, "secret"),
        ("host:", "hots:", 3, "has no field 'hots'; is it 'host'?"),
        ("credentials: ssh-credentials/NAME", "credentials: {password: canary}", 4, "secret"),
        ("credentials: ssh-credentials/NAME", "credentials: [1]", 4, "name it"),
        ("credentials: ssh-credentials/NAME", "credentials: gone", 4, "no block ssh-cred"),
        ("credentials: ssh-credentials/NAME", "credentials: local-cluster/x", 4, "no block"),
        ("block: slurm-cluster/NAME", "block: slurm/NAME", 1, "'slurm' is not a type"),
        ("block: slurm-cluster/NAME", "block: slurm-cluster/No_Name", 1, "not a block's name"),
        ("block: slurm-cluster/NAME", "blck: slurm-cluster/NAME", 1, "Write `block:"),
        ("block: ssh-credentials/NAME", "block: slurm-cluster/NAME", 8, "is also at"),
        ("host: ndoli.example.edu", "host: a\n  host: b", 4, "'host' is here twice"),
        ("host: ndoli.example.edu", "port: 123456", 3, "port: Input should be"),
        ("host: ndoli.example.edu", "host: [", 5, "not YAML"),
        ("host: ndoli.example.edu", "host: !!python/name:os.system", 3, "not YAML"),
    ],
)
def test_mistakes_are_told_with_their_line_and_nothing_is_saved(
    file: Path,
    name: str,
    old: str,
    new: str,
    line: int,
    told: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    text, old = file.read_text(), old.replace("NAME", name) if "env:" not in old else old
    assert old in text
    file.write_text(text.replace(old, new.replace("NAME", name), 1))
    before = versions()
    assert apply(file) == 1
    err = capsys.readouterr().err
    assert any(f"{file}:{line}: " in one and told in one for one in err.splitlines()), err
    assert "canary" not in err.lower()
    assert versions() == before


def test_all_mistakes_are_told_at_once(file: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = file.read_text().replace("host:", "hots:").replace("env:NDOLI_PASSWORD", "canary")
    file.write_text(text)
    assert apply(file) == 1
    err = capsys.readouterr().err
    assert ":3: " in err
    assert ":11: " in err


def test_the_examples_can_be_applied(
    prefect_server: PrefectServer, capsys: pytest.CaptureFixture[str]
) -> None:
    assert apply("--dry-run", ROOT / "blocks") == 0
    out = capsys.readouterr().out
    for name in (
        "local-cluster/example-local",
        "slurm-cluster/example-slurm",
        "ssh-cluster/example-gpu",
        "kubernetes-cluster/example-kubernetes",
    ):
        assert f"{name}: new" in out
    assert "onepassword-connect/example: new" in out
    assert "token: env:OP_CONNECT_TOKEN" in out


@pytest.mark.parametrize(
    "fields",
    [
        "setup: ['export HF_TOKEN=canary']",
        "setup: ['setenv HF_TOKEN canary']",
        "setup: ['login --password canary']",
        "setup: ['login --api-key=\"canary\" && true']",
        "setup: ['curl -H \"Authorization: Bearer canary-canary\" https://x.example']",
        "setup: ['echo hf_CanaryCanaryCanary > ~/.token']",
        "setup: ['pip install -i https://ana:canary@pypi.example.org/simple x']",
        "environment: {DATABASE_URL: 'postgres://u:canary@h/db'}",
        "environment: {PGPASSWORD: canary}",
        "environment: {DB_PWD: canary}",
        "environment: {AWS_SECRET_ACCESS_KEY: canary}",
        "pod_template: {spec: {containers: [{env: [{name: API_TOKEN, value: canary}]}]}}",
        "annotations: {canary: 'https://:canary@x'}",
    ],
)
def test_secrets_within_other_fields_are_refused_and_not_shown(
    name: str, tmp_path: Path, fields: str, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pods.yaml"
    path.write_text(f"block: kubernetes-cluster/{name}\nfields:\n  {fields}\n")
    assert apply(path) == 1
    shown = capsys.readouterr()
    assert f"{path}:3: This is a secret" in shown.err
    assert "write a reference" not in shown.err
    # On the server it may be, from elsewhere: it is not shown either.
    KubernetesCluster(**yaml.safe_load(fields)).save(name, _sync=True)  # type: ignore[call-arg]
    path.write_text(f"block: kubernetes-cluster/{name}\nfields: {{}}\n")
    assert apply("--dry-run", path) == 0
    told = capsys.readouterr()
    assert "a value that is not shown" in told.out
    every = (shown.out + shown.err + told.out + told.err).lower().replace("{canary: a", "")
    assert "canary" not in every


def test_what_only_sounds_like_a_secret_is_taken(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / "pods.yaml"
    path.write_text(f"""\
block: kubernetes-cluster/{name}
fields:
  environment:
    TOKENIZERS_PARALLELISM: "false"
    MAX_TOKENS: "5"
    TOKEN_LIMIT: "5"
    HF_TOKEN_PATH: /secrets/hf
    GOOGLE_APPLICATION_CREDENTIALS: /secrets/gcp.json
    PWD: /tmp
    SORT_KEY: size
  setup:
    - export HF_TOKEN="$(cat ~/.hf)"
    - export API_TOKEN=$OTHER_TOKEN
    - '[ "$API_TOKEN" = "" ] && exit 1'
    - git clone ssh://git@example.org:22/x
    - . ~/secrets.sh
    - 'true  # Basic functionality, Bearer of good news'
    - conda activate sk-learn-environment-2
  env_from: [{{secretRef: {{name: hf}}}}]
  volumes: [{{name: s, secret: {{secretName: hf-token}}}}]
  image_pull_secrets: [registry]
  pod_template:
    spec:
      automountServiceAccountToken: false
      containers:
        - env:
            - name: HF_TOKEN
              valueFrom: {{secretKeyRef: {{name: hf, key: token}}}}
            - {{name: MODE, value: fast}}
""")
    assert apply(path) == 0, capsys.readouterr().err
    assert apply(path) == 0
    assert "0 of 1 block saved." in capsys.readouterr().out


def test_every_type_of_block_can_be_described() -> None:
    assert {"local-cluster", "ssh-cluster", "slurm-cluster", "ssh-credentials"} <= set(KINDS)
