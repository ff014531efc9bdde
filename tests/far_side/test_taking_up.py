"""A later client finds what an earlier one left on the cluster."""

from __future__ import annotations

import hashlib
import os
import time
from pathlib import Path
from typing import Any

import pytest

from clustrix_prefect.errors import AgentError
from clustrix_prefect.far_side.wire import protocol
from tests.far_side.calls import Call
from tests.far_side.far import Far, is_alive, wait_for

ADD = "def f(a, b=1):\n    return a + b"
SLEEP = "import time\ndef f(seconds):\n    time.sleep(seconds)"
# Waits until it is let go, by a file beside the one it writes to.
GATED = """
    import os, time
    def f(file):
        print("before")
        with open(file, "a") as out:
            out.write("ran\\n")
        while not os.path.exists(file + ".go"):
            time.sleep(0.05)
        print("after")
        return os.getpid()
"""


@pytest.fixture
def starts(python, tmp_path):
    """Starts far sides that share a work directory."""
    started = []

    def start() -> Far:
        started.append(Far(python, tmp_path / "work"))
        return started[-1]

    yield start
    for far in started:
        far.close()


def test_direct_calls_outlive_the_agent(starts, tmp_path):
    log = tmp_path / "log"
    first = starts()
    done, running, waiting = Call(ADD, (1,)), Call(GATED, (str(log),)), Call(ADD, (5,))
    first.run(done, running, waiting, max_workers=1)
    first.value(done)
    wait_for(lambda: first.lines(running))
    first.kill_agent()
    second = starts()
    known = second.client.request(protocol.open_run(run="run"))["known"]
    # What waited in the agent went with it; it was never started, so it can be sent again.
    assert {id: facts["state"] for id, facts in known.items()} == {
        done.id: "finished",
        running.id: "started",
    }
    # The client has heard one line of it, and hears no line twice.
    second.client.send(protocol.attach(run="run", calls=list(known), heard={running.id: 1}))
    assert second.value(done) == 2
    (tmp_path / "log.go").touch()
    assert second.value(running) == first.of("started", running)[0][0]["pid"]
    assert second.lines(running) == [[20, "prefect.task_runs", "after"]]
    assert log.read_text() == "ran\n"
    pid = second.value(running)
    wait_for(lambda: not is_alive(pid), 5)
    second.client.send(protocol.ack(run="run", calls=[done.id, running.id]))
    second.client.request(protocol.close_run(run="run"))
    assert not (second.work_dir / "runs" / "run").exists()


def test_a_later_agent_ends_the_earlier_one_of_the_same_client(starts):
    """It may not have noticed that the connection broke, and hands out what is sent again."""
    first = starts()
    first.client.request(protocol.open_run(run="run", client="c1"))
    running, waiting = Call(SLEEP, (3,)), Call(ADD, (5,))
    first.run(running, waiting, max_workers=1)
    first.wait("started", running)
    second = starts()
    known = second.client.request(protocol.open_run(run="run", client="c1"))["known"]
    assert {id: facts["state"] for id, facts in known.items()} == {running.id: "started"}
    assert not is_alive(first.hello["pid"])


def test_a_run_can_be_opened_several_times_at_once(starts):
    """A reconnecting client opens its runs, and whoever was opening one asks again."""
    far = starts()
    for number in range(20):
        run = f"run-{number}"
        pending = [far.client.begin(protocol.open_run(run=run, client="c1")) for _ in range(8)]
        for answer in pending:
            assert answer.wait(60)[0]["known"] == {}


def test_a_run_that_is_opened_again_keeps_what_was_to_be_kept(starts):
    far = starts()
    failed, fine = Call("def f():\n    raise ValueError('no')"), Call(ADD, (1,))
    far.client.request(protocol.open_run(run="run"))
    far.run(failed, fine)
    for call in (failed, fine):
        far.wait("result", call)
    far.client.send(protocol.ack(run="run", calls=[failed.id], keep=True))
    far.client.request(protocol.open_run(run="run"))
    far.client.send(protocol.ack(run="run", calls=[fine.id]))
    far.client.request(protocol.close_run(run="run"))
    assert list((far.work_dir / "runs" / "run").glob("*/logs/*")) != []


def test_what_the_client_has_had_is_not_kept_for_it(starts):
    first = starts()
    had, other = Call(ADD, (1,)), Call(ADD, (2,))
    first.run(had, other)
    for call in (had, other):
        first.value(call)
    first.kill_agent()
    second = starts()
    second.client.request(protocol.open_run(run="run"))
    second.client.send(protocol.had(run="run", calls=[had.id]))
    second.client.send(protocol.attach(run="run", calls=[other.id]))
    assert second.value(other) == 3
    # Its outcome is there all the same, for a later process that asks for it.
    found = starts().client.request(protocol.open_run(run="run"))
    assert {id: facts["state"] for id, facts in found["known"].items()} == {
        had.id: "finished",
        other.id: "finished",
    }
    assert found["acknowledged"] == []


