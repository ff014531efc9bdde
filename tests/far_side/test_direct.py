"""Calls in warm workers beside the agent."""

from __future__ import annotations

import json
import os
import pickle
import time

import pytest

from clustrix_prefect.far_side.agent.pool import DirectCall, WarmWorker, merged
from clustrix_prefect.far_side.jobs.batch import BatchDirectory
from clustrix_prefect.far_side.wire import protocol
from tests.far_side.calls import Call
from tests.far_side.far import is_alive, wait_for

ADD = "def f(a, b=1):\n    return a + b"


def test_a_call_starts_logs_and_returns(far):
    call = Call("def f(x):\n    print('hello', x)\n    return x * 2", (21,))
    far.run(call)
    assert far.value(call) == 42
    started, _ = far.wait("started", call)
    assert started["host"] == far.hello["host"]
    assert started["pid"] not in (os.getpid(), far.agent_pid())
    assert abs(started["time"] - time.time()) < 60
    assert started["job"] is None
    assert far.lines(call) == [[20, "prefect.task_runs", "hello 21"]]
    header, _ = far.outcome(call)
    assert header["python"] == far.hello["python"]
    assert header["peak_memory"] > 1e6
    kinds = [event["event"] for event, _ in far.events]
    assert kinds == ["started", "log", "result"]


def test_workers_are_shared_by_calls_and_stay_within_the_limit(far):
    calls = [Call("import os\ndef f(x):\n    return x, os.getpid()", (n,)) for n in range(20)]
    far.run(*calls)
    values = [far.value(call) for call in calls]
    assert [x for x, _ in values] == list(range(20))
    assert 1 <= len({pid for _, pid in values}) <= 2


def test_workers_run_at_the_same_time(old_far, tmp_path):
    source = """
        import os, time
        def f(mine, other):
            open(mine, "w").close()
            while not os.path.exists(other):
                time.sleep(0.01)
    """
    names = [str(tmp_path / "a"), str(tmp_path / "b")]
    calls = [Call(source, tuple(names)), Call(source, tuple(reversed(names)))]
    old_far.run(*calls)
    for call in calls:
        assert old_far.value(call) is None


def test_large_arguments_and_results_travel_whole(far):
    size = 3_000_000
    call = Call("def f(data):\n    return data[::-1]", (os.urandom(size),))
    far.run(call)
    assert far.value(call) == call.args[0][::-1]
    far.client.send(protocol.ack(run="run", calls=[call.id]))


def test_coroutine_functions_are_awaited(far):
    source = """
        import asyncio
        async def f(x):
            await asyncio.sleep(0)
            return x + 1
    """
    call = Call(source, (1,))
    far.run(call)
    assert far.value(call) == 2


def test_an_exception_travels_in_parts(far):
    source = """
        class Odd(Exception):
            def __init__(self, a, b):
                super().__init__("odd: %s" % a)
                self.b = b
                self.lock = __import__("threading").Lock()
        def f():
            try:
                {}["k"]
            except KeyError as error:
                raise Odd(1, [2]) from error
    """
    call = Call(source)
    far.run(call)
    header, body = far.outcome(call)
    parts = pickle.loads(body)
    assert header["status"] == "raised"
    assert parts["type_name"] == "user_code.Odd"
    assert parts["text"] == "odd: 1"
    assert [pickle.loads(pickled) for pickled, _ in parts["args"]] == ["odd: 1"]
    assert {name: pickle.loads(value) for name, value in parts["state"].items()} == {"b": [2]}
    assert "Odd: odd: 1" in parts["traceback"]
    assert "call.py" not in parts["traceback"].partition("The above")[2]
    cause = parts["cause"]
    assert pickle.loads(cause["type"]) is KeyError
    assert cause["cause"] is None


@pytest.mark.parametrize("how", ["raise SystemExit(3)", "raise KeyboardInterrupt"])
def test_leaving_by_exit_or_interrupt_is_an_exception_of_the_call(old_far, how):
    calls = [Call(f"def f():\n    {how}"), Call(ADD, (1,))]
    old_far.run(*calls, max_workers=1)
    header, body = old_far.outcome(calls[0])
    assert header["status"] == "raised"
    assert pickle.loads(body)["type_name"] in how
    assert old_far.value(calls[1]) == 2


def test_a_value_that_cannot_be_pickled_is_named(far):
    call = Call("import threading\ndef f():\n    return threading.Lock()")
    far.run(call)
    header, body = far.outcome(call)
    assert header["status"] == "not_portable"
    fault = json.loads(body)
    assert fault["type_name"] == "lock"
    assert "pickle" in fault["text"]


