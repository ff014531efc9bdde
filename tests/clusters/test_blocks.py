"""Cluster blocks: what they accept, and what the rest of the package reads from them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from prefect.blocks.core import Block
from prefect.testing.standard_test_suites import BlockStandardTestSuite
from pydantic import ValidationError

from clustrix_prefect import (
    KubernetesCluster,
    LocalCluster,
    SlurmCluster,
    SSHCluster,
    SSHCredentials,
    resources,
)
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.loading import CLUSTER_TYPES
from clustrix_prefect.connections.authentication import Login
from clustrix_prefect.errors import CredentialError, InvalidResources
from clustrix_prefect.task_resources import Resources

CLUSTERS = {
    "local-cluster": (LocalCluster, {}),
    "ssh-cluster": (SSHCluster, {"host": "ndoli"}),
    "slurm-cluster": (SlurmCluster, {}),
    "kubernetes-cluster": (KubernetesCluster, {}),
}


@pytest.mark.parametrize(
    "block", [LocalCluster, SSHCluster, SlurmCluster, KubernetesCluster, SSHCredentials]
)
class TestStandard(BlockStandardTestSuite):
    @pytest.fixture
    def block(self, block: type[Block]) -> type[Block]:
        return block


@pytest.fixture(params=CLUSTERS)
def make(request: pytest.FixtureRequest) -> Any:
    """Makes a cluster of each kind."""
    kind, needed = CLUSTERS[request.param]
    return lambda **values: kind(**{**needed, **values})


def refusal(make: Any, **values: Any) -> str:
    with pytest.raises(ValidationError) as caught:
        make(**values)
    return str(caught.value)


@pytest.mark.parametrize("slug", [*CLUSTERS, "ssh-credentials"])
def test_block_type_slugs(slug: str) -> None:
    kind: Any = CLUSTERS[slug][0] if slug in CLUSTERS else SSHCredentials
    assert kind.get_block_type_slug() == slug


def test_the_form_of_the_ui_asks_for_the_host_first() -> None:
    for kind in (SSHCluster, SlurmCluster):
        fields = list(kind.model_json_schema()["properties"])
        assert fields[0] == "host"


class TestFieldsOfAll:
    def test_defaults(self, make: Any) -> None:
        cluster: ClusterBlock = make()
        assert cluster.prologue == []
        assert cluster.resources == Resources()
        assert cluster.keep_job_files == "on_failure"

    def test_prologue_is_modules_then_setup(self, make: Any) -> None:
        cluster = make(modules=["python/3.11", "gcc@12"], setup=["ulimit -s unlimited"])
        assert cluster.prologue == [
            "module load python/3.11",
            "module load gcc@12",
            "ulimit -s unlimited",
        ]
        assert cluster.worker_prologue[-3:] == [
            "load_module python/3.11",
            "load_module gcc@12",
            "ulimit -s unlimited",
        ]

    def test_default_resources(self, make: Any) -> None:
        assert make(default_resources={"memory": "2GB"}).resources.memory == 2 * 1024**3

    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"environment": {"A B": "x"}}, "'A B' is not the name of an environment variable"),
            ({"environment": {"A=B": "x"}}, "not the name of an environment variable"),
            ({"environment": {"A": "x\0"}}, "null character"),
            ({"modules": ["gcc; rm -rf /"]}, "'gcc; rm -rf /' is not the name of a module"),
            ({"modules": ["-x"]}, "not the name of a module"),
            ({"setup": ["a\0b"]}, "null characters"),
            ({"remote_work_dir": "relative/path"}, "begin it with /, ~ or $VARIABLE"),
            ({"remote_work_dir": "/two\nlines"}, "one line"),
            ({"python": "--version"}, "not the path or name of a program"),
            ({"default_resources": {"cores": 0}}, "resources(cores=0)"),
            ({"default_resources": {"ram": "1GB"}}, "no field 'ram'"),
            ({"keep_job_files": "sometimes"}, "on_failure"),
        ],
    )
    def test_what_is_refused(self, make: Any, values: dict[str, Any], says: str) -> None:
        assert says in refusal(make, **values)

    @pytest.mark.parametrize("field", ["remote_work_dir", "python"])
    def test_a_field_cleared_in_the_ui_is_unset(self, make: Any, field: str) -> None:
        assert getattr(make(**{field: ""}), field) is None


class TestIdentity:
    def test_equal_for_equal_settings(self, make: Any) -> None:
        assert make(python="python3.11").identity == make(python="python3.11").identity

    def test_different_for_another_connection(self, make: Any) -> None:
        assert make(python="python3.11").identity != make(python="python3.12").identity

    def test_shared_by_flows_that_want_other_resources(self, make: Any) -> None:
        other = make(default_resources={"cores": 2}, keep_job_files="always")
        assert make().identity == other.identity

    def test_without_secrets_but_not_blind_to_them(self) -> None:
        identities = {
            SSHCluster(host="a", credentials=SSHCredentials(password=password)).identity
            for password in ("correct horse", "battery staple")
        }
        assert len(identities) == 2
        assert not any("horse" in identity for identity in identities)


class TestHosts:
    @pytest.mark.parametrize("kind", [SSHCluster, SlurmCluster])
    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"host": "alice@ndoli"}, "SSHCredentials(username='alice')"),
            ({"host": "-oProxyCommand=x"}, "is not the name or address of a host"),
            ({"host": "two words"}, "is not the name or address of a host"),
            ({"host": "a", "port": 0}, "greater than or equal to 1"),
            ({"host": "a", "port": 70000}, "less than or equal to 65535"),
            ({"host": "a", "known_hosts": ""}, "one line"),
            ({"host": "a", "proxy_jump": "a\nb"}, "one line"),
        ],
    )
    def test_what_is_refused(self, kind: Any, values: dict[str, Any], says: str) -> None:
        assert says in refusal(kind, **values)

    def test_a_bare_ssh_host_needs_a_host(self) -> None:
        assert "host" in refusal(SSHCluster)
        assert "host" in refusal(SSHCluster, host="")

    def test_default_values_are_left_to_ssh_config(self) -> None:
        destination = SSHCluster(host="ndoli").destination
        assert (destination.port, destination.known_hosts) == (None, None)
        assert destination.login == Login()

    def test_other_values_are_not(self) -> None:
        cluster = SSHCluster(host="ndoli", port=2222, known_hosts="~/hosts", proxy_jump="gate")
        destination = cluster.destination
        assert (destination.port, str(destination.known_hosts)) == (2222, "~/hosts")
        assert destination.proxy_jump == "gate"

    @pytest.mark.parametrize("secret", ["password", "passphrase", "private_key", "totp"])
    def test_secrets_are_not_told_to_ssh(self, secret: str) -> None:
        credentials = SSHCredentials(username="alice", **{secret: "env:SECRET"})
        said = refusal(SSHCluster, host="ndoli", connection="openssh", credentials=credentials)
        assert f"has no use for {secret}" in said
        assert "clustrix-prefect login" in said
        SSHCluster(host="ndoli", connection="auto", credentials=credentials)

    def test_what_ssh_is_told(self) -> None:
        credentials = SSHCredentials(username="alice", key_file="~/key")
        way = {"host": "ndoli", "port": 2222, "known_hosts": "~/hosts", "proxy_jump": "gate"}
        master = SlurmCluster(**way, credentials=credentials, connection="openssh").master
        assert (master.host, master.port, master.username) == ("ndoli", 2222, "alice")
        assert (str(master.key_file), str(master.known_hosts)) == ("~/key", "~/hosts")
        assert master.proxy_jump == "gate"
        bare = SlurmCluster(host="ndoli").master
        assert (bare.port, bare.username, bare.key_file, bare.known_hosts) == (None,) * 4

    def test_descriptions(self) -> None:
        credentials = SSHCredentials(username="alice")
        assert LocalCluster().description == "this machine"
        assert SSHCluster(host="ndoli").description == "ndoli"
        cluster = SSHCluster(host="ndoli", port=2222, credentials=credentials)
        assert cluster.description == "alice@ndoli:2222"
        assert SlurmCluster().description == "SLURM on this machine"
        assert SlurmCluster(host="n", credentials=credentials).description == "SLURM at alice@n"


class TestCredentials:
    def test_login_reveals_the_secrets_and_their_text_does_not(self) -> None:
        credentials = SSHCredentials(
            username="alice", key_file="~/key", private_key="KEY", passphrase="P", password="W"
        )
        login = credentials.login
        assert (login.private_key, login.passphrase, login.password) == ("KEY", "P", "W")
        for text in (repr(login), repr(credentials), credentials.model_dump_json()):
            assert "KEY" not in text

    def test_fields_cleared_in_the_ui_are_unset(self) -> None:
        credentials = SSHCredentials(
            username="",
            key_file="",
            private_key="",
            passphrase="",
            password="",
            totp="",
            certificate_file="",
        )
        assert credentials.login == Login()

    def test_a_seed_of_one_time_codes_is_shown_nowhere(self) -> None:
        seed = "JBSWY3DPEHPK3PXPJBSWY3DPEHPK3PXP"
        for totp in (seed, f"otpauth://totp/x?secret={seed}"):
            credentials = SSHCredentials(username="alice", totp=totp)
            login = credentials.login
            assert login.codes is not None
            assert len(login.codes.next()) == 6
            for text in (repr(login), repr(credentials), credentials.model_dump_json()):
                assert seed not in text

    @pytest.mark.parametrize(
        ("totp", "says"),
        [
            ("secret1", "is no seed in base32"),
            ("654321", "is a code, which holds for seconds"),
            ("otpauth://hotp/x?secret=secret", "of another kind than totp"),
            ("op://vault/secret", "has 2 parts"),
        ],
    )
    def test_what_makes_no_one_time_codes_is_refused_unseen(self, totp: str, says: str) -> None:
        message = refusal(SSHCredentials, totp=totp)
        assert says in message
        assert "654321" not in message
        assert "secret" not in message

    def test_what_the_api_shows_for_a_secret_is_refused_where_it_is_used(self) -> None:
        with pytest.raises(CredentialError, match="in the place of secrets"):
            _ = SSHCredentials(totp="********").login

    def test_a_public_key_file_is_refused_by_name(self) -> None:
        assert "name the private one" in refusal(SSHCredentials, key_file="~/.ssh/id_ed25519.pub")

    def test_a_user_name_that_is_none(self) -> None:
        assert "is not a user name" in refusal(SSHCredentials, username="-l root")


class TestParallelCalls:
    @pytest.mark.parametrize("kind", ["local-cluster", "ssh-cluster"])
    def test_at_least_one(self, kind: str) -> None:
        block, needed = CLUSTERS[kind]
        assert block(**needed).max_parallel_calls is None
        assert block(**needed, max_parallel_calls=3).max_parallel_calls == 3
        assert "greater than or equal to 1" in refusal(block, **needed, max_parallel_calls=0)


class TestSlurm:
    @pytest.mark.parametrize(
        ("values", "says"),
        [
            ({"extra_directives": ["--a\n#SBATCH --b"]}, "one line"),
            ({"extra_directives": ["exclusive"]}, "is not an option of sbatch"),
            ({"skip_directives": ["mem"]}, "is not the name of an option"),
            ({"skip_directives": ["--mem=4G"]}, "is not the name of an option"),
            ({"partition": "a\nb"}, "one line"),
            ({"max_array_size": 0}, "greater than or equal to 1"),
            ({"max_submitted_jobs": 0}, "greater than or equal to 1"),
        ],
    )
    def test_what_is_refused(self, values: dict[str, Any], says: str) -> None:
        assert says in refusal(SlurmCluster, **values)

    def test_the_script_can_be_read_before_anything_runs(self) -> None:
        cluster = SlurmCluster(
            host="ndoli",
            partition="short",
            extra_directives=["--exclusive"],
            skip_directives=["--mem"],
            modules=["python/3.11"],
            environment={"OMP_NUM_THREADS": "1"},
            default_resources={"cores": 2, "memory": "2GB"},
        )
        script = cluster.job_script({"gpus": 1, "cores": 4})
        for line in (
            "#SBATCH --partition=short",
            "#SBATCH --cpus-per-task=4",
            "#SBATCH --gres=gpu:1",
            "#SBATCH --exclusive",
            "#SBATCH --no-requeue",
            "export OMP_NUM_THREADS=1",
            "load_module python/3.11",
        ):
            assert line in script.splitlines()
        assert "--mem" not in script
        assert cluster.job_script(Resources(gpus=1, cores=4)) == script

    def test_what_is_wrong_with_the_resources_is_said_at_once(self) -> None:
        with pytest.raises(InvalidResources, match="no field"):
            SlurmCluster().job_script({"ram": 1})

    @pytest.mark.parametrize("time", [None, "00:00:30"])
    def test_a_signal_before_the_end_needs_an_end(self, time: str | None) -> None:
        with pytest.raises(InvalidResources, match="signal_before_end"):
            SlurmCluster().check_resources(Resources.of(signal_before_end=60, time=time))


def test_a_block_survives_its_document(make: Any) -> None:
    cluster = make(default_resources={"cores": 2}, environment={"A": "b"})
    document = json.loads(cluster.model_dump_json())
    document.pop("block_type_slug")
    assert type(cluster)(**document) == cluster


@pytest.mark.parametrize("kind", CLUSTER_TYPES, ids=lambda kind: kind.__name__)
def test_a_misspelt_field_is_refused_with_what_was_meant(kind: type[ClusterBlock]) -> None:
    with pytest.raises(
        ValidationError, match=r"no field 'remote_workdir'; is it 'remote_work_dir'"
    ):
        kind(remote_workdir="/scratch")
    with pytest.raises(ValidationError, match=r"SSHCredentials has no field 'user'"):
        SSHCredentials(user="ana")


def test_resources_that_are_misspelt_are_refused_with_what_was_meant() -> None:
    with (
        pytest.raises(InvalidResources, match=r"no field 'memmory'; is it 'memory'"),
        resources(memmory="8GB"),
    ):
        pass
