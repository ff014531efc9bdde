"""What a call sees of Prefect, and what it logs, far away."""

from __future__ import annotations

import json
import pickle
import sys
from typing import Any

import cloudpickle
import pytest

from clustrix_prefect.far_side.wire import protocol
from tests.far_side.calls import Call, bundle, sha256
from tests.far_side.far import Far


def test_loggers_prints_and_levels_arrive_in_order(far):
    source = """
        import logging, sys
        from prefect import get_run_logger
        from prefect.logging import get_logger
        def f():
            get_run_logger().info("one %s", 1)
            print("two", "2", sep="-")
            logging.getLogger("mine").error("three")
            get_logger("sub").warning("four")
            get_run_logger().debug("not wanted")
            print("five\\nsix", end="")
            print("to a file", file=sys.stderr)
            try:
                1 / 0
            except ZeroDivisionError:
                get_run_logger().exception("seven")
    """
    call = Call(source)
    far.run(call)
    far.outcome(call)
    lines = far.lines(call)
    assert lines[:6] == [
        [20, "prefect.task_runs", "one 1"],
        [20, "prefect.task_runs", "two-2"],
        [40, "mine", "three"],
        [30, "prefect.sub", "four"],
        [20, "prefect.task_runs", "five\nsix"],
        [20, "prefect.task_runs", "to a file"],
    ]
    level, name, text = lines[6]
    assert (level, name) == (40, "prefect.task_runs")
    assert text.startswith("seven\nTraceback")
    assert "ZeroDivisionError" in text
    times = [line[0] for event, _ in far.of("log", call) for line in event["lines"]]
    assert times == sorted(times)


def test_no_line_is_lost_to_what_a_call_configures(old_far):
    source = """
        import logging, logging.config
        from prefect import get_run_logger
        def f():
            logging.getLogger().handlers[:] = []
            logging.getLogger().setLevel(logging.CRITICAL)
            logging.config.dictConfig({"version": 1, "disable_existing_loggers": True})
            get_run_logger().info("one")
            print("two  ")
            logging.getLogger("mine").warning("below the level that was set")
    """
    for _ in range(2):
        call = Call(source)
        old_far.run(call)
        old_far.outcome(call)
        assert [text for _, _, text in old_far.lines(call)] == ["one", "two"]


def test_a_closed_output_spoils_no_later_call(old_far):
    closes = Call("import sys\ndef f():\n    sys.stdout.close()")
    old_far.run(closes)
    old_far.outcome(closes)
    later = Call("import sys\ndef f():\n    sys.stdout.write('x')\n    return 1")
    old_far.run(later)
    assert old_far.value(later) == 1


def test_the_level_is_the_flows(old_far):
    source = "import logging\ndef f():\n    logging.debug('d')\n    logging.warning('w')"
    for level, expected in ((10, ["d", "w"]), (40, [])):
        call = Call(source, context={"log_level": level})
        old_far.run(call)
        old_far.outcome(call)
        assert [text for _, _, text in old_far.lines(call)] == expected


def test_a_chatty_call_keeps_every_line(old_far):
    call = Call("def f(n):\n    for i in range(n):\n        print(i)", (20_000,))
    old_far.run(call)
    old_far.outcome(call)
    assert [text for _, _, text in old_far.lines(call)] == [str(i) for i in range(20_000)]
    assert len(old_far.of("log", call)) < 20_000  # many lines share an event


def test_text_that_is_not_ascii_and_very_long_lines(far):
    call = Call("def f():\n    print('Grüße \\U0001f600 \\udc80')\n    print('x' * 1000000)")
    far.run(call)
    far.outcome(call)
    (_, _, first), (_, _, second) = far.lines(call)
    assert first == "Grüße \U0001f600 \udc80"
    assert second.startswith("xxx")
    assert second.endswith("(cut)")


def test_runtime_is_that_of_the_task_run(far):
    source = """
        import prefect
        from prefect.runtime import flow_run, task_run
        def f():
            return (flow_run.name, flow_run.parameters, task_run.id, task_run.tags,
                    task_run.run_count, prefect.runtime.task_run.name,
                    prefect.runtime.deployment.id)
    """
    call = Call(source)
    far.run(call)
    expected = ("brave-owl", {"n": 3}, "task-1", ["slow"], 1, "fit-0", None)
    assert far.value(call) == expected
    other = Call(source, context={"task_run": {"id": "task-2", "name": "fit-1"}})
    far.run(other, max_workers=1)
    assert far.value(other)[2:6] == ("task-2", [], 0, "fit-1")


