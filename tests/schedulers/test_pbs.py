"""PBS's scripts, commands and answers in each of its kinds.

The text form is recorded from slurm-wlm-torque 22.05; JSON and XML follow the documentation of
OpenPBS and Torque.
"""

from __future__ import annotations

import json

import pytest
from pydantic import ValidationError

from clustrix_prefect import PBSCluster, SGECluster
from clustrix_prefect.errors import InvalidResources, SubmissionRefused
from clustrix_prefect.schedulers.pbs import PBSScheduler
from clustrix_prefect.schedulers.scheduler import (
    JobSpec,
    JobState,
    JobStatus,
    SubmissionUnclear,
    TryLater,
)
from clustrix_prefect.task_resources import Resources

OPENPBS = PBSScheduler().for_site("OpenPBS 23.06.06")
TORQUE = PBSScheduler().for_site("Torque 6.1.2")
OF_SLURM = PBSScheduler().for_site("PBS commands of SLURM 22.05.8")


def spec(elements: int | None = None, **wanted: object) -> JobSpec:
    return JobSpec("fit-1a", Resources.of(**wanted), elements, "/a/run", ["python3", "w.py"])


def directives(site: PBSScheduler, elements: int | None = None, **wanted: object) -> list[str]:
    lines = site.job_script(spec(elements, **wanted)).splitlines()
    return [line.removeprefix("#PBS ") for line in lines if line.startswith("#PBS ")]


class TestScript:
    def test_openpbs_asks_for_chunks(self) -> None:
        lines = directives(
            OPENPBS, nodes=2, tasks_per_node=4, cores=2, memory="1GB", gpus=1, time=3661,
            constraint="arch=x",
        )  # fmt: skip
        assert "-l select=2:ncpus=8:mpiprocs=4:ngpus=1:mem=1024mb:arch=x" in lines
        assert "-l walltime=01:01:01" in lines

    def test_torque_asks_for_nodes(self) -> None:
        lines = directives(TORQUE, nodes=2, cores=2, memory="1GB", gpus=1, constraint="ib")
        assert "-l nodes=2:ppn=2:gpus=1:ib" in lines
        assert "-l mem=2048mb" in lines

    def test_arrays(self) -> None:
        assert "-J 0-9%2" in directives(OPENPBS, 10, max_parallel_jobs=2)
        assert "-t 0-9%2" in directives(TORQUE, 10, max_parallel_jobs=2)
        # OpenPBS takes no others; and no other job is to be run again by PBS itself.
        assert "-r y" in directives(OPENPBS, 10)
        for lines in (directives(OPENPBS), directives(TORQUE), directives(TORQUE, 10)):
            assert "-r n" in lines
        script = OPENPBS.job_script(spec(10))
        assert "CLUSTRIX_PREFECT_INDEX=${PBS_ARRAY_INDEX:-$PBS_ARRAYID}\n" in script

    def test_slurms_qsub_reads_the_last_l_only(self) -> None:
        command = OF_SLURM.submit_command("/a/run/script.sh", spec(cores=2, memory="1GB", time=60))
        assert command[-1] == "/a/run/script.sh"
        assert command.count("-l") == 1
        assert command[command.index("-l") + 1] == "walltime=00:01:00,nodes=1:ppn=2,mem=1024mb"
        assert command[command.index("-e") + 1] == "/a/run/logs/0.err"

    def test_slurms_qsub_gets_options_as_words_and_quotes_for_its_shell(self) -> None:
        site = PBSScheduler(
            account="my lab",
            extra_directives=["-m ae -M me@example.org", "#PBS -l walltime=60 -W depend=afterok:1"],
        ).for_site("PBS commands of SLURM 22.05.8")
        command = site.submit_command("/a/script.sh", spec(time=600))
        for option, value in (
            ("-A", "'my lab'"),
            ("-m", "ae"),
            ("-M", "me@example.org"),
            ("-W", "depend=afterok:1"),
            ("-l", "nodes=1:ppn=1,walltime=60"),
        ):
            assert command.count(option) == 1
            assert command[command.index(option) + 1] == value

    def test_ones_own_chunks_replace_ours_in_either_form(self) -> None:
        for request in ("select=4:ncpus=1", "nodes=2:ppn=3"):
            script = PBSCluster(resource_list=[request]).job_script({"memory": "1GB", "cores": 2})
            assert [line for line in script.splitlines() if " -l " in line] == [
                f"#PBS -l {request}"
            ]

    @pytest.mark.parametrize("kind", [PBSCluster, SGECluster])
    @pytest.mark.parametrize("request_", ["-l mem=1gb", "mem=1gb\n#PBS -q other", " "])
    def test_what_is_no_request_is_refused(
        self, kind: type[PBSCluster | SGECluster], request_: str
    ) -> None:
        with pytest.raises(ValidationError, match="resource_list"):
            kind(resource_list=[request_])

    def test_a_part_of_a_chunk_is_left_out(self) -> None:
        site = PBSScheduler(skip_directives=["-l mem"])
        assert "-l select=1:ncpus=2" in directives(site, memory="1GB", cores=2)

    def test_fields_of_the_block_arrive(self) -> None:
        script = PBSCluster(queue="q", project="p", account="a").job_script()
        for line in ("-q q", "-P p", "-A a"):
            assert f"#PBS {line}\n" in script

    @pytest.mark.parametrize("wanted", [{"qos": "high"}, {"gpus": "a100:1"}])
    def test_what_it_cannot_say_is_refused(self, wanted: dict[str, object]) -> None:
        with pytest.raises(InvalidResources):
            PBSCluster().check_resources(Resources.of(**wanted))


