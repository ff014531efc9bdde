"""Grid Engine's scripts, commands and answers; the answers are recorded from SGE 8.1.9."""

from __future__ import annotations

from typing import Any

import pytest

from clustrix_prefect import SGECluster
from clustrix_prefect.errors import InvalidResources, SubmissionRefused
from clustrix_prefect.schedulers.gridengine import GridEngineScheduler
from clustrix_prefect.schedulers.scheduler import (
    JobSpec,
    JobState,
    JobStatus,
    LimitReached,
    SubmissionUnclear,
    TryLater,
)
from clustrix_prefect.task_resources import Resources

SITE = GridEngineScheduler(parallel_environment="smp")


def directives(
    site: GridEngineScheduler = SITE, elements: int | None = None, **wanted: object
) -> list[str]:
    spec = JobSpec("fit-1a", Resources.of(**wanted), elements, "/a b/run", ["python3", "w.py"])
    lines = site.job_script(spec).splitlines()
    return [line.removeprefix("#$ ") for line in lines if line.startswith("#$ ")]


class TestScript:
    @pytest.mark.parametrize(
        ("wanted", "expected"),
        [
            ({"cores": 4}, "-pe smp 4"),
            ({"memory": "1GB"}, "-l h_vmem=1024M"),
            ({"memory": "1GB", "cores": 3}, "-l h_vmem=342M"),
            ({"time": "01:00:01"}, "-l h_rt=3601"),
            ({"time": 100, "signal_before_end": 30}, "-l s_rt=70"),
            ({"gpus": 2}, "-l gpu=2"),
            ({"partition": "long.q"}, "-q long.q"),
            ({"account": "lab42"}, "-P lab42"),
            ({"constraint": "arch=lx-amd64"}, "-l arch=lx-amd64"),
        ],
    )
    def test_resources(self, wanted: dict[str, Any], expected: str) -> None:
        assert expected in directives(**wanted)

    def test_one_core_needs_no_parallel_environment(self) -> None:
        assert not any(line.startswith("-pe") for line in directives(cores=1))

    def test_arrays_begin_with_1_there_and_with_0_here(self) -> None:
        assert "-t 1-20" in directives(elements=20)
        assert "-tc 5" in directives(elements=20, max_parallel_jobs=5)
        spec = JobSpec("fit", Resources(), 20, "/a b/run", ["python3", "w.py"])
        script = SITE.job_script(spec)
        assert "export CLUSTRIX_PREFECT_INDEX=$((SGE_TASK_ID - 1))\n" in script
        assert """exec > '/a b/run/logs/'"$CLUSTRIX_PREFECT_INDEX".out""" in script
        assert SITE.element_id("12", 0) == "12.1"
        assert SITE.job_of("12.1") == SITE.job_of("12") == "12"

    def test_a_single_job_has_no_index(self) -> None:
        spec = JobSpec("fit", Resources(), None, "/run", ["python3", "w.py"])
        assert "exec > /run/logs/0.out 2> /run/logs/0.err\n" in SITE.job_script(spec)
        assert "SGE_TASK_ID" not in SITE.job_script(spec)

    def test_others_replace_ours_and_some_are_left_out(self) -> None:
        site = GridEngineScheduler(
            extra_directives=["#$ -l h_rt=9,exclusive=true"], skip_directives=["-l h_vmem", "-r"]
        )
        lines = directives(site, time=60, memory="1GB")
        assert lines[-1] == "-l h_rt=9,exclusive=true"
        assert not any("h_vmem" in line or "h_rt=60" in line for line in lines)
        assert "-r n" not in lines

    def test_tasks_to_delete_are_folded(self) -> None:
        command = SITE.cancel_command(["7", "12.1", "12.2", "12.3", "12.9"])
        assert command == ["qdel", "7", "12.1-3", "12.9"]


class TestBlock:
    def test_its_fields_arrive(self) -> None:
        script = SGECluster(
            queue="a.q", project="p", account="a", memory_resource="mem_free",
            parallel_environment="smp", resource_list=["h_rt=5"], skip_directives=["-j"],
        ).job_script({"cores": 2, "memory": "2GB", "time": 60})  # fmt: skip
        for line in ("-q a.q", "-P p", "-A a", "-pe smp 2", "-l mem_free=1024M", "-l h_rt=5"):
            assert f"#$ {line}\n" in script
        assert "h_rt=60" not in script
        assert "#$ -j y" not in script

    @pytest.mark.parametrize(
        "wanted",
        [{"cores": 2}, {"nodes": 2}, {"qos": "high"}, {"gpus": "a100:1"}, {"tasks_per_node": 2}],
    )
    def test_what_it_cannot_say_is_refused(self, wanted: dict[str, object]) -> None:
        with pytest.raises(InvalidResources) as caught:
            SGECluster().check_resources(Resources.of(**wanted))
        assert caught.value.remedy


