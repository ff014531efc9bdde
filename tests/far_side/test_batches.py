"""Calls that a scheduler runs: submitted, watched, looked into, acknowledged."""

from __future__ import annotations

import json
import os
import pickle
import sys
import time
import zlib

import pytest

from clustrix_prefect.errors import AgentError
from clustrix_prefect.far_side.wire import protocol
from tests.far_side.calls import Call
from tests.far_side.far import is_alive, wait_for

ADD = "def f(a, b=1):\n    return a + b"


def test_a_batch_is_submitted_and_its_results_arrive(far):
    calls = [Call("def f(x):\n    print('x is', x)\n    return x * x", (n,)) for n in range(3)]
    answer = far.submit(*calls)
    assert (answer["returncode"], answer["stdout"]) == (0, "42\n")
    assert answer["directory"] == str(far.work_dir / "runs" / "run" / "b1")
    for index, call in enumerate(calls):
        assert far.value(call) == index * index
        assert far.lines(call) == [[20, "prefect.task_runs", f"x is {index}"]]
        assert far.wait("started", call)[0]["job"] == f"42_{index}"
        order = [e["event"] for e, _ in far.events if e["call"] == call.id]
        assert order == ["started", "log", "result"]


def test_one_job_may_run_several_calls(far):
    calls = [Call(ADD, (n,)) for n in range(5)]
    script = f"""#!/bin/sh
for i in 0 1 2; do
    SLURM_ARRAY_TASK_ID=$i {far.python} {far.facts["far_side"]}/worker.py \\
        --batch $PWD --index-variable SLURM_ARRAY_TASK_ID --calls-per-job 2
done
"""
    answer = far.submit(*calls, script=script, command=["sh", "{script}"])
    assert answer["returncode"] == 0, answer
    assert [far.value(call) for call in calls] == [1, 2, 3, 4, 5]


def test_a_single_job_needs_no_index(old_far):
    call = Call(ADD, (1,))
    worker = f"{old_far.python} {old_far.facts['far_side']}/worker.py --batch $PWD"
    answer = old_far.submit(call, script=f"#!/bin/sh\n{worker}\n", command=["{script}"])
    assert answer["returncode"] == 0, answer
    assert old_far.value(call) == 2
    assert old_far.wait("started", call)[0]["job"] is None


def test_lines_arrive_while_the_call_runs(far):
    source = """
        import logging, time
        def f():
            logging.getLogger("mine").warning("first")
            time.sleep(300)
    """
    call = Call(source)
    far.submit(call)
    wait_for(lambda: far.lines(call))
    assert far.lines(call) == [[30, "mine", "first"]]
    assert not far.of("result", call)


def test_a_submission_that_fails_leaves_nothing(far):
    call = Call(ADD, (1,))
    answer = far.submit(call, command=["sh", "-c", "echo no such partition >&2; exit 3"])
    assert answer["returncode"] == 3
    assert answer["stderr"] == "no such partition\n"
    assert far.files() == set()
    missing = far.submit(call, command=["no-such-sbatch", "{script}"])
    assert missing["returncode"] == 127
    assert "no-such-sbatch: command not found" in missing["stderr"]


def attached(calls):
    """As the client attaches them."""
    return zlib.compress(json.dumps([call.manifest() for call in calls]).encode(), 1)


def test_large_manifests_travel_as_attachment(old_far):
    calls = [Call(ADD, (os.urandom(10_000), b"")) for _ in range(60)]
    manifests = attached(calls)
    assert len(manifests) > 512 * 1024
    old_far.send_blobs(calls)
    old_far.submit(*calls[:1], batch="other")
    answer = old_far.submit(
        *calls[:3], calls=[], calls_attached=True, attachment=manifests, command=["true"]
    )
    assert answer["returncode"] == 0
    lines = (old_far.work_dir / "runs" / "run" / "b1" / "calls.jsonl").read_text().splitlines()
    assert [json.loads(line)["id"] for line in lines] == [call.id for call in calls]