def test_a_submission_under_way_is_waited_for(starts):
    """Who asked for it is gone, and another process would submit its calls a second time."""
    first = starts()
    slow = ["sh", "-c", "sleep 2; echo 43"]
    call = Call(ADD, (1,))
    fields: dict[str, Any] = {"run": "run", "batch": "b1", "script": "", "command": slow}
    first.client.send(protocol.submit(calls=[call.manifest()], **fields))
    submitter = first.work_dir / "runs" / "run" / "b1" / "submitter"
    wait_for(submitter.exists)
    first.close()
    known = starts().client.request(protocol.open_run(run="run"))["known"]
    assert known[call.id]["submit_output"] == "43\n"


def test_an_orphaned_call_can_be_cancelled(starts):
    first = starts()
    running = Call(SLEEP, (60,))
    first.run(running)
    first.wait("started", running)
    pid = first.of("started", running)[0][0]["pid"]
    first.kill_agent()
    second = starts()
    second.client.request(protocol.open_run(run="run"))
    second.client.send(protocol.cancel(run="run", calls=[running.id]))
    wait_for(lambda: not is_alive(pid), 5)


def test_direct_calls_are_taken_up_one_by_one(starts):
    calls = [Call(ADD, (number,)) for number in range(3)]
    first = starts()
    first.run(*calls, max_workers=1)
    for call in calls:
        first.value(call)
    first.kill_agent()
    second = starts()
    second.client.request(protocol.open_run(run="run"))
    for number, call in enumerate(calls):
        second.client.send(protocol.attach(run="run", calls=[call.id]))
        assert second.value(call) == number + 1
        time.sleep(0.2)


def test_a_direct_call_whose_worker_is_gone_is_lost(starts):
    first = starts()
    calls = [Call(SLEEP, (60,)) for n in range(2)]
    first.run(*calls)
    pids = [first.wait("started", call)[0]["pid"] for call in calls]
    first.kill_agent()
    os.kill(pids[0], 9)
    second = starts()
    known = second.client.request(protocol.open_run(run="run"))["known"]
    assert [known[call.id]["state"] for call in calls] == ["lost", "started"]
    second.client.send(protocol.attach(run="run", calls=[calls[1].id]))
    second.wait("started", calls[1])
    os.kill(pids[1], 9)
    event, _ = second.wait("worker_died", calls[1], 5)
    assert event["returncode"] is None


def test_jobs_outlive_agent_and_client(starts, tmp_path):
    first = starts()
    done, running, submitted = Call(ADD, (1,)), Call(GATED, (str(tmp_path / "log"),)), Call(ADD)
    first.submit(done, running, submitted)
    first.client.send(protocol.submitted(run="run", batch="b1", job="42"))
    first.wait("started", running)
    first.close()
    second = starts()
    known = second.client.request(protocol.open_run(run="run"))["known"]
    assert {id: (f["state"], f["index"]) for id, f in known.items()} == {
        done.id: ("finished", 0),
        running.id: ("started", 1),
        submitted.id: ("submitted", 2),
    }
    for facts in known.values():
        assert facts["batch"] == "b1"
        assert (facts["job"], facts["elements"], facts["submit_output"]) == ("42", 3, "42\n")
    second.client.send(protocol.attach(run="run", calls=list(known)))
    assert second.value(done) == 2
    (tmp_path / "log.go").touch()
    second.outcome(running)
    second.outcome(submitted)
    assert second.lines(running) == [
        [20, "prefect.task_runs", "before"],
        [20, "prefect.task_runs", "after"],
    ]
    assert (tmp_path / "log").read_text() == "ran\n"


def test_a_job_whose_id_was_never_told_still_has_its_submission(starts):
    first = starts()
    first.submit(Call(ADD, (1,)))
    first.kill_agent()
    facts = next(iter(starts().client.request(protocol.open_run(run="run"))["known"].values()))
    assert (facts["job"], facts["submit_output"]) == (None, "42\n")


def test_a_submission_is_written_down_though_the_client_has_gone(starts):
    first = starts()
    slow = ["sh", "-c", "sleep 1; echo 43"]
    fields: dict[str, Any] = {"run": "run", "batch": "b1", "script": "", "command": slow}
    first.client.send(protocol.submit(calls=[Call(ADD, (1,)).manifest()], **fields))
    first.close()
    submitted = first.work_dir / "runs" / "run" / "b1" / "submitted"
    wait_for(submitted.exists, 5)
    assert submitted.read_text() == "43\n"
    wait_for(lambda: not is_alive(first.agent_pid()), 5)


