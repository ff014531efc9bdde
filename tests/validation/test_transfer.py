"""Transfers, measured by the flow with real clusters."""

from __future__ import annotations

import base64
import re
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import pytest
from prefect.client.schemas.objects import State

from clustrix_prefect.validation.transfer import Measured, plot
from flows.benchmark_transfer import benchmark_transfer
from tests.live.clusters import local_cluster
from tests.live.ssh_host import SSHHost
from tests.validation.conftest import Save
from tests.validation.pages import page_of, rows_of

WHATS = ("file there", "file back", "package there and back")


def measured_by(state: State[Any]) -> list[dict[str, str]]:
    return [row for row in rows_of(page_of(state, "transfer")) if "rate" in row]


def history_of(state: State[Any]) -> list[dict[str, str]]:
    return [row for row in rows_of(page_of(state, "transfer")) if "now" in row]


def drawing_of(image: str) -> ElementTree.Element:
    return ElementTree.fromstring(base64.b64decode(image.partition("base64,")[2]))


def test_times_and_rates_with_a_plot_and_earlier_runs(bigbox: str) -> None:
    first = benchmark_transfer([bigbox], ["1KiB", "1MiB"], return_state=True)
    assert first.is_completed(), first.message
    rows = measured_by(first)
    assert {(row["what"], row["size"]) for row in rows} == {
        (what, size) for what in WHATS for size in ("1 KiB", "1 MiB")
    }
    assert all(re.fullmatch(r"[\d.]+ m?s", row["time"]) for row in rows)
    assert all(re.fullmatch(r"[\d.]+ ([KMG]i)?B/s", row["rate"]) for row in rows)
    assert history_of(first) == []

    second = measured_by(benchmark_transfer([bigbox], ["1MiB"], return_state=True))
    third = benchmark_transfer([bigbox], ["1MiB"], return_state=True)
    history = history_of(third)
    assert len(history) == 3
    *_, newest, oldest = history[0]
    assert newest > oldest
    for name in (newest, oldest):
        assert re.fullmatch(r"\d{4}-\d\d-\d\dT \d\d:\d\d:\d\dZ", name)
    for row in history:
        for earlier, run in ((rows, oldest), (second, newest)):
            (same,) = (
                one for one in earlier if (one["what"], one["size"]) == (row["what"], row["size"])
            )
            assert row[run] == same["time"]
    image = re.search(r"\((data:image/svg\+xml;base64,[^)]+)\)", page_of(third, "transfer"))
    assert image is not None
    drawing = drawing_of(image[1])
    assert len(drawing.findall("{*}polyline")) == 3
    rings = [ring for ring in drawing.findall("{*}circle") if ring.get("fill") == "none"]
    assert len(rings) == 6
    assert {ring.get("opacity") for ring in rings} == {"1.00", "0.80"}


def test_the_plot_of_many_clusters_has_them_all_apart() -> None:
    names = [f"slurm-cluster/number-{number}" for number in range(9)]
    measured = [Measured(name, what, 1024, 0.1) for name in names for what in WHATS]
    drawing = drawing_of(plot(measured, []))
    height = float(drawing.attrib["height"])
    labels = {str(text.text): text for text in drawing.findall("{*}text")}
    assert set(names) <= set(labels)
    every = drawing.findall("{*}text")
    assert all(float(text.attrib["y"]) < height for text in every)
    places = [(text.attrib["x"], text.attrib["y"]) for text in every]
    assert len(set(places)) == len(places)
    assert len({labels[name].get("fill") for name in names}) == len(names)
    looks = {
        (line.get("stroke"), line.get("stroke-dasharray"))
        for line in drawing.findall("{*}polyline")
    }
    assert len(looks) == len(names) * len(WHATS)


def test_a_cluster_that_cannot_be_reached_is_a_failure(here: str) -> None:
    state = benchmark_transfer(["ssh-cluster/gone", here], ["1KiB"], return_state=True)
    assert state.is_failed()
    assert "no cluster block 'ssh-cluster/gone'" in page_of(state, "transfer")
    assert [row["cluster"] for row in measured_by(state)] == [here] * 3


def test_a_cluster_whose_transfer_failed_half_way_is_not_said_to_be_well(
    saved: Save, ssh_host: SSHHost, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ssh_host.small_disk(2 * 1024**2) as disk:
        monkeypatch.setenv("HOME", str(disk))
        name = saved(local_cluster(tmp_path / "work"), "full")
        state = benchmark_transfer([name], ["1KiB", "8MiB"], return_state=True)
    assert state.is_failed()
    assert len(measured_by(state)) == 2, "the small file went there and back"
    (check,) = (row for row in rows_of(page_of(state, "transfer")) if "check" in row)
    assert check["result"] == "failed"
    assert "No space left" in check["found"]