def test_calls_for_warm_workers_travel_as_attachment_too(old_far):
    calls = [Call(ADD, (number, 1)) for number in range(20)]
    manifests = attached(calls)
    assert len(manifests) < len(json.dumps([call.manifest() for call in calls])) / 2
    old_far.send_blobs(calls)
    pool = {"python": old_far.python, "prologue": [], "environment": {}, "max_workers": 2}
    old_far.client.send(protocol.run(run="run", pool=pool, calls_attached=True), manifests)
    assert [old_far.value(call) for call in calls] == list(range(1, 21))


def test_what_the_submit_script_and_logs_said_can_be_looked_at(far):
    source = """
        import sys, os
        def f(x):
            sys.stderr.write("trouble %d\\n" % x)
            os._exit(9)
    """
    calls = [Call(source, (n,), context={"log_prints": False}) for n in range(2)]
    far.submit(*calls)
    far.wait("started", calls[1])
    asked = protocol.diagnose(run="run", calls=[calls[1].id, "0" * 64])
    wait_for(lambda: far.client.request(asked)["calls"][calls[1].id]["stderr_tail"])
    (found,) = far.client.request(asked)["calls"].values()
    assert found["stderr_tail"] == "trouble 1\n"
    assert found["script"].startswith("#!/bin/sh")
    assert found["present"] == "started"


def test_look_tells_how_far_calls_are(far):
    slow = Call("import time\ndef f():\n    time.sleep(30)")
    quick = Call(ADD, (1,))
    far.submit(quick, slow)
    far.outcome(quick)
    far.wait("started", slow)
    present = far.client.request(protocol.look(run="run", calls=[quick.id, slow.id, "f" * 64]))[
        "present"
    ]
    assert present == {quick.id: "finished", slow.id: "started", "f" * 64: "absent"}


def test_an_acknowledged_batch_is_removed_and_a_kept_one_loses_its_keys(far):
    first, second = Call(ADD, (1,)), Call(ADD, (2,))
    far.submit(first, second)
    far.outcome(second)
    far.client.send(protocol.ack(run="run", calls=[first.id]))
    far.client.request(protocol.ping())
    assert {"b1/script.sh", "b1/calls.jsonl", f"b1/results/{second.id}"} <= far.files()
    assert f"b1/results/{first.id}" not in far.files()
    assert set(far.client.request(protocol.open_run(run="run"))["known"]) == {second.id}
    far.client.send(protocol.ack(run="run", calls=[second.id]))
    far.client.request(protocol.ping())
    assert far.files() == set()
    kept = Call(ADD, (1,))
    far.submit(kept, batch="b2")
    far.outcome(kept)
    far.client.send(protocol.ack(run="run", calls=[kept.id], keep=True))
    far.client.request(protocol.ping())
    assert {"b2/script.sh", "b2/logs/0.out", "b2/logs/0.err"} <= far.files()
    everything = b"".join(path.read_bytes() for path in far.work_dir.rglob("b2/**/*.*"))
    assert kept.key.hex().encode() not in everything
    far.client.request(protocol.close_run(run="run"))
    assert far.files()
    assert far.client.request(protocol.open_run(run="run"))["known"] == {}


def test_status_is_asked_for_while_there_are_jobs_and_told_when_it_changes(old_far, tmp_path):
    asked, said = tmp_path / "asked", tmp_path / "said"
    said.write_text("PENDING")
    command = ["sh", "-c", 'echo >> "$1"; cat "$2"', "sh", str(asked), str(said)]
    old_far.client.send(protocol.poll_status(command=command, interval_min=0.1, interval_max=0.3))
    time.sleep(0.5)
    assert not asked.exists()  # there is no job to ask about
    call = Call("import time\ndef f():\n    time.sleep(2)")
    old_far.submit(call)

    def told():
        return [e["stdout"] for e, _ in old_far.events if e["event"] == "status"]

    wait_for(lambda: told() == ["PENDING"])
    said.write_text("RUNNING")
    wait_for(lambda: told() == ["PENDING", "RUNNING"])
    old_far.outcome(call)
    old_far.client.send(protocol.ack(run="run", calls=[call.id]))
    time.sleep(0.5)
    count = len(asked.read_text())
    assert count > 4
    time.sleep(0.5)
    assert len(asked.read_text()) == count
    assert told() == ["PENDING", "RUNNING"]