class TestSubmitting:
    @pytest.mark.parametrize(("stdout", "job"), [("12\n", "12"), ("a word\n12.1-6:1\n", "12")])
    def test_ids(self, stdout: str, job: str) -> None:
        assert SITE.parse_submit(0, stdout, "") == job

    @pytest.mark.parametrize(
        ("stderr", "remedy"),
        [
            (
                'Unable to run job: Job was rejected because job requests unknown queue "nowhere"\n'
                "Exiting.\n",
                "qconf -sql",
            ),
            (
                'Unable to run job: job rejected: the requested parallel environment "nope" does '
                "not exist\nExiting.\n",
                "qconf -spl",
            ),
            ('Unable to run job: unknown resource "gpu"\nExiting.\n', "gpu_resource"),
            (
                'Unable to run job: job rejected: the requested project "x" does not exist\n',
                "qconf -sprjl",
            ),
            ("verification: no suitable queues\nExiting.\n", "qhost"),
            ("a rule of the site's own\n", "job_script()"),
        ],
    )
    def test_refusals(self, stderr: str, remedy: str) -> None:
        with pytest.raises(SubmissionRefused) as caught:
            SITE.parse_submit(1, "", stderr)
        assert remedy in caught.value.remedy
        assert "Exiting" not in caught.value.what
        assert "Unable to run job" not in caught.value.what

    def test_for_now(self) -> None:
        said = (
            "Unable to run job: job rejected: only 10 jobs are allowed per user "
            "(current job count: 10)\nExiting.\n"
        )
        with pytest.raises(TryLater) as caught:
            SITE.parse_submit(1, "", said)
        assert type(caught.value) is LimitReached

    def test_a_wrapper_that_leaves_out_terse(self) -> None:
        said = 'Your job-array 12.1-6:1 ("fit") has been submitted\n'
        assert SITE.parse_submit(0, said, "") == "12"
        assert SITE.parse_submit(0, 'Your job 13 ("a b") has been submitted\n', "") == "13"
        with pytest.raises(SubmissionUnclear):
            SITE.parse_submit(0, "12\n13\n", "")

    def test_no_answer(self) -> None:
        said = 'error: commlib error: got read error (closing "vm/qmaster/1")\n'
        with pytest.raises(SubmissionUnclear):
            SITE.parse_submit(1, "", said)
        with pytest.raises(SubmissionUnclear):
            SITE.parse_submit(124, "", "")


def job_list(job: int, state: str, tasks: str = "", queue: str = "", name: str = "fit") -> str:
    tasks = f"<tasks>{tasks}</tasks>" if tasks else ""
    return (
        f'<job_list state="x"><JB_job_number>{job}</JB_job_number><JAT_prio>0.5</JAT_prio>'
        f"<JB_name>{name}</JB_name><JB_owner>alice</JB_owner><state>{state}</state>"
        f"<queue_name>{queue}</queue_name><slots>1</slots>{tasks}</job_list>"
    )


LISTING = (
    "<?xml version='1.0'?>\n"
    '<job_info  xmlns:xsd="http://arc.liv.ac.uk/repos/darcs/sge/source/dist/util/resources/'
    'schemas/qstat/qstat.xsd">\n  <queue_info>\n'
    + job_list(16, "r", queue="all.q@node7.example.org")
    + job_list(19, "r", "2", "all.q@node8")
    + job_list(19, "dr", "3", "all.q@node8")
    + job_list(20, "S", queue="all.q@node8")
    + "  </queue_info>\n  <job_info>\n"
    + job_list(19, "qw", "5-9:2")
    + job_list(19, "Eqw", "1,4")
    + job_list(21, "hqw", name="odd &lt;name&gt; &amp; more")
    + "  </job_info>\n</job_info>\n"
)


class TestStatus:
    @pytest.mark.parametrize(
        ("element", "expected"),
        [
            ("16", JobStatus(JobState.RUNNING, "", "node7.example.org", name="fit")),
            ("19.2", JobStatus(JobState.RUNNING, "", "node8", name="fit")),
            ("19.3", JobStatus(JobState.RUNNING, "dr", "node8", name="fit")),
            ("20", JobStatus(JobState.RUNNING, "S", "node8", name="fit")),
            ("19.7", JobStatus(JobState.QUEUED, "waiting (qw)", name="fit")),
            ("19.4", JobStatus(JobState.NOT_STARTED, "it is in state Eqw", name="fit")),
            ("21", JobStatus(JobState.QUEUED, "held (hqw)", name="odd <name> & more")),
        ],
    )
    def test_every_form(self, element: str, expected: JobStatus) -> None:
        assert SITE.parse_status(LISTING)[element] == expected

    def test_vanished(self) -> None:
        statuses = SITE.parse_status(LISTING)
        assert "19.6" not in statuses
        assert "22" not in statuses
        assert sorted(statuses) == [
            "16", "19.1", "19.2", "19.3", "19.4", "19.5", "19.7", "19.9", "20", "21",
        ]  # fmt: skip


