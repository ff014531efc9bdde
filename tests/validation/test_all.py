"""The page of all validations says since when each is as it is, over several runs."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from flows.validate_all import validate_all
from tests.validation.pages import page_of, rows_of


def test_since_when(here: str, tmp_path: Path) -> None:
    wanted = tmp_path / "wanted"

    def run(only: str = "filesystem") -> dict[str, str]:
        time.sleep(1.1)  # what is told are seconds
        validations: Any = [only]
        state = validate_all([here], [{"path": str(wanted)}], only=validations, return_state=True)
        (row,) = rows_of(page_of(state, "validation"))
        assert state.is_completed() == (row["state"] == "ok")
        return row

    first = run()
    assert first["state"] == "failed"
    assert run()["since"] == first["since"], "nothing has changed"
    wanted.mkdir()
    mended = run()
    assert mended["state"] == "ok"
    assert mended["since"] > first["since"]
    run("cluster access")  # knows nothing of files
    assert run()["since"] == mended["since"]
    wanted.rmdir()
    assert run()["since"] > mended["since"]


def test_what_is_left_out_is_said(here: str, tmp_path: Path) -> None:
    both: Any = ["filesystem", "pricing"]
    skip: Any = ["pricing"]
    state = validate_all([here], [{"path": str(tmp_path)}], only=both, skip=skip, return_state=True)
    assert state.is_completed()
    assert state.message == "Passed: all 1 validation. Left out: pricing."
    (row,) = rows_of(page_of(state, "validation"))
    assert "filesystem" in row["validation"]