class TestIds:
    @pytest.mark.parametrize(
        ("stdout", "index", "element"),
        [
            ("1234.pbs.example.org\n", None, "1234"),
            ("1234[].pbs.example.org\n", 7, "1234[7]"),
            ("17\n", None, "17"),
        ],
    )
    def test_read_without_the_server(self, stdout: str, index: int | None, element: str) -> None:
        job = OPENPBS.parse_submit(0, f"a word\n{stdout}", "")
        assert OPENPBS.element_id(job, index) == element
        assert OPENPBS.job_of(element) == job


class TestRefusals:
    @pytest.mark.parametrize(
        ("output", "remedy"),
        [
            ("qsub: Unknown queue\n", "qstat -Q"),
            ("qsub: submit error (Unknown queue MSG=requested queue not found)\n", "qstat -Q"),
            ("qsub: Job exceeds queue and/or server resource limits\n", "qstat -Qf"),
            ("qsub: Unknown resource: Resource_List.nope\n", "resource_list"),
            ("qsub: Array job exceeds server or queue size limit\n", ""),
        ],
    )
    def test_for_good(self, output: str, remedy: str) -> None:
        with pytest.raises(SubmissionRefused) as caught:
            OPENPBS.parse_submit(170, "", output)
        assert remedy in caught.value.remedy
        assert "qsub:" not in caught.value.what

    def test_slurms_qsub_says_it_on_standard_output(self) -> None:
        said = (
            "There was an error running the Slurm sbatch command.\nThe command was:\n"
            "'/usr/bin/sbatch -e s.sh.e%A -o s.sh.o%A -p nowhere s.sh 2>&1'\n"
            "and the output was:\n'sbatch: error: invalid partition specified: nowhere\n"
            " sbatch: error: Batch job submission failed: Invalid partition name specified\n'\n"
        )
        with pytest.raises(SubmissionRefused) as caught:
            OF_SLURM.parse_submit(1, said, "")
        assert caught.value.what == (
            "PBS refuses the job: invalid partition specified: nowhere; "
            "Batch job submission failed: Invalid partition name specified."
        )

    @pytest.mark.parametrize(
        "output",
        [
            "qsub: would exceed queue generic's per-user limit\n",
            "qsub: submit error (Maximum number of jobs already in queue for user MSG=...)\n",
            "Connection refused\nqsub: cannot connect to server pbs (errno=15010)\n",
        ],
    )
    def test_for_now(self, output: str) -> None:
        with pytest.raises(TryLater) as caught:
            OPENPBS.parse_submit(1, "", output)
        assert type(caught.value) is TryLater

    def test_no_answer(self) -> None:
        with pytest.raises(SubmissionUnclear):
            OPENPBS.parse_submit(1, "", "qsub: End of File\n")


def of_openpbs(**changes: object) -> str:
    """A listing of one subjob, as `qstat -t -f -F json` writes it."""
    job = {
        "Job_Name": "odd \"name\" {1}", "Job_Owner": "alice@login", "job_state": "R",
        "queue": "workq", "server": "pbs", "exec_host": "node7/0*2", "Hold_Types": "n",
        "Resource_List": {"ncpus": 2, "select": "1:ncpus=2", "walltime": "00:00:10"},
        "resources_used": {"cput": "00:00:01", "walltime": "00:00:03"}, "substate": 42,
    }  # fmt: skip
    jobs = {"7[3].pbs": {k: v for k, v in {**job, **changes}.items() if v is not None}}
    head = {"timestamp": 1700000000, "pbs_version": "23.06.06", "pbs_server": "pbs"}
    return json.dumps({**head, "Jobs": jobs}, indent=4)


