"""What other accounts of the same host put in our way is neither run nor written to."""

from __future__ import annotations

import os
import stat

import pytest

from clustrix_prefect.connections import bootstrap
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.connections.local import LocalConnection
from clustrix_prefect.errors import AgentError
from clustrix_prefect.far_side.agent.loader import Program
from clustrix_prefect.far_side.agent.workdir import WorkDir
from clustrix_prefect.far_side.jobs.batch import read_trace
from clustrix_prefect.far_side.store.store import _SEAL, is_intact
from clustrix_prefect.far_side.wire import files, protocol
from clustrix_prefect.far_side.wire.failures import Failure
from tests.far_side.calls import Call
from tests.far_side.far import Far

STRANGER = 54321
ADD = "def f(a, b=1):\n    return a + b"


@pytest.fixture
def give_away():
    """Gives a path to the stranger."""
    if os.geteuid() != 0:
        pytest.skip("only root can give files away")

    def give(path):
        os.lchown(path, STRANGER, STRANGER)
        return path

    return give


def _directory(path, mode=0o700):
    path.mkdir()
    path.chmod(mode)
    return path


def _stranger_prepared_it(place, give):
    give(_directory(place / "work", 0o777))


def _stranger_has_the_directory_above(place, give):
    give(_directory(place / "work", 0o755))
    return "work/of/mine"


def _stranger_has_one_far_above(place, give):
    above = _directory(place / "scratch", 0o755)
    _directory(above / "mine")
    give(above)
    return "scratch/mine/work"


def _all_may_write_above(place, give):
    _directory(_directory(place / "scratch", 0o777) / "work")
    return "scratch/work"


def _a_group_may_write_above(place, give):
    above = _directory(place / "project", 0o2770)
    os.chown(above, 0, STRANGER)
    return "project/work"


def _stranger_has_the_sticky_directory(place, give):
    give(_directory(place / "tmp", 0o1777))
    return "tmp/work"


def _a_link_of_the_strangers(place, give):
    shared = _directory(place / "tmp", 0o1777)
    _directory(place / "mine")
    (shared / "work").symlink_to(place / "mine")
    give(shared / "work")
    return "tmp/work"


def _a_link_into_what_all_may_write(place, give):
    _directory(_directory(place / "scratch", 0o777) / "mine")
    (place / "work").symlink_to("scratch/mine")


def _a_link_in_place_of_a_part(place, give):
    work = _directory(place / "work")
    give(_directory(place / "elsewhere"))
    (work / "environments").symlink_to("../elsewhere")


def _environments_prepared(place, give):
    give(_directory(_directory(place / "work") / "environments", 0o700))


def _store_that_all_may_write(place, give):
    _directory(_directory(place / "work") / "store", 0o777)


ATTACKS = [
    _stranger_prepared_it,
    _stranger_has_the_directory_above,
    _stranger_has_one_far_above,
    _all_may_write_above,
    _a_group_may_write_above,
    _stranger_has_the_sticky_directory,
    _a_link_of_the_strangers,
    _a_link_into_what_all_may_write,
    _a_link_in_place_of_a_part,
    _environments_prepared,
    _store_that_all_may_write,
]


def _everything(top):
    return sorted(str(path) for path in top.rglob("*"))


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.__name__.strip("_"))
def test_a_work_directory_that_a_stranger_can_change_is_refused(attack, tmp_path, give_away):
    work = tmp_path / (attack(tmp_path, give_away) or "work")
    before = _everything(tmp_path)
    with pytest.raises(Failure, match=r"others can use it|belongs to|written to by") as caught:
        WorkDir(str(work))
    assert caught.value.kind == "WorkDirNotPrivate"
    made = set(_everything(tmp_path)) - set(before)
    # At most our own empty directories; nothing was written.
    assert all(stat.S_ISDIR(os.lstat(path).st_mode) for path in made)


def test_the_agent_says_whose_it_is(oldest, tmp_path, give_away):
    give_away(_directory(tmp_path / "work", 0o777))
    with pytest.raises(AgentError, match=f"work belongs to user {STRANGER}") as caught:
        Far(oldest, tmp_path / "work")
    assert caught.value.type == "WorkDirNotPrivate"


def test_sticky_directories_and_links_of_ones_own_will_do(tmp_path):
    shared = _directory(tmp_path / "tmp", 0o1777)
    (shared / "link").symlink_to(tmp_path / "far" / ".." / "mine", target_is_directory=True)
    _directory(tmp_path / "far")
    _directory(tmp_path / "mine")
    for place in (shared / "work", shared / "link" / "work", tmp_path / "mine" / "a" / "b"):
        assert WorkDir(str(place)).free_bytes() > 0


