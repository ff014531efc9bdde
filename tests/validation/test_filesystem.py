"""The files of clusters, as the flow finds them on real ones."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from clustrix_prefect import LocalCluster, SSHCluster, load_cluster
from clustrix_prefect.errors import ConfigurationError
from clustrix_prefect.filesystem import quotas
from clustrix_prefect.filesystem.far_files import far_files
from clustrix_prefect.filesystem.quotas import Quota, parse_quota
from clustrix_prefect.validation.expectations import expectations_from
from flows.validate_filesystem import validate_filesystem
from tests.live.ssh_host import SSHHost
from tests.validation.conftest import Save
from tests.validation.pages import page_of, rows_of

KNOWN = (
    "ls", "find", "glob", "du", "du, bytes", "count files", "count *.csv", "stat", "exists",
    "isdir", "isfile",
)  # fmt: skip


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
    found = {row["check"]: "ok" if row["result"] == "ok" else row["found"] for row in rows}
    known = {name: found.pop(name) for name in list(found) if name.startswith("known files")}
    assert known == dict.fromkeys((f"known files: {what}" for what in KNOWN), "ok")
    return found


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


@pytest.mark.parametrize(
    ("cluster", "told"),
    [
        ("local-cluster/heer", "There is no cluster block 'local-cluster/heer'."),
        ("heer", "There is no cluster block 'heer'."),
        ("slurm-cluster/here", "There is no cluster block 'slurm-cluster/here'."),
        ("ambiguous", "Write which is meant: local-cluster/ambiguous, ssh-cluster/ambiguous."),
    ],
)
def test_an_expectation_of_a_cluster_that_there_is_not_has_failed(
    here: str, saved: Save, cluster: str, told: str
) -> None:
    saved(LocalCluster(), "ambiguous")
    saved(SSHCluster(host="x"), "ambiguous")
    asked = [{"cluster": cluster, "path": "/nowhere"}]
    state = validate_filesystem([here], asked, return_state=True)
    assert state.is_failed()
    rows = [row for row in rows_of(page_of(state, "filesystem")) if "check" in row]
    assert (rows[0]["cluster"], rows[0]["check"]) == (cluster, "/nowhere")
    assert told in page_of(state, "filesystem")


def test_an_expectation_of_one_cluster(here: str, saved: Save) -> None:
    """By its whole name or its short one; of a cluster that was not asked for, it is said."""
    other = saved(LocalCluster(), "elsewhere")
    asked = [
        {"cluster": here, "path": "/nowhere", "exists": False},
        {"cluster": "here", "path": "/nowhere/either", "exists": False},
        {"cluster": "elsewhere", "path": "/nobody/looks"},
        {"cluster": "this machine", "path": "/nobody/looks"},
    ]
    state = validate_filesystem([here], asked, return_state=True)
    assert state.is_completed(), state.message
    assert "on 1 cluster; 2 left out." in str(state.message)
    rows = [row for row in rows_of(page_of(state, "filesystem")) if "/no" in row.get("check", "")]
    assert {(row["cluster"], row["check"], row["result"]) for row in rows} == {
        (here, "/nowhere", "ok"),
        (here, "/nowhere/either", "ok"),
        (other, "/nobody/looks", "left out"),
        ("this machine", "/nobody/looks", "left out"),
    }
    assert {row["found"] for row in rows if row["result"] == "left out"} == {
        "This cluster was not asked for."
    }


@pytest.mark.parametrize(
    ("bound", "told"),
    [
        ({"max_size": "1kB"}, "It is not known whether it is more than 1000 B; 1 directory"),
        ({"max_files": 9}, "It is not known whether it is more than 9; 1 directory could not"),
        ({"max_size": "2B"}, "It is 3 B, more than 2 B; 1 directory could not be read"),
        ({"min_size": "3B", "min_files": 1}, None),
        ({"min_files": 2}, "It is 1, less than 2; 1 directory could not be read"),
    ],
)
def test_what_cannot_be_read_is_not_taken_for_empty(
    bigbox: str, ssh_host: SSHHost, bound: dict[str, object], told: str | None
) -> None:
    folder = ssh_host.home / f"partly-{os.urandom(4).hex()}"
    closed = folder / "closed"
    closed.mkdir(parents=True)
    (folder / "seen").write_text("123")
    (closed / "unseen").write_text("0" * 5000)
    ssh_host._own(folder, 0o755)
    closed.chmod(0o700)  # and not the account's
    found = checks_of(bigbox, [{"path": str(folder), **bound}])
    wrong = [text for text in found.values() if text != "ok"]
    if told is None:
        assert wrong == []
    else:
        assert [told in text for text in wrong] == [True], wrong


QUOTA = """\
Disk quotas for user cxtest (uid 2000):
     Filesystem  blocks   quota   limit   grace   files   quota   limit   grace
      /dev/sdb1  USED   2048    3072  0      10       0       0  0
