"""PBS's scripts, commands and answers in each of its kinds.

OpenPBS's texts are recorded from version 23.06.06 (names of hosts and users apart), those of
SLURM's commands from slurm-wlm-torque 22.05; Torque's XML is as its server writes it.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from pydantic import ValidationError

from clustrix_prefect import PBSCluster, SGECluster
from clustrix_prefect.errors import InvalidResources, SubmissionRefused
from clustrix_prefect.schedulers.pbs import PBSScheduler
from clustrix_prefect.schedulers.scheduler import (
    JobSpec,
    JobState,
    JobStatus,
    LimitReached,
    LimitScope,
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
        # Torque makes a file for each element of the name that it is given.
        assert "-o /a/run/logs/pbs" in directives(TORQUE, 10)
        assert "-o /dev/null" in directives(TORQUE)
        assert "-o /dev/null" in directives(OPENPBS, 10)
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
        ("code", "output", "remedy"),
        [
            (170, "qsub: Unknown queue\n", "qstat -Q"),
            (
                1,
                "qsub: submit error (Unknown queue MSG=requested queue not found)\n",
                "qstat -Q",
            ),
            (188, "qsub: Job violates queue and/or server resource limits\n", "Ask for less"),
            (173, "qsub: Queue is not enabled\n", "another queue"),
            (174, "qsub: Access to queue is denied\n", "route_destinations"),
            (175, "qsub: Bad UID for job execution\n", "another user"),
            (159, "qsub: Unauthorized Request \n", "open to you"),
            (187, "qsub: Unknown resource Resource_List.nope\n", "resource_list"),
            (187, "qsub: Unknown resource: nope\n", "resource_list"),
            (166, "qsub: Illegal attribute or resource value select.ncpus\n", "resource_list"),
            (
                32,
                "qsub: You must name an account: use -A <project>.\nSee https://example.org\n",
                "account",
            ),
            (
                190,
                "qsub: submit error (Job exceeds queue resource limits MSG=cannot locate feasible"
                " nodes (nodes file is empty, all systems are busy, or no nodes have the requested"
                " feature))\n",
                "until nodes are up",
            ),
        ],
    )
    def test_for_good(self, code: int, output: str, remedy: str) -> None:
        with pytest.raises(SubmissionRefused) as caught:
            OPENPBS.parse_submit(code, "", output)
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
            "qsub: would exceed complex's per-user limit\n",
            "qsub: would exceed queue generic's per-user limit of jobs in 'Q' state\n",
            "qsub: would exceed per-user limit on resource ncpus in queue limres\n",
            "qsub: Maximum number of jobs already in queue limall\n",
            "qsub: submit error (Maximum number of jobs already in queue for user MSG=...)\n",
            # A queue's own limit, which only its administrators can see: less of it may go.
            "qsub: Array job exceeds server or queue size limit\n",
        ],
    )
    def test_more_than_the_site_takes_now(self, output: str) -> None:
        with pytest.raises(TryLater) as caught:
            OPENPBS.parse_submit(38, "", output)
        assert type(caught.value) is LimitReached

    def test_for_now(self) -> None:
        with pytest.raises(TryLater) as caught:
            OPENPBS.parse_submit(
                1, "", "Connection refused\nqsub: cannot connect to server pbs (errno=15010)\n"
            )
        assert type(caught.value) is TryLater

    def test_no_answer(self) -> None:
        with pytest.raises(SubmissionUnclear):
            OPENPBS.parse_submit(1, "", "qsub: End of File\n")


def job(job_id: str, **told: object) -> str:
    """A job as `qstat -f` writes it, with what is not needed left in."""
    attributes = {
        "Job_Name": "sweep", "Job_Owner": "alice@login", "job_state": "R", "queue": "workq",
        "Resource_List.walltime": "00:00:10", "substate": 42, **told,
        "Variable_List": "PBS_O_HOME=/home/alice,PBS_O_LOGNAME=alice,\n\tPBS_O_SYSTEM=Linux",
    }  # fmt: skip
    lines = "".join(f"    {name} = {value}\n" for name, value in attributes.items() if value)
    return f"Job Id: {job_id}.pbs\n{lines}\n"


BEGAN = "Job Array Began at Mon Nov 30 at 05:23"


class TestText:
    @pytest.mark.parametrize(
        ("told", "state", "reason"),
        [
            ({}, JobState.RUNNING, ""),
            ({"job_state": "S"}, JobState.RUNNING, "suspended (S)"),
            ({"job_state": "Q"}, JobState.QUEUED, "waiting (Q)"),
            (
                {
                    "job_state": "Q",
                    "comment": "Not Running: Insufficient amount of resource: ncpus (R: 8 A: 2 T:"
                    "\n\t 8)",
                },
                JobState.QUEUED,
                "Insufficient amount of resource: ncpus (R: 8 A: 2 T: 8)",
            ),
            # An element that waits has the comment of its array.
            ({"job_state": "Q", "comment": BEGAN}, JobState.QUEUED, "waiting (Q)"),
            ({"job_state": "H", "Hold_Types": "u"}, JobState.QUEUED, "held (H)"),
            ({"job_state": "W"}, JobState.QUEUED, "waits for its time (W)"),
            (
                {"job_state": "H", "comment": "job held, too many failed attempts to run"},
                JobState.NOT_STARTED,
                "job held, too many failed attempts to run",
            ),
            ({"job_state": "?"}, JobState.RUNNING, ""),
            ({"job_state": None}, JobState.UNKNOWN, "its state cannot be read"),
        ],
    )
    def test_what_is_under_way(self, told: dict[str, object], state: JobState, reason: str) -> None:
        found = OPENPBS.parse_status(job("7[3]", **told))["7[3]"]
        assert (found.state, found.reason, found.name) == (state, reason, "sweep")

    @pytest.mark.parametrize(
        ("status", "substate", "state", "exit_code"),
        [
            (0, 92, JobState.COMPLETED, 0),
            (3, 93, JobState.FAILED, 3),
            # By qdel: 91, whatever the script made of it.
            (271, 91, JobState.CANCELLED, -15),
            (143, 91, JobState.CANCELLED, -15),
            (265, 91, JobState.CANCELLED, -9),
            # The script's own, and nobody's qdel.
            (137, 93, JobState.FAILED, -9),
            (139, 93, JobState.FAILED, -11),
            (137, 42, JobState.KILLED, -9),
            (267, 42, JobState.FAILED, -11),
            (-29, 93, JobState.TIME_LIMIT, None),
            (-27, 93, JobState.OUT_OF_MEMORY, None),
            # The numbers of job.h: what the node did, and what failed before the job began.
            (-20, 93, JobState.NODE_FAILURE, None),
            (-11, 93, JobState.NODE_FAILURE, None),
            (-14, 93, JobState.NODE_FAILURE, None),
            (-16, 93, JobState.NODE_FAILURE, None),
            (-18, 93, JobState.NODE_FAILURE, None),
            (-1, 93, JobState.NOT_STARTED, None),
            (-10, 93, JobState.NOT_STARTED, None),
            (-21, 93, JobState.NOT_STARTED, None),
            (-24, 93, JobState.FAILED, None),
        ],
    )
    def test_how_it_ended(
        self, status: int, substate: int, state: JobState, exit_code: int | None
    ) -> None:
        told = job(
            "7", job_state="F", exec_host="node7/0*2", substate=substate, Exit_status=str(status)
        )
        found = OPENPBS.parse_details(["7"], told)["7"]
        assert (found.state, found.exit_code, found.node) == (state, exit_code, "node7")

    def test_a_deleted_job_that_waited(self) -> None:
        found = OPENPBS.parse_details(["7"], job("7", job_state="F", substate=91))["7"]
        assert found.state is JobState.CANCELLED

    @pytest.mark.parametrize(
        "of_array",
        [
            {"job_state": "X", "substate": 70},
            {"job_state": "X", "substate": 70, "Exit_status": "1"},
            {"job_state": "F", "substate": 91, "Exit_status": "1"},
            {"job_state": "F", "substate": 93, "Exit_status": "0"},
        ],
    )
    def test_an_element_is_not_judged_by_its_array(self, of_array: dict[str, object]) -> None:
        """Once its record is gone all that is told of it is its array's, but for a comment."""
        told = job("7[1]", comment="Subjob finished", **of_array)
        assert OPENPBS.parse_status(told)["7[1]"] == JobStatus(JobState.ENDED, name="sweep")

    def test_an_array_is_not_a_job_of_its_own(self) -> None:
        listing = job("7[]", job_state="B", comment=BEGAN) + job("7[0]") + job("7[1]")
        found = OPENPBS.parse_status(f"7[].pbs\n9.pbs\n{listing}")
        assert sorted(found) == ["7[0]", "7[1]", "9"]

    def test_what_qselect_names_is_there_whatever_qstat_says(self) -> None:
        found = OPENPBS.parse_status(f"7[].pbs\n8.pbs\n9.pbs\n{job('8')}")
        assert found["8"].state is JobState.RUNNING
        for job_id in ("9", "7[0]", "7[12]"):
            assert job_id in found
            assert found[job_id].state is JobState.UNKNOWN
            assert not found[job_id].state.is_final
        for job_id in ("10", "8[1]", "17[0]"):
            assert job_id not in found

    def test_what_users_put_into_variables_does_no_harm(self) -> None:
        odd = job("7").replace(
            "PBS_O_SYSTEM=Linux", "ALPHA=.5,B=one\ntwo\tthree,C=\x1c\x92</Data>,PBS_O_QUEUE=workq"
        )
        found = OPENPBS.parse_status(f"7.pbs\n8.pbs\n{odd}{job('8', job_state='Q')}")
        assert [found[job_id].state for job_id in ("7", "8")] == [
            JobState.RUNNING,
            JobState.QUEUED,
        ]

    def test_vanished(self) -> None:
        assert not OPENPBS.parse_status("")
        assert OPENPBS.parse_details(["7"], "") == {}  # `qstat -x` without a history

    def test_each_of_many_has_its_own_end(self) -> None:
        assert OPENPBS.details_command(["7[0]", "7[1]"])[-2:] == ["7[0]", "7[1]"]
        told = job("7[1]", job_state="X", substate=93, Exit_status="3", exec_host="n1/0")
        found = OPENPBS.parse_details(["7[0]", "7[1]"], told)
        assert {job_id: status.exit_code for job_id, status in found.items()} == {"7[1]": 3}

    @pytest.mark.parametrize("code", [0, 35, 153])
    def test_the_command(self, tmp_path: Path, code: int) -> None:
        """One that ended meanwhile is no reason not to believe the rest."""
        done = self._status(tmp_path, job("7", exec_host="node7/0") + job("8"), code)
        assert done.returncode == 0
        assert "Variable_List" not in done.stdout
        found = OPENPBS.parse_status(done.stdout)
        assert {job_id: found[job_id].state for job_id in found} == {
            "7": JobState.RUNNING,
            "8": JobState.RUNNING,
            "9": JobState.UNKNOWN,
        }
        assert found["7"].node == "node7"

    def test_a_server_that_does_not_answer(self, tmp_path: Path) -> None:
        assert self._status(tmp_path, "", 111).returncode == 111

    def _status(self, programs: Path, told: str, code: int) -> subprocess.CompletedProcess[str]:
        (programs / "told").write_text(told)
        for name, lines in (
            ("qselect", "printf '7.pbs\\n8.pbs\\n9.pbs\\n'"),
            ("qstat", f"cat {programs}/told; exit {code}"),
        ):
            (programs / name).write_text(f"#!/bin/sh\n{lines}\n")
            (programs / name).chmod(0o755)
        return subprocess.run(
            OPENPBS.status_command(1),
            env={"PATH": f"{programs}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
        )

    def test_what_will_not_start_by_waiting(self) -> None:
        never = "Can Never Run: Insufficient amount of resource: ncpus (R: 80 A: 8 T: 8)"
        assert OPENPBS.never_runs(never)
        assert OPENPBS.never_runs("Insufficient amount of resource: ncpus") is None


# A document for each id, as Torque's qstat writes them.
HEAD = "<?xml version='1.0'?>\n<Data>"
TORQUE_LISTING = (
    "7[1].server.example.org\n7[2].server.example.org\n7[3].server.example.org\n"
    "6.server\n8.server\n9.server\n10.server\n"
    f"{HEAD}<Job><Job_Id>7[1].server.example.org</Job_Id><Job_Name>a &lt;b&gt;-1</Job_Name>"
    "<job_state>R</job_state><exec_host>node7/0+node7/1</exec_host></Job></Data>\n"
    f"{HEAD}<Job><Job_Id>7[2].server.example.org</Job_Id><Job_Name>a-2</Job_Name>"
    "<job_state>H</job_state><Hold_Types>l</Hold_Types></Job></Data>\n"
    f"{HEAD}<Job><Job_Id>7[3].server.example.org</Job_Id><Job_Name>a-3</Job_Name>"
    "<job_state>S</job_state><exec_host>node8/0</exec_host></Job></Data>\n"
    f"{HEAD}<Job><Job_Id>6.server</Job_Id><Variable_List>A=\x01</Variable_List></Job></Data>\n"
    f"{HEAD}<Job><Job_Id>10.server</Job_Id><Job_Name>a-1</Job_Name><job_state>C</job_state></Job>"
    f"</Data>\n{HEAD}<Job><Job_Id>8.server</Job_Id><Job_Name>a</Job_Name><job_state>C</job_state>"
    f"<exit_status>-11</exit_status></Job></Data>\n{HEAD}"
    "<Job><Job_Id>9.server</Job_Id><Job_Name>a</Job_Name><job_state>C</job_state>"
    "<exit_status>271</exit_status><resources_used><walltime>00:01:00</walltime></resources_used>"
    "<Resource_List><walltime>00:01:00</walltime></Resource_List></Job></Data>\n"
)


def test_xml_of_torque() -> None:
    found = TORQUE.parse_status(TORQUE_LISTING)
    # Its elements are named by their array and their index; what we look for is the array's name.
    assert found["7[1]"] == JobStatus(JobState.RUNNING, "", "node7", name="a <b>")
    assert found["7[2]"] == JobStatus(JobState.QUEUED, "its array's limit is reached (H)", name="a")
    assert found["7[3]"] == JobStatus(JobState.RUNNING, "suspended (S)", name="a", node="node8")
    assert found["6"].state is JobState.UNKNOWN
    assert found["10"] == JobStatus(JobState.CANCELLED, name="a-1")
    assert found["8"] == JobStatus(JobState.TIME_LIMIT, name="a")
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
    debug = LimitScope(partition="debug")
    assert dict(OF_SLURM.parse_status(SLURM_LISTING)) == {
        "1": JobStatus(JobState.RUNNING, "", "vm", name="odd = name", placement=debug),
        "2": JobStatus(JobState.QUEUED, "waiting (Q)", name="two", placement=debug),
        "3": JobStatus(JobState.COMPLETED, "", "vm", name="three"),
        "4": JobStatus(JobState.QUEUED, "waiting (Q)", name="four"),
        "5": JobStatus(JobState.RUNNING, "suspended (S)", "vm", name="five"),
        "6": JobStatus(JobState.RUNNING, name="six"),
        "7": JobStatus(JobState.CANCELLED, name="seven"),
        "8": JobStatus(JobState.RUNNING, name="eight, no attribute = it"),
    }


# From `qstat -Qf`.
QUEUES = """Queue: workq
    queue_type = Execution
    enabled = True

Queue: lim
    queue_type = Execution
    state_count = Transit:0 Queued:0 Held:3 Waiting:0 Running:0 Exiting:0 Begun
\t:0
    max_queued = [u:PBS_GENERIC=3]

Queue: limall
    max_queued = [o:PBS_ALL=2]

Queue: limq
    queued_jobs_threshold = [u:PBS_GENERIC=2]

Queue: arrq
    max_array_size = 5
"""


@pytest.mark.parametrize(
    ("queue", "array", "jobs"),
    [(None, 10000, 50), ("lim", 10000, 3), ("limall", 10000, 2), ("limq", 10000, 2),
     ("arrq", 5, 50)],
)  # fmt: skip
def test_limits_of_queues(queue: str | None, array: int, jobs: int) -> None:
    server = "Server pbs\n    max_array_size = 10000\n    max_queued = [u:PBS_GENERIC=50]\n"
    limits = OPENPBS.parse_limits([(0, "pbs_version = 23.06.06\n"), (0, server), (0, QUEUES)])
    placement = OPENPBS.placement_of(Resources.of(partition=queue))
    assert (limits.max_array_size(placement), limits.max_submitted_jobs(placement)) == (array, jobs)


def test_the_queue_of_those_that_name_none() -> None:
    server = "Server pbs\n    default_queue = lim\n"
    limits = OPENPBS.parse_limits([(0, "pbs_version = 1\n"), (0, server), (0, QUEUES)])
    assert limits.max_submitted_jobs(LimitScope()) == 3


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
                ["Unknown option: version\nUsage:\nslurm-wlm 22.05.8\n", "", ""],
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
        assert (limits.version, limits.max_array_size(), limits.max_submitted_jobs()) == (
            version,
            array,
            jobs,
        )

    def test_each_is_asked_in_its_own_way(self) -> None:
        assert "qstat -t -f $ids" in OPENPBS.status_command(1)[2]
        assert "qstat -t -x $ids" in TORQUE.status_command(1)[2]
        assert OF_SLURM.status_command(1)[2].startswith("qstat -f;")
        for site in (OPENPBS, TORQUE, OF_SLURM):
            assert site.status_command(1)[3] == "qstat"  # which has to be found


@pytest.mark.parametrize(
    ("told", "asked"),
    [
        ("pbs_version = 23.06.06", False),
        ("Version: 6.1.2", False),
        ("SGE 8.1.9", False),
        ("Unknown option: version", True),
    ],
)
def test_only_slurms_qstat_has_slurm_asked(told: str, asked: bool, tmp_path: Path) -> None:
    """A SLURM that is installed and not configured takes a minute to say nothing."""
    for name, line in (("qstat", told), ("sinfo", "slurm 22.05.8")):
        program = tmp_path / name
        program.write_text(f"#!/bin/sh\necho '{line}' >&2\n")
        program.chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    version = PBSScheduler().limits_commands()[0]
    done = subprocess.run(version, env={"PATH": path}, capture_output=True, text=True, check=True)
    assert ("slurm" in done.stderr) is asked
    assert told in done.stdout
