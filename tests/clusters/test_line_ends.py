"""A line end after what is right is wrong: it would begin another line of a script."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError

from clustrix_prefect import (
    KubernetesCluster,
    LocalCluster,
    SGECluster,
    SSHCredentials,
    resources,
)
from clustrix_prefect.dispatch.report import row
from clustrix_prefect.errors import InvalidResources


@pytest.mark.parametrize("end", ["\n", "\r\n", "\n\n"])
@pytest.mark.parametrize(
    ("block", "fields"),
    [
        (LocalCluster, {"modules": ["python/3.11"]}),
        (LocalCluster, {"environment": {"FOO": "x"}}),
        (SGECluster, {"parallel_environment": "smp"}),
        (KubernetesCluster, {"namespace": "default"}),
    ],
    ids=str,
)
def test_of_fields_of_blocks(block: Any, fields: dict[str, Any], end: str) -> None:
    block(**fields)
    ((name, value),) = fields.items()
    if isinstance(value, dict):
        value = {f"{key}{end}": item for key, item in value.items()}
    elif isinstance(value, list):
        value = [f"{item}{end}" for item in value]
    else:
        value = f"{value}{end}"
    with pytest.raises(ValidationError):
        block(**{name: value})


@pytest.mark.parametrize("value", ["a100:2\n", "2\n", "a100:2\r", "a100:\u0662"])
def test_of_gpus(value: str) -> None:
    resources(gpus=value.strip("\n\r\u0662") + ("" if value[-2].isdigit() else "1"))
    with pytest.raises(InvalidResources, match="gpus"):
        resources(gpus=value)


@pytest.mark.parametrize(
    "secret",
    ["env:hunter2 is it", "op://hunter2", "prefect:Hunter2!", "ENV:hunter2", "op:/hunter2"],
)
def test_what_only_begins_like_a_reference_is_not_shown(secret: str) -> None:
    with pytest.raises(ValidationError, match="reference") as caught:
        SSHCredentials(username="ana", password=secret)
    assert "hunter2" not in str(caught.value).lower()
    assert "hunter2" not in repr(caught.value).lower()


def test_every_cell_of_the_table_of_calls_means_nothing_to_markdown() -> None:
    class Odd:
        """A call of which the far side says odd things."""

        def __getattr__(self, name: str) -> Any:
            known = {"state": self, "attempt": self, "value": "done", "peak_memory": None}
            return known.get(name, None if name.endswith("_at") else "[x](http://evil) | <b> `a_b`")

    cells = row(Odd())  # type: ignore[arg-type]
    for name in ("call", "job", "node", "pid", "exit code", "resubmitted"):
        assert "\\[x\\]" in cells[name], name
        assert "|" not in cells[name].replace("\\|", "")
