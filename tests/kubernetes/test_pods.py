"""The job that is made of what a call needs."""

from __future__ import annotations

import json
from typing import Any

import pytest

from clustrix_prefect.errors import InvalidResources
from clustrix_prefect.kubernetes.pods import PodSettings, job_manifest, label_value
from clustrix_prefect.task_resources import Resources


def manifest(settings: PodSettings | None = None, calls: int = 10, **wanted: Any) -> dict[str, Any]:
    return job_manifest(
        settings or PodSettings(image="python:3.11-slim"),
        Resources.of(**wanted),
        name="j",
        labels={"prefect.io/flow-run-name": "a flow/run!"},
        calls=calls,
    )


def pod(job: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = job["spec"]["template"]["spec"]
    return found


def test_requests_and_limits_are_what_was_asked_for() -> None:
    given = pod(manifest(cores=4, memory="2GB", gpus=1))["containers"][0]["resources"]
    assert given["requests"] == given["limits"]
    assert given["limits"] == {"cpu": "4", "memory": str(2 * 1024**3), "nvidia.com/gpu": "1"}


def test_holding_results_does_not_count_against_the_time() -> None:
    settings = PodSettings(image="i", start_timeout=5, result_hold=7)
    limited = manifest(settings, calls=3, time=60)["spec"]
    assert limited["template"]["spec"]["activeDeadlineSeconds"] == 5 + 180 + 7
    assert "activeDeadlineSeconds" not in limited  # which would count the wait for a node
    assert "activeDeadlineSeconds" not in manifest()["spec"]["template"]["spec"]


def test_labels_are_made_fit() -> None:
    labels = manifest()["metadata"]["labels"]
    assert labels["prefect.io/flow-run-name"] == "a-flow-run"
    assert labels["app.kubernetes.io/managed-by"] == "clustrix-prefect"
    assert len(label_value("x" * 80)) == 63


def test_a_template_adds_to_the_container_and_overrides() -> None:
    template = {
        "spec": {
            "securityContext": {"runAsUser": 1000},
            "terminationGracePeriodSeconds": 9,
            "containers": [{"name": "calls", "imagePullPolicy": "Always"}, {"name": "side"}],
        }
    }
    made = pod(manifest(PodSettings(image="i", template=template)))
    calls, side = made["containers"]
    assert (calls["image"], calls["imagePullPolicy"], side) == ("i", "Always", {"name": "side"})
    assert made["terminationGracePeriodSeconds"] == 9
    assert made["securityContext"] == {"runAsUser": 1000}
    json.dumps(made)


@pytest.mark.parametrize("wanted", [{"nodes": 2}, {"partition": "short"}, {"gpus": "a100:1"}])
def test_what_kubernetes_has_no_words_for_is_refused(wanted: dict[str, Any]) -> None:
    with pytest.raises(InvalidResources, match=next(iter(wanted))):
        manifest(**wanted)
