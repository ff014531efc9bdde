"""Clusters saved on a Prefect server, found again by name."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from prefect.blocks.core import Block
from prefect.client.orchestration import get_client
from prefect.settings import PREFECT_API_URL, temporary_settings
from pydantic import ValidationError

from clustrix_prefect import (
    LocalCluster,
    SlurmCluster,
    SSHCluster,
    SSHCredentials,
    load_cluster,
)
from clustrix_prefect.clusters.cluster import ClusterBlock
from clustrix_prefect.clusters.loading import saved_clusters
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.validation.cluster_check import check_cluster
from tests.live.prefect_server import PrefectServer


@pytest.fixture
def saved(prefect_server: PrefectServer) -> Iterator[dict[str, ClusterBlock]]:
    credentials = SSHCredentials(username="alice", password="correct horse")
    clusters: dict[str, ClusterBlock] = {
        "local-cluster/here": LocalCluster(max_parallel_calls=2),
        "ssh-cluster/big": SSHCluster(host="big", port=2222, credentials=credentials),
        "slurm-cluster/ndoli": SlurmCluster(
            host="ndoli", credentials=credentials, default_resources={"memory": "2GB"}
        ),
    }
    for name, cluster in clusters.items():
        cluster.save(name.partition("/")[2], overwrite=True, _sync=True)  # type: ignore[call-arg]
    yield clusters
    for name, cluster in clusters.items():
        type(cluster).delete(name.partition("/")[2], _sync=True)  # type: ignore[call-arg]


def test_every_kind(saved: dict[str, ClusterBlock]) -> None:
    for name, cluster in saved.items():
        loaded = load_cluster(name)
        assert type(loaded) is type(cluster)
        assert loaded.identity == cluster.identity
        assert loaded.resources == cluster.resources


def test_with_its_secrets(saved: dict[str, ClusterBlock]) -> None:
    cluster = load_cluster("slurm-cluster/ndoli")
    assert isinstance(cluster, SlurmCluster)
    assert cluster.destination.login.password == "correct horse"


def test_what_was_saved_with_a_field_that_there_is_not(saved: dict[str, ClusterBlock]) -> None:
    """As by a version that did not refuse it: it loads, and `check` says so."""
    with get_client(sync_client=True) as client:
        found = client.read_block_document_by_name("here", "local-cluster")
        data = {**found.data, "max_paralel_calls": 9}
        client.request("PATCH", f"/block_documents/{found.id}", json={"data": data})  # type: ignore[arg-type]
    cluster = load_cluster("local-cluster/here")
    assert cluster.unknown_fields == ("max_paralel_calls",)
    told = {finding.name: finding for finding in check_cluster(cluster)}["fields"]
    assert "no field 'max_paralel_calls'; is it 'max_parallel_calls'?" in told.problem
    assert load_cluster("ssh-cluster/big").unknown_fields == ()
    by_base_class = Block.load("local-cluster/here", _sync=True)  # type: ignore[call-arg]
    assert isinstance(by_base_class, LocalCluster)
    assert by_base_class.unknown_fields == ("max_paralel_calls",)
    with pytest.raises(ValidationError, match="no field 'max_paralel_calls'"):
        LocalCluster.model_validate(data)


def test_credentials_within_are_a_block_of_their_own(saved: dict[str, ClusterBlock]) -> None:
    """The UI shows no credentials that are a copy within another block."""
    own = "slurm-cluster-ndoli-credentials"
    with get_client(sync_client=True) as client:
        found = client.read_block_document_by_name("ndoli", "slurm-cluster")
        within = found.block_document_references["credentials"]["block_document"]
        assert within["name"] == own
    assert SSHCredentials.load(own, _sync=True).username == "alice"  # type: ignore[call-arg, union-attr]
    # What is saved anew is saved whole.
    changed = SlurmCluster(host="ndoli", credentials=SSHCredentials(username="bob"))
    with pytest.raises(ValueError, match="already in use"):
        changed.save("ndoli", _sync=True)  # type: ignore[call-arg]
    assert SSHCredentials.load(own, _sync=True).username == "alice"  # type: ignore[call-arg, union-attr]
    changed.save("ndoli", overwrite=True, _sync=True)  # type: ignore[call-arg]
    assert changed.credentials is not None
    changed.credentials.username = "carol"
    asyncio.run(changed.asave("ndoli", overwrite=True))
    again = load_cluster("slurm-cluster/ndoli")
    assert isinstance(again, SlurmCluster)
    assert again.credentials is not None
    assert again.credentials.username == "carol"


def test_credentials_that_were_saved_before_are_left_as_they_are(
    saved: dict[str, ClusterBlock],
) -> None:
    SSHCredentials(username="dora").save("dora", overwrite=True, _sync=True)  # type: ignore[call-arg]
    cluster = SSHCluster(host="big", credentials=SSHCredentials.load("dora", _sync=True))  # type: ignore[call-arg]
    cluster.save("big", overwrite=True, _sync=True)  # type: ignore[call-arg]
    with get_client(sync_client=True) as client:
        found = client.read_block_document_by_name("big", "ssh-cluster")
    assert found.block_document_references["credentials"]["block_document"]["name"] == "dora"


def test_fields_come_in_the_order_in_which_they_are_needed(saved: dict[str, ClusterBlock]) -> None:
    with get_client(sync_client=True) as client:
        found = client.read_block_document_by_name("ndoli", "slurm-cluster")
    assert found.block_schema is not None
    fields = list(found.block_schema.fields["properties"])
    assert fields[:5] == ["host", "port", "credentials", "partition", "account"]
    values = list(found.data)  # the server puts references to other blocks last
    assert values[:3] == ["host", "port", "partition"]


def test_inside_a_running_event_loop(saved: dict[str, ClusterBlock]) -> None:
    async def load() -> ClusterBlock:
        return load_cluster("local-cluster/here")

    assert isinstance(asyncio.run(load()), LocalCluster)


@pytest.mark.parametrize("name", ["slurm-cluster/nowhere", "ndoli", "dask-cluster/x", "", "/"])
def test_an_unknown_name_is_answered_with_those_that_exist(
    saved: dict[str, ClusterBlock], name: str
) -> None:
    with pytest.raises(ConfigurationError) as caught:
        load_cluster(name)
    for existing in saved:
        assert existing in str(caught.value)


def test_where_none_is_saved_it_says_how_to(prefect_server: PrefectServer) -> None:
    with get_client(sync_client=True) as client:
        for document in client.read_block_documents(limit=200, offset=0):
            kind = document.block_type
            if kind is not None and kind.slug.endswith("-cluster"):  # what other tests left
                client.delete_block_document(document.id)
    with pytest.raises(ConfigurationError, match="No cluster block is saved yet"):
        load_cluster("slurm-cluster/ndoli")


@pytest.mark.parametrize("status", [401, 500])
def test_a_server_that_fails_is_not_one_without_clusters(status: int) -> None:
    class Failing(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_error(status)

        def log_message(self, *_: object) -> None:
            """Not to the test's output."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Failing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        with (
            temporary_settings({PREFECT_API_URL: f"http://127.0.0.1:{server.server_port}/api"}),
            pytest.raises(ConfigurationError, match=f"cannot be asked for clusters.*{status}"),
        ):
            saved_clusters()
        server.shutdown()


def test_where_the_api_cannot_be_reached_it_says_so() -> None:
    with (
        temporary_settings({PREFECT_API_URL: "http://127.0.0.1:1/api"}),
        pytest.raises(ConfigurationError, match="cannot be asked"),
    ):
        load_cluster("slurm-cluster/ndoli")


def test_a_schema_is_nobodys_to_change() -> None:
    wanted = Block.model_json_schema.__func__(LocalCluster)  # type: ignore[attr-defined]
    assert set(LocalCluster.model_json_schema()["properties"]) == set(wanted["properties"])
    LocalCluster.model_json_schema()["properties"].clear()
    assert set(LocalCluster.model_json_schema()["properties"]) == set(wanted["properties"])