def test_tasks_flows_and_resources_are_the_functions_they_wrap(far):
    source = """
        from prefect import flow, tags, task, unmapped
        from clustrix_prefect import resources

        @resources(cores=2)
        @task(retries=3, name="double")
        def double(x):
            return 2 * x

        @task
        def plain(x):
            return x

        class Model:
            @task
            def predict(self, x):
                return x + 1

        @flow
        def inner(x):
            with tags("a"), resources(memory="1GB"):
                return plain(double(x)) + plain.fn(0) + plain.with_options(name="n")(0)

        def f(x):
            return inner(x), double.name, Model().predict(1)
    """
    call = Call(source, (3,))
    far.run(call)
    assert far.value(call) == (6, "double", 2)


@pytest.mark.parametrize(
    ("use", "said"),
    [
        ("prefect.get_client()", "prefect.get_client is not available inside a task"),
        ("create_link_artifact(link='x')", "prefect.artifacts.create_link_artifact is not avail"),
        ("step.delay(1)", "step.delay, .serve and .deploy are not available"),
    ],
)
def test_what_is_not_available_says_so(old_far, use, said):
    source = f"""
        import prefect
        from prefect import task
        from prefect.artifacts import create_link_artifact
        @task
        def step(x):
            return x
        def f():
            return {use}
    """
    call = Call(source)
    old_far.run(call)
    header, body = old_far.outcome(call)
    assert header["status"] == "raised"
    assert said in pickle.loads(body)["text"]


def test_probing_modules_is_harmless(old_far):
    source = """
        import inspect, prefect, prefect.runtime, sys
        def f():
            inspect.unwrap(prefect)
            return (hasattr(prefect, "__nothing__"), getattr(prefect.runtime, "__wrapped__", None),
                    inspect.getmodule(f) is None, [hasattr(m, "__file__") for m in
                    list(sys.modules.values())] != [])
    """
    call = Call(source)
    old_far.run(call)
    assert old_far.value(call)[:2] == (False, None)


# --- what is refused ----------------------------------------------------------------------


def refused(far, call, manifest, **settings):
    """What a worker says of a manifest that it must not run."""
    far.send_blobs([call])
    pool = {"python": far.python, "max_workers": 1, **settings}
    far.client.send(protocol.run(run="run", pool=pool, calls=[manifest]))
    event, body = far.wait("result", call)
    assert event["header"]["status"] == "refused"
    assert call.is_signed(event["header"], body)
    return json.loads(body)


def test_a_call_that_was_changed_is_not_run(old_far):
    changes: list[dict[str, Any]] = [
        {"mac": "0" * 64},
        {"attempt": 1},
        {"captured": "0" * 64},
        {"payload_sha256": "0" * 64},
        {"inline": "aGVsbG8="},
    ]
    for change in changes:
        call = Call("def f():\n    return 1")
        if "attempt" in change:
            # The result is signed for the attempt that the changed manifest claims.
            call.is_signed = lambda header, body: True  # type: ignore[method-assign]
        fault = refused(old_far, call, call.manifest(**change))
        assert fault["type_name"] == "Tampered"


def test_blobs_that_were_changed_are_not_opened(old_far):
    call = Call("def f(x):\n    return len(x)", (b"x" * 50_000,))
    for blob in call.blobs:
        old_far.send_blobs([call])
        path = old_far.work_dir / "store" / sha256(blob)
        path.write_bytes(blob + b".")
        fresh = Call(call.source, call.args)
        # A worker that has read the blob before keeps what it verified.
        new_worker = {"environment": {"BLOB": path.name}}
        fault = refused(old_far, fresh, fresh.manifest(), **new_worker)
        assert fault["type_name"] == "Tampered"
        path.write_bytes(blob)


def test_a_module_that_is_not_there_is_named(far):
    call = Call("import no_such_module\ndef f():\n    pass")
    fault = refused(far, call, call.manifest())
    assert fault["type_name"] == "ModuleNotFoundError"
    assert "no_such_module" in fault["text"]


def test_bytecode_of_another_version_is_not_loaded(pythons, tmp_path):
    outer = 1
    for version in ("3.8", "3.13"):
        if version in pythons:
            far = Far(pythons[version], tmp_path / version)
            call = Call("def f(): pass")
            call.bundle = bundle("", python=[3, 99], entry=None)
            call.captured = cloudpickle.dumps(lambda: outer, 4)
            fault = refused(far, call, call.manifest())
            assert fault["type_name"] == "ForeignBytecode"
            far.close()


def test_a_function_with_its_globals_travels_to_the_same_version(tmp_path):
    far = Far(sys.executable, tmp_path / "work")
    factor = 3

    class Box:
        def __init__(self, value):
            self.value = value

    call = Call("def f(x): pass", (4,))
    call.bundle = bundle("", entry=None)
    call.captured = cloudpickle.dumps(lambda x: Box(x * factor), 4)
    far.run(call)
    header, body = far.outcome(call)
    assert header["status"] == "ok"
    assert pickle.loads(body).value == 12
    far.close()