def test_no_call_sees_what_another_did(old_far):
    messy = """
        import builtins, logging, os, sys
        count = []
        def f():
            count.append(1)
            os.environ["MESSY"] = "1"
            os.environ.pop("HOME")
            os.chdir("/")
            sys.path.insert(0, "/messy")
            logging.getLogger().setLevel(50)
            logging.getLogger().addHandler(logging.NullHandler())
            return len(count)
    """
    look = """
        import logging, os, sys
        def f():
            return (os.environ.get("MESSY"), "HOME" in os.environ, os.getcwd(), sys.path[0],
                    logging.getLogger().level, len(logging.getLogger().handlers))
    """
    before, first, again, after = Call(look), Call(messy), Call(messy), Call(look)
    old_far.run(before, first, again, after, max_workers=1)
    assert old_far.value(first) == old_far.value(again) == 1
    assert old_far.value(after) == old_far.value(before)


def test_environment_directory_and_prologue_of_a_worker(far, tmp_path):
    source = "import os\ndef f():\n    return os.environ['A'], os.environ.get('B'), os.getcwd()"
    plain, prepared = Call(source), Call(source)
    odd = 'it\'s $HOME "quoted"\n!'
    far.run(plain, environment={"A": odd}, cwd=str(tmp_path))
    assert far.value(plain) == (odd, None, str(tmp_path))
    prologue = ["echo noise", "export B=loaded", "export A=overruled"]
    far.run(prepared, environment={"A": odd}, prologue=prologue, cwd=str(tmp_path))
    assert far.value(prepared) == (odd, "loaded", str(tmp_path))


def test_a_worker_that_dies_is_reported_and_replaced(far):
    source = """
        import os, sys
        def f():
            sys.stderr.write("last words")
            sys.stderr.flush()
            os.kill(os.getpid(), 11)
    """
    calls = [Call(source), Call(ADD, (1,))]
    far.run(*calls, max_workers=1)
    event, _ = far.wait("worker_died", calls[0])
    assert (event["returncode"], event["stderr_tail"], event["started"]) == (
        -11,
        "last words",
        True,
    )
    assert far.value(calls[1]) == 2


def test_a_worker_that_cannot_start_says_why(old_far, tmp_path):
    absent = Call(ADD, (1,))
    old_far.run(absent, python="/no/such/python")
    event, _ = old_far.wait("worker_died", absent)
    assert (event["returncode"], event["started"]) == (127, False)
    assert "/no/such/python" in event["stderr_tail"]
    broken = Call(ADD, (1,))
    old_far.run(broken, prologue=["echo no such module >&2; exit 5"])
    event, _ = old_far.wait("worker_died", broken)
    assert (event["returncode"], event["started"]) == (5, False)
    assert "no such module" in event["stderr_tail"]


def test_a_worker_that_ends_before_it_is_given_a_call_says_why(tmp_path):
    settings = {"python": "/no/such/python", "prologue": ["echo no such module >&2; exit 5"]}
    direct = DirectCall({"id": "call"}, BatchDirectory(str(tmp_path)), settings, "kind")
    worker = WarmWorker("/no/such/program", direct)
    wait_for(worker.has_ended)
    worker.hand(direct)
    assert worker.wait() == 5
    assert worker.stderr_tail() == "no such module\n"


def test_messages_of_one_call_that_come_together_are_joined():
    def message(event, call, **more):
        return {"event": event, "call": call, **more}, b""

    started, ended = message("started", "a"), message("result", "a", header={"started": 1.0})
    assert list(merged([started, ended])) == [ended]
    # The header of a large result is on the disk, and a start is told before what is logged.
    for both in (
        [started, message("result", "a", in_file=True)],
        [started, message("result", "b", header={})],
        [started, message("log", "a", lines=[1]), ended],
    ):
        assert list(merged(both)) == both
    lines = [message("log", "a", lines=[n]) for n in (1, 2)]
    assert list(merged([started, *lines, ended])) == [
        started,
        message("log", "a", lines=[1, 2]),
        ended,
    ]
    assert list(merged([ended, message("started", "b")])) == [ended, message("started", "b")]


def test_a_process_left_behind_does_not_hide_the_death_of_a_worker(old_far):
    source = """
        import os, time
        def f():
            if os.fork() == 0:
                time.sleep(30)
                os._exit(0)
            os._exit(7)
    """
    call = Call(source)
    old_far.run(call)
    event, _ = old_far.wait("worker_died", call, 10)
    assert event["returncode"] == 7


