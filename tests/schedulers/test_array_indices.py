"""Sets of array indices as text."""

from __future__ import annotations

import pytest

from clustrix_prefect.schedulers.array_indices import format_indices, parse_indices


@pytest.mark.parametrize(
    ("text", "indices"),
    [
        ("7", [7]),
        ("0-3", [0, 1, 2, 3]),
        ("0-2,5,9-10", [0, 1, 2, 5, 9, 10]),
        ("0-994:300", [0, 300, 600, 900]),
        ("0,2,4,6,8%3", [0, 2, 4, 6, 8]),
        ("2-9%2", list(range(2, 10))),
        ("", []),
    ],
)
def test_reading(text: str, indices: list[int]) -> None:
    assert [index for part in parse_indices(text) for index in part] == indices


@pytest.mark.parametrize("text", ["1,5,7-8,...", "1,5,7-8..."])
def test_a_list_that_was_cut_short_goes_on(text: str) -> None:
    ranges = parse_indices(text)
    assert any(1_000_000 in part for part in ranges)
    assert not any(6 in part for part in ranges)


@pytest.mark.parametrize(
    ("indices", "text"), [([3], "3"), ([2, 1, 0, 5, 1], "0-2,5"), ([], ""), ([4, 5], "4-5")]
)
def test_writing(indices: list[int], text: str) -> None:
    assert format_indices(indices) == text