class TestJSON:
    @pytest.mark.parametrize(
        ("changes", "state", "reason"),
        [
            ({}, JobState.RUNNING, ""),
            ({"job_state": "S"}, JobState.RUNNING, "suspended (S)"),
            ({"job_state": "B"}, JobState.RUNNING, ""),
            ({"job_state": "Q"}, JobState.QUEUED, "waiting (Q)"),
            (
                {
                    "job_state": "Q",
                    "comment": "Not Running: Insufficient amount of resource: ncpus",
                },
                JobState.QUEUED,
                "Insufficient amount of resource: ncpus",
            ),
            ({"job_state": "H", "Hold_Types": "u"}, JobState.QUEUED, "held (H)"),
            ({"job_state": "W"}, JobState.QUEUED, "waits for its time (W)"),
            (
                {"job_state": "H", "comment": "job held, too many failed attempts to run"},
                JobState.NOT_STARTED,
                "job held, too many failed attempts to run",
            ),
            ({"job_state": "X", "Exit_status": 0}, JobState.COMPLETED, ""),
            ({"job_state": "F", "Exit_status": 3}, JobState.FAILED, ""),
            ({"job_state": "F", "Exit_status": 271}, JobState.CANCELLED, ""),
            ({"job_state": "F", "Exit_status": 143}, JobState.CANCELLED, ""),
            ({"job_state": "F", "Exit_status": 137}, JobState.KILLED, ""),
            ({"job_state": "F", "Exit_status": 265, "substate": 91}, JobState.CANCELLED, ""),
            ({"job_state": "F", "substate": 91}, JobState.CANCELLED, ""),
            (
                {"job_state": "F", "Exit_status": 271, "resources_used": {"walltime": "00:00:11"}},
                JobState.TIME_LIMIT,
                "",
            ),
            ({"job_state": "F", "Exit_status": -29}, JobState.TIME_LIMIT, ""),
            ({"job_state": "F", "Exit_status": -27}, JobState.OUT_OF_MEMORY, ""),
            ({"job_state": "F", "Exit_status": -1}, JobState.NOT_STARTED, ""),
            ({"job_state": "?"}, JobState.RUNNING, ""),
        ],
    )
    def test_states(self, changes: dict[str, object], state: JobState, reason: str) -> None:
        found = OPENPBS.parse_status(of_openpbs(**changes))["7[3]"]
        assert (found.state, found.reason) == (state, reason)
        assert found.name == 'odd "name" {1}'

    @pytest.mark.parametrize("status", [267, 139])  # by PBS, and by the shell in the job
    def test_where_and_how(self, status: int) -> None:
        found = OPENPBS.parse_details(0, of_openpbs(job_state="F", Exit_status=status))
        assert found == JobStatus(JobState.FAILED, "", "node7", -11, 'odd "name" {1}')

    def test_vanished(self) -> None:
        assert OPENPBS.parse_status("") == {}
        assert "8" not in OPENPBS.parse_status(of_openpbs())
        assert OPENPBS.parse_details(153, "") is None
        assert OPENPBS.parse_details(0, '{"timestamp": 1}') is None


TORQUE_LISTING = (
    "<Data><Job><Job_Id>7[1].server.example.org</Job_Id><Job_Name>a &lt;b&gt;</Job_Name>"
    "<job_state>R</job_state><exec_host>node7/0+node7/1</exec_host></Job>"
    "<Job><Job_Id>7[2].server.example.org</Job_Id><Job_Name>a</Job_Name>"
    "<job_state>H</job_state></Job>"
    "<Job><Job_Id>7[3].server.example.org</Job_Id><Job_Name>a</Job_Name>"
    "<job_state>S</job_state><exec_host>node8/0</exec_host></Job>"
    "<Job><Job_Id>10.server</Job_Id><Job_Name>a</Job_Name><job_state>C</job_state></Job>"
    "<Job><Job_Id>8.server</Job_Id><Job_Name>a</Job_Name><job_state>C</job_state>"
    "<exit_status>-11</exit_status></Job>"
    "<Job><Job_Id>9.server</Job_Id><Job_Name>a</Job_Name><job_state>C</job_state>"
    "<exit_status>271</exit_status><resources_used><walltime>00:01:00</walltime></resources_used>"
    "<Resource_List><walltime>00:01:00</walltime></Resource_List></Job></Data>"
)