def test_a_forked_child_sends_neither_lines_nor_a_result(old_far):
    source = """
        import os
        def f():
            child = os.fork()
            if child:
                os.waitpid(child, 0)
            print("parent" if child else "child")
            return bool(child)
    """
    call, following = Call(source), Call(ADD, (1,))
    old_far.run(call, following, max_workers=1)
    assert old_far.value(call) is True
    assert old_far.value(following) == 2
    assert old_far.lines(call) == [[20, "prefect.task_runs", "parent"]]


def test_output_that_is_not_logged_can_be_looked_at(old_far):
    source = "import sys\ndef f(x):\n    print('out', x)\n    sys.stderr.write('err %s' % x)"
    calls = [Call(source, (n,), context={"log_prints": False}) for n in range(3)]
    old_far.run(*calls, max_workers=1)
    for call in calls:
        old_far.outcome(call)
    asked = protocol.diagnose(run="run", calls=[calls[1].id])
    found = old_far.client.request(asked)["calls"][calls[1].id]
    assert found["stdout_tail"] == "out 1\n"
    assert found["stderr_tail"] == "err 1"
    assert found["directory"].endswith("/runs/run/direct")


def test_cancelling_drops_what_waits_and_ends_what_runs(far):
    source = "import time\ndef f():\n    time.sleep(60)"
    running, waiting, wanted = Call(source), Call(ADD, (1,)), Call(ADD, (2,))
    far.run(running, waiting, wanted, max_workers=1)
    pid = far.wait("started", running)[0]["pid"]
    far.client.send(protocol.cancel(run="run", calls=[waiting.id, running.id]))
    far.wait("cancelled", waiting)
    far.wait("cancelled", running, 3)
    assert not is_alive(pid)
    assert far.value(wanted) == 3
    assert not far.of("worker_died", running)


def test_a_call_that_ignores_the_request_to_end_is_killed(old_far):
    source = """
        import os, signal, subprocess, time
        def f():
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            print(subprocess.Popen(["sh", "-c", "trap '' TERM; sleep 60"]).pid)
            time.sleep(60)
    """
    call = Call(source)
    old_far.run(call)
    child = int(wait_for(lambda: old_far.lines(call))[0][2])
    pid = old_far.wait("started", call)[0]["pid"]
    began = time.monotonic()
    old_far.client.send(protocol.cancel(run="run", calls=[call.id]))
    old_far.wait("cancelled", call, 8)
    assert time.monotonic() - began > 4
    wait_for(lambda: not is_alive(pid) and not is_alive(child), 3)


def test_acknowledged_calls_leave_nothing_and_a_closed_run_neither(far):
    small, large = Call(ADD, (1,)), Call("def f(n):\n    return b'x' * n", (100_000,))
    far.run(small, large)
    far.value(small)
    assert len(far.value(large)) == 100_000
    assert f"direct/results/{large.id}" in far.files()
    far.client.request(protocol.close_run(run="run"))
    known = far.client.request(protocol.open_run(run="run"))["known"]
    assert {id: facts["state"] for id, facts in known.items()} == {
        small.id: "finished",
        large.id: "finished",
    }
    far.client.send(protocol.ack(run="run", calls=[small.id, large.id]))
    assert far.client.request(protocol.open_run(run="run"))["known"] == {}
    assert f"direct/results/{large.id}" not in far.files()
    far.client.request(protocol.close_run(run="run"))
    assert not (far.work_dir / "runs" / "run").exists()


def test_closing_a_run_ends_its_calls(old_far):
    call = Call("import time\ndef f():\n    time.sleep(60)")
    old_far.run(call)
    pid = old_far.wait("started", call)[0]["pid"]
    old_far.client.request(protocol.close_run(run="run"))
    assert not is_alive(pid)
    assert not (old_far.work_dir / "runs" / "run").exists()


def test_workers_end_with_the_agent(far):
    call = Call("import os\ndef f():\n    return os.getpid()")
    far.run(call)
    pid = far.value(call)
    assert is_alive(pid)
    far.close()
    wait_for(lambda: not is_alive(pid) and not is_alive(far.agent_pid()), 5)


def test_nobody_else_can_read_anything(far):
    call = Call(ADD, (b"x" * 50_000, b"y"))
    far.run(call)
    far.value(call)
    batched = Call(ADD, (1,))
    far.submit(batched)
    far.value(batched)
    assert far.work_dir.stat().st_mode & 0o777 == 0o700
    # What the interpreter and the job's own shell write obeys the umask, behind closed doors.
    written_by_others = ("__pycache__", ".pyc", ".out", ".err")
    for path in far.work_dir.rglob("*"):
        if not path.name.endswith(written_by_others):
            assert path.stat().st_mode & 0o077 == 0, path
    calls = far.work_dir / "runs" / "run" / "b1" / "calls.jsonl"
    assert calls.stat().st_mode & 0o777 == 0o600