def accounted(failed: str, exit_status: str) -> str:
    return (
        "=" * 62 + "\nqname        all.q               \nhostname     node7               \n"
        "jobname      odd-name_1          \njobnumber    1                   \n"
        f"taskid       undefined\nfailed       {failed}\nexit_status  {exit_status}\n"
        "ru_wallclock 3s\nmaxvmem      9.617MB\ncategory     -l h_rt=3\n"
    )


class TestEnds:
    @pytest.mark.parametrize(
        ("failed", "exit_status", "state", "exit_code"),
        [
            ("0    ", "0", JobState.COMPLETED, 0),
            ("0    ", "7", JobState.FAILED, 7),
            ("100 : assumedly after job", "139      (Segmentation fault)", JobState.FAILED, -11),
            ("100 : assumedly after job", "137                  (Killed)", JobState.KILLED, -9),
            (
                "37  : qmaster enforced h_rt, h_cpu, or h_vmem limit",
                "137                  (Killed)",
                JobState.TIME_LIMIT,
                137,
            ),
            ("26  : opening input/output file", "0", JobState.NOT_STARTED, 0),
            ("8   : in prolog", "0", JobState.NOT_STARTED, 0),
        ],
    )
    def test_accounting(
        self, failed: str, exit_status: str, state: JobState, exit_code: int
    ) -> None:
        found = SITE.parse_details(["1"], accounted(failed, exit_status))["1"]
        assert (found.state, found.exit_code, found.node) == (state, exit_code, "node7")

    def test_the_reason_of_an_error_state(self) -> None:
        said = (
            "==\njobnumber 7\n"
            "error reason          1:      11/23/2026 21:57:00 [1004:14455]: error: can't open "
            'output file "/nowhere/at/all/": No such file or directory\n'
        )
        error = JobStatus(
            JobState.NOT_STARTED,
            'can\'t open output file "/nowhere/at/all/": No such file or directory',
        )
        assert SITE.parse_details(["7", "8"], said) == {"7": error}
        assert SITE.parse_details(["7.1", "7.2"], said) == {"7.1": error}

    def test_nobody_knows_it(self) -> None:
        assert SITE.parse_details(["999"], "==\njobnumber 999\n") == {}

    def test_each_task_of_many_has_its_own_end(self) -> None:
        told = "==\njobnumber 1\n"
        for task, status in (("3", "7"), ("4", "0"), ("3", "9")):
            told += accounted("0", status).replace("undefined", task)
        found = SITE.parse_details(["1.2", "1.3", "1.4"], told)
        assert {task: status.exit_code for task, status in found.items()} == {"1.3": 9, "1.4": 0}

    def test_the_accounting_is_read_once_for_the_tasks_of_a_job(self) -> None:
        ids = ["7", *(f"12.{task}" for task in range(3, 900))]
        assert SITE.details_command(ids)[4:] == ["7", "12.3-899"]


class TestLimits:
    def test_read(self) -> None:
        configuration = "max_aj_tasks           75000\nmax_u_jobs             0\n"
        limits = SITE.parse_limits([(0, configuration), (0, "SGE 8.1.9\nusage: qstat\n")])
        assert (limits.max_array_size(), limits.max_submitted_jobs()) == (75000, None)
        assert limits.version == "Grid Engine (SGE 8.1.9)"

    @pytest.mark.parametrize(
        ("parameters", "seconds"),
        [
            ("accounting=true reporting=false flush_time=00:00:15 joblog=false", 15),
            ("accounting=true flush_time=00:01:05 \\\n accounting_flush_time=00:00:00", 0),
            ("none", 15),
        ],
    )
    def test_when_the_accounting_is_written(self, parameters: str, seconds: int) -> None:
        outputs = [(0, f"reporting_params             {parameters}\n"), (0, "SGE 8.1.9\n")]
        assert SITE.parse_limits(outputs).accounting_delay == seconds

    def test_no_server(self) -> None:
        assert SITE.parse_limits([(1, ""), (0, "SGE 8.1.9\n")]).version == ""


def test_a_job_that_cannot_be_read_costs_no_other() -> None:
    odd = job_list(7, "r", name="a\x01b")
    listing = f"<job_info>{odd}{job_list(8, 'qw')}</job_info>"
    found = SITE.parse_status(listing)
    assert found["7"].state is JobState.UNKNOWN
    assert found["8"].state is JobState.QUEUED