"""


@pytest.fixture
def far_quota(ssh_host: SSHHost) -> Iterator[Callable[[str], None]]:
    """Sets what the `quota` of the far side does, a stand-in: this kernel has none."""
    programs = ssh_host.home / f"programs-{os.urandom(4).hex()}"
    programs.mkdir()

    def set_to(script: str) -> None:
        program = programs / "quota"
        program.write_text(f"#!/bin/sh\n{script}\n")
        program.chmod(0o755)

    ssh_host._own(programs, 0o755)
    with ssh_host.bashrc(f"PATH={programs}:$PATH; export PATH"):
        yield set_to


@pytest.mark.parametrize(
    ("script", "told"),
    [
        (f"echo '{QUOTA.replace('USED', '1000')}'", "ok"),
        # It is over its soft limit, and so `quota` fails.
        (f"echo '{QUOTA.replace('USED', '2500*')}'; exit 1", "It is 0 B, less than 1000 kB"),
        (f"echo '{QUOTA.replace('USED', '2000')}'", "It is 48 KiB, less than"),
        ("echo 'quota: Mountpoint (or device) / not found or has no quota enabled.' >&2; exit 1",
         "The quota is not known: `quota` says 'quota: Mountpoint"),
        ("echo 'Disk quotas for user cxtest (uid 2000): none'", "The quota is not known"),
        ("sleep 60", "no answer within 2 s"),
        ('test "$*" = "-v -w -p -f $(df --output=target ~ | tail -1)" || exit 9\n'
         f"echo '{QUOTA.replace('USED', '0').replace('2048', '0').replace('3072', '0')}'", "ok"),
    ],
)  # fmt: skip
def test_what_is_left_of_a_quota(
    bigbox: str,
    far_quota: Callable[[str], None],
    script: str,
    told: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(quotas, "_SECONDS", 2.0)
    far_quota(script)
    far_files(load_cluster(bigbox)).close()  # the PATH is the login's
    found = checks_of(bigbox, [{"path": "~", "min_quota": "1MB"}])
    assert told.replace("1000 kB", "976.6 KiB") in found["~, quota"]
    far_files(load_cluster(bigbox)).close()


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("  /scratch  1000  5000  6000  -  42  0  0  -\n", Quota(1000 * 1024, 5000 * 1024)),
        ("/a/very/long/name\n  1000*  500  0  6d23h  42  0  0  -\n", Quota(1024000, 512000)),
        ("  /scratch  [1000]  5000  6000  -  [42]  0  0  -\n", None),
        ("  /scratch  1000  0  0  -  42  0  0  -\n", Quota(1024000, None)),
        ("Permission denied.\n", None),
        ("", None),
    ],
)
def test_what_lustre_says_of_a_quota(text: str, found: Quota | None) -> None:
    """As its manual shows it."""
    assert parse_quota(text) == found


def test_over_ssh_with_the_shipped_expectations(bigbox: str, ssh_host: SSHHost) -> None:
    shipped = Path(__file__).parents[2] / "deployments" / "expectations.yaml"
    found = checks_of(bigbox, str(shipped))
    assert set(found.values()) == {"ok"}
    assert {"latency", "write, read, delete in ~", "/tmp, permissions"} <= set(found)
    assert list(Path(ssh_host.home).glob(".clustrix-prefect-*")) == []


HOSTILE = (
    "a|b`c`\n<img src=x>[link](x)",
    "back\\slash\\| **bold** _it_ ~~gone~~",
    "![x](https:x) &lt; &amp; <b>",
    "www.example.org me@example.org",
)


def test_a_hostile_name_does_not_leave_its_cell(here: str, tmp_path: Path) -> None:
    for name in HOSTILE:
        (tmp_path / name).write_text("")
    asked = [{"path": str(tmp_path / name), "kind": "directory"} for name in HOSTILE]
    state = validate_filesystem([here], asked, return_state=True)
    assert state.is_failed()
    page = page_of(state, "filesystem")
    rows = [row for row in rows_of(page) if "check" in row]
    assert [row["found"] for row in rows[: len(HOSTILE)]] == ["It is a file, not a directory."] * 4
    for row, name in zip(rows, HOSTILE, strict=False):
        visible = name.replace("\n", "\\n")
        assert row["check"].replace(" ", "") == f"{tmp_path}/{visible}, kind".replace(" ", "")
    html = MarkdownIt().enable(["table", "strikethrough"]).render(page)
    for element in ("<img", "<a ", "<code", "<em", "<s>", "<b>"):
        assert element not in html
    # The verdict, the title of each failure, and nothing else is strong.
    assert html.count("<strong>") == 1 + len(HOSTILE)


@pytest.mark.parametrize(
    ("text", "line", "told"),
    [
        ('- path: "~ana/data"\n', 1, "not absolute"),
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