def test_commands_run_without_a_shell(far):
    answer = far.client.request(protocol.command(argv=["printf", "%s", "$HOME; it's `x`"]))
    assert answer == {"returncode": 0, "stdout": "$HOME; it's `x`", "stderr": ""}
    began = time.monotonic()
    slow = "echo known; echo why >&2; sleep 300 & sleep 300"
    answer = far.client.request(protocol.command(argv=["sh", "-c", slow]), timeout=0.5)
    assert (answer["returncode"], answer["stdout"]) == (124, "known\n")
    assert answer["stderr"] == "why\nsh: no answer within 0.5 s"
    assert time.monotonic() - began < 60
    program = "import sys; print(repr(sys.stdin.read()))"
    answer = far.client.request(protocol.command(argv=[sys.executable, "-c", program]))
    assert answer["stdout"] == "''\n"


def test_names_that_are_paths_are_refused(old_far):
    for field in ("run", "batch"):
        with pytest.raises(AgentError, match="name of a file"):
            old_far.submit(Call(ADD, (1,)), **{"command": ["true"], field: "../../evil"})
    evil = {**Call(ADD, (1,)).manifest(), "id": "../x"}
    with pytest.raises(AgentError, match="name of a file"):
        old_far.submit(Call(ADD, (1,)), calls=[evil])
    with pytest.raises(AgentError, match="does not name a blob"):
        old_far.client.request(protocol.put(sha="../x", size=1), attachment=b"x")


def test_a_line_that_is_garbage_hides_no_other(old_far):
    call = Call("import time\ndef f():\n    print(1)\n    time.sleep(1)\n    print(2)")
    old_far.submit(call)
    wait_for(lambda: old_far.lines(call))
    # Half a line is what a full disk leaves.
    with (old_far.work_dir / "runs" / "run" / "b1" / "events" / call.id).open("ab") as events:
        events.write(b'[1.0, 20, "half\n\xff\n')
    old_far.outcome(call)
    assert [text for _, _, text in old_far.lines(call)] == ["1", "2"]


def test_a_result_that_is_garbage_is_said_to_be(old_far):
    call = Call("import time\ndef f():\n    time.sleep(30)")
    old_far.submit(call)
    old_far.wait("started", call)
    (old_far.work_dir / "runs" / "run" / "b1" / "results" / call.id).write_bytes(b"\xff\n")
    event, _ = old_far.wait("result", call)
    assert event["header"]["status"] == "unreadable"


def test_watching_costs_little(old_far):
    call = Call("import time\ndef f():\n    time.sleep(4)\n    return 1")
    old_far.submit(call)
    old_far.wait("started", call)
    time.sleep(0.5)

    def cpu_seconds() -> float:
        with open(f"/proc/{old_far.agent_pid()}/stat") as file:
            fields = file.read().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / 100

    before = cpu_seconds()
    time.sleep(2.5)
    assert cpu_seconds() - before <= 0.1
    assert pickle.loads(old_far.outcome(call)[1]) == 1


def test_a_job_does_not_stay_for_what_its_calls_left_running(old_far):
    source = """
        import atexit, concurrent.futures, os, threading, time
        def f():
            threading.Thread(target=time.sleep, args=(300,)).start()
            concurrent.futures.ThreadPoolExecutor(1).submit(time.sleep, 300)
            atexit.register(time.sleep, 300)
            return os.getpid()
    """
    call = Call(source)
    old_far.submit(call)
    pid = old_far.value(call)
    errors = old_far.work_dir / "runs" / "run" / "b1" / "logs" / "0.err"
    wait_for(lambda: "what they left running" in errors.read_text(), 60)
    wait_for(lambda: not is_alive(pid), 10)