def test_what_was_said_last_still_arrives(starts):
    first = starts()
    call = Call(SLEEP, (60,))
    first.run(call)
    pid = first.wait("started", call)[0]["pid"]
    first.client.send(protocol.cancel(run="run", calls=[call.id]))
    first.close()
    wait_for(lambda: not is_alive(pid), 7)


def test_an_event_that_is_not_understood_stops_nothing(starts, caplog):
    far = starts()
    note, far.client._on_event = far.client._on_event, lambda event, body: 1 / 0
    far.run(Call(ADD, (1,)))
    wait_for(lambda: "ZeroDivisionError" in caplog.text)
    far.client._on_event = note
    call = Call(ADD, (2,))
    far.run(call)
    assert far.value(call) == 3


def test_the_ids_of_acknowledged_calls_are_told_while_their_traces_are_kept(starts):
    far = starts()
    kept, other = Call(ADD, (1,)), Call(ADD, (2,))
    far.run(kept, other)
    far.value(kept)
    far.value(other)
    far.client.send(protocol.ack(run="run", calls=[kept.id], keep=True))
    far.client.send(protocol.ack(run="run", calls=[other.id]))
    far.client.request(protocol.close_run(run="run"))
    found = far.client.request(protocol.open_run(run="run"))
    assert found["known"] == {}
    assert set(found["acknowledged"]) == {kept.id, other.id}


def test_another_run_is_not_seen(starts):
    far = starts()
    call = Call(ADD, (1,))
    far.run(call, run="one")
    far.outcome(call)
    assert far.client.request(protocol.open_run(run="two"))["known"] == {}
    assert set(far.client.request(protocol.open_run(run="one"))["known"]) == {call.id}


def test_a_blob_that_is_there_is_not_sent_again(starts):
    first = starts()
    call = Call("def f(x):\n    return len(x)", (b"x" * 2_000_000,))
    first.run(call)
    assert first.value(call) == 2_000_000
    first.close()
    second = starts()
    before = second.client.bytes_sent
    second.run(call)
    assert second.value(call) == 2_000_000
    assert second.client.bytes_sent - before < 4096


def test_the_program_is_sent_once(starts):
    first = starts()
    assert first.client.bytes_sent > 30_000
    first.close()
    second = starts()
    assert second.client.bytes_sent < 1000
    program = Path(second.facts["far_side"]) / "program"
    program.write_bytes(b"print('not ours')" + program.read_bytes())
    second.close()
    assert starts().client.bytes_sent > 30_000


def test_a_blob_that_was_changed_on_the_way_is_refused(starts):
    far = starts()
    for size in (10, 1_000_000):
        with pytest.raises(AgentError, match="another content") as caught:
            far.client.put_blob("0" * 64, b"x" * size)
        assert caught.value.type == "DigestMismatch"
    assert not [path for path in (far.work_dir / "store").iterdir() if "0000" in path.name]


@pytest.mark.parametrize("size", [1000, 1_000_000], ids=["inline", "stream"])
def test_a_chunk_that_is_not_what_it_should_be_is_refused(starts, size):
    far = starts()
    good = b"x" * size
    sha = hashlib.sha256(good).hexdigest()
    upload: dict[str, Any] = {"token": sha, "index": 0, "digest": sha, "compressed": False}
    with pytest.raises(Exception, match="no upload"):
        far.client.begin(protocol.upload_chunk(**upload), good).wait()
    far.client.request(protocol.upload_begin(token=sha, size=size))
    for bad in (b"y" * size, good + b"x", good[1:]):
        with pytest.raises(Exception, match=r"another content|of the wrong size"):
            far.client.begin(protocol.upload_chunk(**upload), bad).wait()
    finish: dict[str, Any] = {"token": sha, "name": sha, "executable": False}
    with pytest.raises(Exception, match="did not arrive whole"):
        far.client.request(protocol.upload_finish(**finish))
    far.client.begin(protocol.upload_chunk(**upload), good).wait()
    far.client.request(protocol.upload_finish(**finish))
    assert far.client.request(protocol.have(blobs=[sha]))["missing"] == []


def test_much_at_once_in_both_directions(starts):
    far = starts()
    calls = [Call("def f(x):\n    return x", (os.urandom(6_000_000),)) for _ in range(4)]
    far.send_blobs(calls[:2])
    far.run(*calls[:2])
    far.run(*calls[2:])
    for call in calls:
        assert far.value(call) == call.args[0]