def test_xml_of_torque() -> None:
    found = TORQUE.parse_status(TORQUE_LISTING)
    assert found["7[1]"] == JobStatus(JobState.RUNNING, "", "node7", name="a <b>")
    assert found["7[2]"] == JobStatus(JobState.QUEUED, "held (H)", name="a")
    assert found["7[3]"] == JobStatus(JobState.RUNNING, "suspended (S)", name="a", node="node8")
    assert found["10"] == JobStatus(JobState.CANCELLED, name="a")
    assert found["8"] == JobStatus(JobState.TIME_LIMIT, "", None, -11, "a")
    assert found["9"].state is JobState.TIME_LIMIT
    assert "7" not in found


SLURM_LISTING = (
    "Job Id:\t1\n\tJob_Name = odd = name\n\tJob_Owner = alice@localhost\n\tjob_state = R\n"
    "\tqueue = debug\n\texec_host = vm/2\n\tPriority = 4294901759\n"
    "\tResource_List.walltime = 00:01:00\n\n"
    "Job Id:\t2\n\tJob_Name = two\n\tjob_state = Q\n\tqueue = debug\n\n"
    "Job Id:\t3\n\tJob_Name = three\n\tjob_state = C\n\texec_host = vm/2\n\n"
    # Held jobs are in state Q, too; a suspended one keeps its node, and what ends is in none.
    "Job Id:\t4\n\tJob_Name = four\n\tjob_state = Q\n\tPriority = 0\n\n"
    "Job Id:\t5\n\tJob_Name = five\n\tjob_state = S\n\texec_host = vm/2\n\n"
    "Job Id:\t6\n\tJob_Name = six\n\tjob_state = U\n\n"
    "Job Id:\t7\n\tJob_Name = seven\n\tjob_state = C\n\n"
    # Long values go on in a line of their own, which may look nearly like an attribute.
    "Job Id:\t8\n\tJob_Name = eight, \n\tno attribute = it\n\tjob_state = R\n\n"
)


def test_text_of_slurm() -> None:
    assert OF_SLURM.parse_status(SLURM_LISTING) == {
        "1": JobStatus(JobState.RUNNING, "", "vm", name="odd = name"),
        "2": JobStatus(JobState.QUEUED, "waiting (Q)", name="two"),
        "3": JobStatus(JobState.COMPLETED, "", "vm", name="three"),
        "4": JobStatus(JobState.QUEUED, "waiting (Q)", name="four"),
        "5": JobStatus(JobState.RUNNING, "suspended (S)", "vm", name="five"),
        "6": JobStatus(JobState.RUNNING, name="six"),
        "7": JobStatus(JobState.CANCELLED, name="seven"),
        "8": JobStatus(JobState.RUNNING, name="eight,no attribute = it"),
    }


class TestSite:
    @pytest.mark.parametrize(
        ("outputs", "version", "array", "jobs"),
        [
            (
                [
                    "pbs_version = 23.06.06\n",
                    "Server pbs\n    max_array_size = 10000\n    max_queued = [u:PBS_GENERIC=50]\n",
                    "",
                ],
                "OpenPBS 23.06.06",
                10000,
                50,
            ),
            (
                ["Version: 6.1.2\nCommit: 661e092\n", "\tmax_job_array_size = 500\n", ""],
                "Torque 6.1.2",
                500,
                None,
            ),
            (
                ["Unknown option: version\nUsage:\n", "", "slurm-wlm 22.05.8\n"],
                "PBS commands of SLURM 22.05.8",
                1,
                None,
            ),
            (["sh: 1: qstat: not found\n", "", ""], "", None, None),
        ],
    )
    def test_is_recognised(
        self, outputs: list[str], version: str, array: int | None, jobs: int | None
    ) -> None:
        limits = PBSScheduler().parse_limits([(0, output) for output in outputs])
        assert (limits.version, limits.max_array_size, limits.max_submitted_jobs) == (
            version,
            array,
            jobs,
        )

    def test_each_is_asked_in_its_own_way(self) -> None:
        assert "qstat -t -f -F json" in OPENPBS.status_command(1)[-1]
        assert "qstat -t -x" in TORQUE.status_command(1)[-1]
        assert OF_SLURM.status_command(1)[-1].startswith("qstat -f;")
