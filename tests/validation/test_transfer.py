"""Transfers, measured by the flow with real clusters."""

from __future__ import annotations

import base64
import re
from xml.etree import ElementTree

from flows.benchmark_transfer import benchmark_transfer
from tests.validation.pages import page_of, rows_of


def test_times_and_rates_with_a_plot_and_the_run_before(bigbox: str) -> None:
    first = benchmark_transfer([bigbox], ["1KiB", "1MiB"], return_state=True)
    assert first.is_completed(), first.message
    rows = [row for row in rows_of(page_of(first, "transfer")) if "rate" in row]
    assert {(row["what"], row["size"]) for row in rows} == {
        (what, size)
        for what in ("file there", "file back", "package there and back")
        for size in ("1 KiB", "1 MiB")
    }
    assert {row.get("time before") for row in rows} <= {None, ""}
    assert all(re.fullmatch(r"[\d.]+ m?s", row["time"]) for row in rows)
    assert all(re.fullmatch(r"[\d.]+ ([KMG]i)?B/s", row["rate"]) for row in rows)

    second = benchmark_transfer([bigbox], ["1MiB"], return_state=True)
    page = page_of(second, "transfer")
    again = [row for row in rows_of(page) if "rate" in row]
    assert {row["time before"] for row in again} == {
        row["time"] for row in rows if row["size"] == "1 MiB"
    }
    image = re.search(r"\(data:image/svg\+xml;base64,([^)]+)\)", page)
    assert image is not None
    drawing = ElementTree.fromstring(base64.b64decode(image[1]))
    assert len(drawing.findall("{*}polyline")) == 3
    assert len(drawing.findall("{*}circle")) == 6


def test_a_cluster_that_cannot_be_reached_is_a_failure(here: str) -> None:
    state = benchmark_transfer(["ssh-cluster/gone", here], ["1KiB"], return_state=True)
    assert state.is_failed()
    page = page_of(state, "transfer")
    assert "no cluster block 'ssh-cluster/gone'" in page
    assert [row["cluster"] for row in rows_of(page) if "rate" in row] == [here] * 3