def test_a_container_of_ones_own_has_volumes_that_all_may_write(tmp_path):
    _directory(tmp_path / "volume", 0o777)
    WorkDir(str(tmp_path / "volume" / "work"), alone=True)
    with pytest.raises(Exception, match="written to by everybody"):
        WorkDir(str(tmp_path / "volume" / "work"))


@pytest.mark.parametrize("planted", ["worker.py", "clustrix_far_side/call.py", "extra/json.py"])
def test_a_program_that_was_planted_is_replaced(planted, oldest, tmp_path, give_away):
    program = Program(bootstrap.packed_program())
    work = WorkDir(str(tmp_path / "work"))
    path = work.install(program)
    target = os.path.join(path, planted)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    with open(target, "w") as file:
        file.write(f"open({str(tmp_path / 'was-here')!r}, 'w')\n")
    give_away(target)
    far = Far(oldest, tmp_path / "work")
    call = Call(ADD, (1,))
    far.run(call)
    assert far.value(call) == 2
    far.close()
    assert not (tmp_path / "was-here").exists()
    assert planted != "extra/json.py" or not os.path.exists(target)


def test_a_run_and_an_environment_of_a_strangers_are_refused(tmp_path, give_away):
    work = WorkDir(str(tmp_path / "work"))
    for parent in (work.runs, work.environments):
        os.mkdir(os.path.join(parent, "abc"))
        give_away(os.path.join(parent, "abc"))
    for ask in (work.run, work.environment):
        with pytest.raises(Exception, match=f"abc belongs to user {STRANGER}"):
            ask("abc")


def test_a_content_that_a_stranger_sealed_is_not_believed(tmp_path, give_away):
    path = tmp_path / "content"
    path.write_bytes(b"abc")
    os.utime(path, ns=(_SEAL, _SEAL))
    assert is_intact(str(path), 3)
    give_away(path)
    assert not is_intact(str(path), 3)


# --- what lies where a file is to be written or read ----------------------------------------


@pytest.mark.parametrize("write", [files.write_private, files.write_whole])
def test_a_file_is_not_written_through_a_link(write, tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "file").symlink_to("victim")
    write(str(tmp_path / "file"), b"new")
    assert (tmp_path / "victim").read_bytes() == b"precious"
    assert (tmp_path / "file").read_bytes() == b"new"
    assert not (tmp_path / "file").is_symlink()


@pytest.mark.parametrize("write", [files.write_private, files.write_whole])
def test_a_pipe_in_place_of_a_file_holds_nobody_up(write, tmp_path):
    os.mkfifo(tmp_path / "file")
    write(str(tmp_path / "file"), b"new")
    assert (tmp_path / "file").read_bytes() == b"new"


def test_nothing_is_appended_through_a_link_or_to_a_pipe(tmp_path):
    (tmp_path / "victim").write_bytes(b"precious")
    (tmp_path / "link").symlink_to("victim")
    os.mkfifo(tmp_path / "pipe")
    for name in ("link", "pipe"):
        with pytest.raises(OSError):
            files.append(str(tmp_path / name), b"more")
    assert (tmp_path / "victim").read_bytes() == b"precious"


def test_drafts_have_names_that_cannot_be_guessed(tmp_path):
    names = {files.draft_beside("x") for _ in range(100)}
    assert len(names) == 100
    assert not any(str(os.getpid()) == name.split(".")[1] for name in names)


def test_what_is_no_file_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "zero").symlink_to("/dev/zero")
    (tmp_path / "directory").mkdir()
    for name in ("pipe", "zero", "directory"):
        path = str(tmp_path / name)
        assert read_trace(path) == ([], 0)
        assert files.read_optional(path) is None
    assert files.tail(str(tmp_path / "pipe")) == ""


def test_a_pipe_in_place_of_the_program_does_not_stop_the_login(oldest, tmp_path):
    program = Program(bootstrap.packed_program())
    place = tmp_path / "work" / "far_side" / program.name[:16]
    place.mkdir(parents=True, mode=0o700)
    (tmp_path / "work" / "far_side").chmod(0o700)
    os.mkfifo(place / "program")
    far = Far(oldest, tmp_path / "work")
    assert (place / "program").read_bytes() == program.packed
    far.close()


def test_no_module_is_taken_from_the_directory_that_the_flow_runs_in(python, tmp_path, monkeypatch):
    here = tmp_path / "shared"
    here.mkdir()
    for name in ("json", "hashlib", "zlib", "stat", "ast"):
        (here / f"{name}.py").write_text(f"open({str(tmp_path / 'was-here')!r}, 'w')\n")
    monkeypatch.chdir(here)
    client = AgentClient(LocalConnection(), python=python, on_event=print, on_lost=print)
    client.start()
    found = client.request(protocol.find_python(python=python, prefer=[3, 6], prologue=[]))
    client.close()
    assert found["chosen"] is not None
    assert found["chosen"]["path"] == python
    assert not (tmp_path / "was-here").exists()
