"""The files of clusters, as the flow finds them on real ones."""

from __future__ import annotations

import os
import time
from pathlib import Path

import pytest

from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.validation.expectations import expectations_from
from flows.validate_filesystem import validate_filesystem
from tests.live.ssh_host import SSHHost
from tests.validation.pages import page_of, rows_of


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Three files of ten bytes, one of them below."""
    folder = tmp_path / "data"
    (folder / "below").mkdir(parents=True)
    folder.chmod(0o750)
    for name in ("one.csv", "two.csv", "below/three.csv"):
        (folder / name).write_text("0123456789")
    (folder / "link").symlink_to("one.csv")
    return folder


def checks_of(cluster: str, expectations: list[dict[str, object]] | str) -> dict[str, str]:
    """What came of each check: "ok", or what is wrong."""
    state = validate_filesystem([cluster], expectations, return_state=True)
    rows = [row for row in rows_of(page_of(state, "filesystem")) if "check" in row]
    assert state.is_completed() == all(row["result"] == "ok" for row in rows)
    return {
        row["check"]: "ok" if row["result"] == "ok" else row["found"]
        for row in rows
        if not row["check"].startswith("known files")
    }


def test_what_is_as_expected(here: str, files: Path) -> None:
    path = str(files)
    found = checks_of(
        here,
        [
            {
                "path": path,
                "kind": "directory",
                "permissions": "0750",
                "min_size": "30B",
                "max_size": "1kB",
                "pattern": "*.csv",
                "min_files": 3,
                "max_files": 3,
                "newest_within": "1h",
                "min_free": "1kB",
                "writable": True,
                "max_latency_ms": 5000,
            },
            {"path": f"{path}/link", "kind": "link"},
            {"path": f"{path}/gone", "exists": False},
            {"path": "/nowhere", "cluster": "slurm-cluster/other"},
        ],
    )
    assert set(found.values()) == {"ok"}
    assert {name.removeprefix(path).strip(", ") for name in found if name.startswith(path)} == {
        "", "kind", "permissions", "size", "files", "newest file", "free space",
        "write, read, delete", "/link", "/link, kind", "/gone",
    }  # fmt: skip
    assert sorted(os.listdir(files)) == ["below", "link", "one.csv", "two.csv"]


@pytest.mark.parametrize(
    ("expectation", "told"),
    [
        ({"kind": "file"}, "It is a directory, not a file."),
        ({"permissions": "0700"}, "They are 0750, not 0700."),
        ({"min_size": "31B"}, "It is 30 B, less than 31 B."),
        ({"max_size": "29B"}, "It is 30 B, more than 29 B."),
        ({"min_files": 4, "pattern": "*.csv"}, "It is 3, less than 4."),
        ({"max_files": 2, "pattern": "*.csv"}, "It is 3, more than 2."),
        ({"newest_within": "1h"}, "It is 2.0 h old, more than 1h."),
        ({"min_free": "100000TB"}, "less than"),
        ({"exists": False}, "There is something."),
        ({"max_latency_ms": 0}, "more than 0 ms"),
    ],
)
def test_what_is_not_as_expected(
    here: str, files: Path, expectation: dict[str, object], told: str
) -> None:
    old = time.time() - 7200
    for path in (*files.rglob("*.csv"),):
        os.utime(path, (old, old))
    found = checks_of(here, [{"path": str(files), **expectation}])
    wrong = [text for text in found.values() if text != "ok"]
    assert len(wrong) == 1
    assert told in wrong[0]


def test_over_ssh_with_the_shipped_expectations(bigbox: str, ssh_host: SSHHost) -> None:
    shipped = Path(__file__).parents[2] / "deployments" / "expectations.yaml"
    found = checks_of(bigbox, str(shipped))
    assert set(found.values()) == {"ok"}
    assert {"latency", "write, read, delete in ~", "/tmp, permissions"} <= set(found)
    assert list(Path(ssh_host.home).glob(".clustrix-prefect-*")) == []


def test_a_hostile_name_does_not_leave_its_cell(here: str, tmp_path: Path) -> None:
    name = "a|b`c`\n<img src=x>[link](x)"
    (tmp_path / name).write_text("")
    state = validate_filesystem(
        [here], [{"path": str(tmp_path / name), "kind": "directory"}], return_state=True
    )
    assert state.is_failed()
    page = page_of(state, "filesystem")
    rows = [row for row in rows_of(page.replace("a|b", "a/b")) if "check" in row]
    assert rows[0]["found"] == "It is a file, not a directory."
    assert "a/b`c`n<img src=x>[link](x), kind" in rows[0]["check"]


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ("- path: /x\n  kinds: file\n", 2, "kinds"),
        ("- path: /x\n  permissions: rwx\n", 2, "not octal"),
        ("- path: x\n", 1, "not absolute"),
        ("- path: /x\n\n  newest_within: soon\n", 3, "not an age"),
        ("path: /x\n", 1, "Write a list"),
    ],
)
def test_wrong_expectations_are_told_with_their_line(
    tmp_path: Path, text: str, line: int, told: str
) -> None:
    file = tmp_path / "expectations.yaml"
    file.write_text(text)
    with pytest.raises(ConfigurationError) as raised:
        expectations_from(str(file))
    assert f"{file}:{line}: " in str(raised.value)
    assert told in str(raised.value)
