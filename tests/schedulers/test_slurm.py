"""SLURM's texts: what we write, and what version 22.05 was heard to answer."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest

from clustrix_prefect.errors import SubmissionRefused
from clustrix_prefect.schedulers.scheduler import (
    WORKER_NOT_STARTED,
    JobSpec,
    JobState,
    JobStatus,
    LimitReached,
    LimitScope,
    SubmissionUnclear,
    TryLater,
)
from clustrix_prefect.schedulers.slurm import SlurmScheduler
from clustrix_prefect.task_resources import Resources

SLURM = SlurmScheduler()
FAILED = "sbatch: error: Batch job submission failed"
POLICY = "Job violates accounting/QOS policy (job submit limit, user's size and/or time limits)"


def spec(**changes: object) -> JobSpec:
    values: dict[str, object] = {
        "name": "fit-1a2b3c",
        "resources": Resources(),
        "array_size": None,
        "directory": "/scratch/alice/runs/r/b",
        "command": ["/usr/bin/python3", "/scratch/alice/worker.py", "--batch", "x y"],
    }
    return JobSpec(**{**values, **changes})  # type: ignore[arg-type]


def directives(scheduler: SlurmScheduler = SLURM, **changes: object) -> list[str]:
    lines = scheduler.job_script(spec(**changes)).splitlines()
    return [line.removeprefix("#SBATCH ") for line in lines if line.startswith("#SBATCH ")]


class TestScript:
    def test_a_plain_one_in_full(self) -> None:
        assert SLURM.job_script(spec()) == (
            "#!/bin/sh\n"
            "#SBATCH --job-name=fit-1a2b3c\n"
            "#SBATCH --output=/scratch/alice/runs/r/b/logs/0.out\n"
            "#SBATCH --error=/scratch/alice/runs/r/b/logs/0.err\n"
            "#SBATCH --no-requeue\n"
            "\n"
            'export CLUSTRIX_PREFECT_JOB="$SLURM_JOB_ID"\n'
            "command -v /usr/bin/python3 > /dev/null || {\n"
            f'  echo "{WORKER_NOT_STARTED}: $(hostname) has no" /usr/bin/python3 >&2\n'
            "  exit 127\n"
            "}\n"
            "exec /usr/bin/python3 /scratch/alice/worker.py --batch 'x y'\n"
        )

    @pytest.mark.parametrize(
        ("resources", "expected"),
        [
            ({"cores": 4}, "--cpus-per-task=4"),
            ({"memory": "8GB"}, "--mem=8192M"),
            ({"memory": 1024**2 + 1}, "--mem=2M"),
            ({"time": "00:30:00"}, "--time=00:30:00"),
            ({"time": 61}, "--time=00:02:00"),
            ({"time": "2-03:00:00"}, "--time=2-03:00:00"),
            ({"gpus": 2}, "--gres=gpu:2"),
            ({"gpus": "a100:2"}, "--gres=gpu:a100:2"),
            ({"nodes": 2}, "--nodes=2"),
            ({"tasks_per_node": 8}, "--ntasks-per-node=8"),
            ({"partition": "short"}, "--partition=short"),
            ({"account": "lab42"}, "--account=lab42"),
            ({"qos": "high"}, "--qos=high"),
            ({"constraint": "skylake&ib"}, "--constraint='skylake&ib'"),
            ({"signal_before_end": 90}, "--signal=B:USR1@90"),
        ],
    )
    def test_resources(self, resources: dict[str, object], expected: str) -> None:
        assert expected in directives(resources=Resources.of(**resources))

    def test_no_gpus_is_no_directive(self) -> None:
        assert not any("gres" in line for line in directives(resources=Resources.of(gpus=0)))

    def test_an_array_and_its_throttle(self) -> None:
        lines = directives(array_size=200, resources=Resources.of(max_parallel_jobs=50))
        assert "--array=0-199%50" in lines
        assert "--output=/scratch/alice/runs/r/b/logs/%a.out" in lines

    def test_a_percent_sign_in_the_directory_is_not_a_placeholder(self) -> None:
        assert "--error='/a %%j/logs/%a.err'" in directives(array_size=2, directory="/a %j")

    def test_the_cluster_fills_in_what_the_call_leaves_out(self) -> None:
        cluster = SlurmScheduler(partition="long", account="lab", qos="low")
        lines = directives(cluster, resources=Resources.of(partition="short"))
        assert {"--partition=short", "--account=lab", "--qos=low"} <= set(lines)

    def test_extra_directives_replace_ours(self) -> None:
        cluster = SlurmScheduler(extra_directives=["--exclusive", "#SBATCH --mem 0"])
        lines = directives(cluster, resources=Resources.of(memory="1GB"))
        assert lines[-2:] == ["--exclusive", "--mem 0"]
        assert not any(line.startswith("--mem=") for line in lines)

    def test_skipped_directives_are_left_out(self) -> None:
        cluster = SlurmScheduler(skip_directives=["--mem", "--no-requeue"])
        lines = directives(cluster, resources=Resources.of(memory="1GB", cores=2))
        assert not any(line.startswith(("--mem", "--no-requeue")) for line in lines)
        assert "--cpus-per-task=2" in lines

    def test_with_a_prologue_it_is_a_login_shell_that_knows_module(self) -> None:
        lines = SLURM.job_script(spec(prologue=["module load python/3.11"])).splitlines()
        assert lines[0] == "#!/bin/bash -l"
        assert "module load python/3.11" in lines

    def test_it_runs(self, tmp_path: Path) -> None:
        script = SLURM.job_script(
            spec(
                environment={"GREETING": 'it\'s $HOME; "`x`"\nand more'},
                prologue=["export EXTRA=set"],
                command=["python3", "-c", "import os; print(os.environ['GREETING'])"],
            )
        )
        done = subprocess.run(["bash"], input=script, capture_output=True, text=True, check=True)
        assert done.stdout == 'it\'s $HOME; "`x`"\nand more\n'

    def test_without_python_it_says_so(self) -> None:
        script = SLURM.job_script(spec(command=["/no such/python", "worker.py"]))
        done = subprocess.run(["sh"], input=script, capture_output=True, text=True)
        assert done.returncode == 127
        assert WORKER_NOT_STARTED in done.stderr
        assert "/no such/python" in done.stderr


class TestSubmitting:
    def test_command(self) -> None:
        command = SLURM.submit_command("/a/script.sh", spec())
        assert command[-2:] == ["--parsable", "/a/script.sh"]
        assert command[3] == "sbatch"  # which has to be found: see `commands.run`

    def test_variables_that_change_what_a_call_is_are_not_passed_on(self, tmp_path: Path) -> None:
        program = tmp_path / "sbatch"
        program.write_text('#!/bin/sh\nenv | grep -E "^(SBATCH|SLURM|OTHER)_"\necho "$@"\n')
        program.chmod(0o755)
        environment = {
            "PATH": f"{tmp_path}:/usr/bin:/bin",
            "SBATCH_ARRAY_INX": "0-3",
            "SBATCH_WAIT": "1",
            "SBATCH_TIMELIMIT": "1",
            "SBATCH_ACCOUNT": "of the login",
            "SBATCH_PARTITION": "long",
            "SBATCH_RESERVATION": "course",
            "SLURM_MEM_PER_CPU": "300",
            "SLURM_JOB_ID": "7",
            "SLURM_CONF": "/etc/slurm.conf",
            "OTHER_ONE": "two\nSLURM_lines",
        }
        site = SlurmScheduler(partition="short")
        command = site.submit_command("/a b/script.sh", spec())
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, check=True
        ).stdout.splitlines()
        assert sorted(done) == [
            "--parsable /a b/script.sh",
            "OTHER_ONE=two",
            "SBATCH_ACCOUNT=of the login",
            "SBATCH_RESERVATION=course",
            "SLURM_CONF=/etc/slurm.conf",
            "SLURM_lines",
        ]

    @pytest.mark.parametrize("memory", ["--mem-per-cpu=150", "--mem-per-gpu=1G"])
    def test_memory_is_asked_for_in_one_way(self, memory: str) -> None:
        site = SlurmScheduler(extra_directives=[memory])
        lines = directives(site, resources=Resources.of(memory="1GB"))
        assert memory in lines
        assert not any(line.startswith("--mem=") for line in lines)

    @pytest.mark.parametrize(
        "stdout",
        [
            "123\n",
            "123;cluster\n",
            "Welcome to the site's plug-in\n123\n",
            "Submitted batch job 123\n",
            "Submitted batch job 123 on cluster big\n",
            "42\nSubmitted batch job 123\n7 hours left\n",
        ],
    )
    def test_accepted(self, stdout: str) -> None:
        assert SLURM.parse_submit(0, stdout, "sbatch: a word of warning\n") == "123"

    @pytest.mark.parametrize("stdout", ["", "Welcome\n", "123\n45\n"])
    def test_accepted_without_saying_which(self, stdout: str) -> None:
        """It is looked for by its name: a number that is no id would be somebody else's."""
        with pytest.raises(SubmissionUnclear):
            SLURM.parse_submit(0, stdout, "")

    @pytest.mark.parametrize(
        ("stderr", "remedy"),
        [
            (
                "sbatch: error: invalid partition specified: nope\n"
                "sbatch: error: Batch job submission failed: Invalid partition name specified\n",
                "sinfo",
            ),
            (
                "sbatch: error: Memory specification can not be satisfied\n"
                "sbatch: error: Batch job submission failed: Requested node configuration is not "
                "available\n",
                'skip_directives=["--mem"]',
            ),
            (
                "sbatch: error: Batch job submission failed: Invalid job array specification\n",
                "max_array_size",
            ),
            ("sbatch: error: Invalid generic resource (gres) specification\n", "sinfo -o %G"),
            (
                "sbatch: error: Batch job submission failed: Invalid feature specification\n",
                "constraint",
            ),
            (
                "sbatch: error: Batch job submission failed: Requested time limit is invalid "
                "(missing or exceeds some limit)\n",
                "resources(time=...)",
            ),
            (
                "sbatch: error: Batch job submission failed: More processors requested than "
                "permitted\n",
                "fewer cores",
            ),
            (
                "sbatch: error: Batch job submission failed: Node count specification invalid\n",
                "fewer nodes",
            ),
            (
                "sbatch: error: Batch job submission failed: Required partition not available "
                "(inactive or drain)\n",
                "another partition",
            ),
            (
                "sbatch: error: Batch job submission failed: User's group not permitted to use "
                "this partition\n",
                "open to you",
            ),
            (
                "sbatch: unrecognized option '--foo'\nTry \"sbatch --help\" for more information\n",
                "extra_directives",
            ),
            (
                "sbatch: error: Batch job submission failed: Invalid account or account/partition "
                "combination specified\n",
                "sacctmgr show assoc",
            ),
            ("sbatch: error: Batch job submission failed: Invalid qos specification\n", "qos"),
            (
                "sbatch: error: QOSMaxCpuPerJobLimit\nsbatch: error: Batch job submission failed: "
                "Job violates accounting/QOS policy (job submit limit, user's size and/or time "
                "limits)\n",
                "Ask for less",
            ),
            ("sbatch: error: the site's own rule\n", "job_script()"),
        ],
    )
    def test_refused_for_good(self, stderr: str, remedy: str) -> None:
        with pytest.raises(SubmissionRefused) as caught:
            SLURM.parse_submit(1, "", stderr)
        last = stderr.splitlines()[-1].rpartition(": ")[2]
        assert last.strip().rstrip(".")[:40] in caught.value.what
        assert "sbatch: error" not in caught.value.what
        assert remedy in caught.value.remedy

    @pytest.mark.parametrize(
        ("returncode", "stderr"),
        [
            (1, f"sbatch: error: QOSMaxSubmitJobPerUserLimit\n{FAILED}: {POLICY}\n"),
            (1, "sbatch: error: AssocMaxSubmitJobLimit\nsbatch: error: Batch job submission ..."),
            (1, "sbatch: error: AssocGrpSubmitJobsLimit\nsbatch: error: Batch job submission ..."),
            (1, f"{FAILED}: {POLICY}\n"),
            (1, f"{FAILED}: MaxJobCount limit reached\n"),
            (124, f"{FAILED}: Slurm temporarily unable to accept job, sleeping and retrying\n"),
        ],
    )
    def test_more_than_the_site_takes_now(self, returncode: int, stderr: str) -> None:
        with pytest.raises(TryLater) as caught:
            SLURM.parse_submit(returncode, "", stderr)
        assert type(caught.value) is LimitReached

    # The texts of slurm_errno.c, of versions 20.11 to 26.11.
    @pytest.mark.parametrize(
        "said",
        [
            "Unable to contact slurm controller (connect failure)",
            "Rate limit exceeded, please retry later",
            "Protocol authentication error",
            "Munge encode failed: Failed to access socket",
            "Controller is in standby mode, try a different controller",
            "Slurm backup controller in standby mode",
            "Communication connection failure",
            "Connection rejected by handler",
            "Connection forced closed by quiesce timeout",
            "Process is shutting down and closing all communications",
            "Unable to connect to database",
            "Job can not be altered now, try again later",
            "Requested partition configuration not available now",
        ],
    )
    def test_refused_for_now(self, said: str) -> None:
        with pytest.raises(TryLater) as caught:
            SLURM.parse_submit(1, "", f"{FAILED}: {said}\n")
        assert type(caught.value) is TryLater

    @pytest.mark.parametrize(
        ("returncode", "stderr"),
        [
            (
                1,
                "sbatch: error: Batch job submission failed: Socket timed out on send/recv "
                "operation\n",
            ),
            (1, "sbatch: error: Batch job submission failed: Message send failure\n"),
            (1, "sbatch: error: Batch job submission failed: Communication shutdown failure\n"),
            (124, ""),
        ],
    )
    def test_not_answered(self, returncode: int, stderr: str) -> None:
        with pytest.raises(SubmissionUnclear):
            SLURM.parse_submit(returncode, "", stderr)


class TestStatus:
    LISTING = (
        "5|CANCELLED||PartitionConfig|debug|lab|normal|wrap\n"
        "38|CANCELLED||JobHeldUser|debug|lab|normal|wrap\n"
        "1|COMPLETED|vm|None|debug|lab|normal|wrap\n"
        "4|FAILED||BadConstraints|debug|lab|normal|wrap\n"
        "33|FAILED|vm|JobLaunchFailure|debug|lab|normal|wrap\n"
        "45_0|NODE_FAIL|vm|NodeDown|debug|lab|normal|fit-1\n"
        "48|PREEMPTED|vm|None|debug|lab|normal|big\n"
        "51|TIMEOUT|vm|TimeLimit|debug|lab|normal|slow\n"
        "10_[2-9%2]|PENDING||JobArrayTaskLimit|debug|lab|normal|wrap\n"
        "10_0|RUNNING|n[1-2]|None|debug|lab|normal|wrap\n"
        "10_1|COMPLETING|vm|None|debug|lab|normal|wrap\n"
        "42_1|SUSPENDED|vm|None|debug|lab|normal|wrap\n"
        "50_[0,2,4,6,8%3]|PENDING||JobHeldUser|debug|lab|normal|odd|name x\n"
        "30_[0-994:7]|PENDING||Priority|debug|lab|normal|wrap\n"
        "40_[0-2,5-9]|CANCELLED||JobHeldUser|debug|lab|normal|wrap\n"
    )

    @pytest.mark.parametrize(
        ("element", "state", "reason", "node"),
        [
            ("1", JobState.COMPLETED, "", "vm"),
            ("4", JobState.FAILED, "BadConstraints", None),
            ("33", JobState.FAILED, "JobLaunchFailure", "vm"),
            ("45_0", JobState.NODE_FAILURE, "NodeDown", "vm"),
            ("48", JobState.PREEMPTED, "", "vm"),
            ("51", JobState.TIME_LIMIT, "TimeLimit", "vm"),
            ("10_0", JobState.RUNNING, "", "n[1-2]"),
            ("10_1", JobState.ENDING, "", "vm"),
            ("10_2", JobState.QUEUED, "JobArrayTaskLimit", None),
            ("10_9", JobState.QUEUED, "JobArrayTaskLimit", None),
            ("42_1", JobState.RUNNING, "", "vm"),
            ("50_8", JobState.QUEUED, "JobHeldUser", None),
            ("30_994", JobState.QUEUED, "Priority", None),
            ("40_1", JobState.CANCELLED, "JobHeldUser", None),
            ("38_7", JobState.CANCELLED, "JobHeldUser", None),
        ],
    )
    def test_every_form(self, element: str, state: JobState, reason: str, node: str | None) -> None:
        found = SLURM.parse_status(self.LISTING)[element]
        assert (found.state, found.reason, found.node) == (state, reason, node)

    @pytest.mark.parametrize("element", ["10_10", "50_3", "40_3", "30_8", "1_0", "99", "4_", ""])
    def test_what_is_not_listed_is_not_known(self, element: str) -> None:
        statuses = SLURM.parse_status(self.LISTING)
        assert element not in statuses or element == "1_0"
        assert statuses.get("99") is None

    def test_a_name_may_hold_the_separator(self) -> None:
        assert SLURM.parse_status(self.LISTING)["50_0"].name == "odd|name x"

    def test_all_of_them_can_be_gone_through(self) -> None:
        statuses = SLURM.parse_status(
            "10_[2-4]|PENDING||None|d|l|q|a\n10_0|RUNNING|vm|None|d|l|q|a\n"
        )
        assert sorted(statuses) == ["10_0", "10_2", "10_3", "10_4"]
        assert len(statuses) == 4

    def test_lines_that_are_not_ours_do_no_harm(self) -> None:
        assert not SLURM.parse_status("squeue: warning\n\n")

    @pytest.mark.parametrize(
        ("word", "state"),
        [
            ("CONFIGURING", JobState.QUEUED),
            ("EXPEDITING", JobState.QUEUED),
            ("REQUEUED", JobState.QUEUED),
            ("REQUEUE_HOLD", JobState.QUEUED),
            ("SPECIAL_EXIT", JobState.QUEUED),
            ("STOPPED", JobState.RUNNING),
            ("STAGE_OUT", JobState.RUNNING),
            ("BOOT_FAIL", JobState.NODE_FAILURE),
            ("DEADLINE", JobState.TIME_LIMIT),
            ("OUT_OF_MEMORY", JobState.OUT_OF_MEMORY),
            ("REVOKED", JobState.CANCELLED),
        ],
    )
    def test_states(self, word: str, state: JobState) -> None:
        assert SLURM.parse_status(f"7|{word}|vm|None|d|l|q|x\n")["7"].state is state

    def test_a_state_from_the_future_ends_no_call(self) -> None:
        status = SLURM.parse_status("7|TELEPORTING|vm|None|d|l|q|x\n")["7"]
        assert not status.state.is_final
        assert status.reason == "TELEPORTING"

    def test_the_command_asks_for_one_users_jobs_with_whole_index_lists(self) -> None:
        command = SLURM.status_command(1001)
        assert command[:3] == ["env", "SLURM_BITSTR_LEN=0", "squeue"]
        assert "--user=1001" in command
        assert "--states=all" in command

    def test_a_range_is_not_spelled_out(self) -> None:
        # More elements than any memory holds, were each noted by itself.
        last = 10**12
        statuses = SLURM.parse_status(f"11_[0-{last}]|PENDING||Priority|d|l|q|wrap\n")
        assert statuses[f"11_{last}"].state is JobState.QUEUED
        assert f"11_{last + 1}" not in statuses


def end_of(job_id: str, details: str) -> JobStatus | None:
    return SLURM.parse_details([job_id], details).get(job_id)


class TestDetails:
    TIMEOUT = (
        "JobId=51 JobName=slow\n"
        "   UserId=alice(1001) GroupId=alice(1001) MCS_label=N/A\n"
        "   Priority=4294901750 Nice=0 Account=(null) QOS=(null)\n"
        "   JobState=TIMEOUT Reason=TimeLimit Dependency=(null)\n"
        "   Requeue=0 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:15\n"
        "   RunTime=00:01:01 TimeLimit=00:01:00 TimeMin=N/A\n"
        "   ReqNodeList=(null) ExcNodeList=(null)\n"
        "   NodeList=vm\n"
        "   BatchHost=vm\n"
    )
    PENDING = (
        "JobId=10 ArrayJobId=10 ArrayTaskId=2-9%2 ArrayTaskThrottle=2 JobName=wrap\n"
        "   JobState=PENDING Reason=ReqNodeNotAvail,_May_be_reserved Dependency=(null)\n"
        "   Requeue=1 Restarts=0 BatchFlag=1 Reboot=0 ExitCode=0:0\n"
        "   ReqNodeList=(null) ExcNodeList=(null)\n"
        "   NodeList=\n"
    )

    def test_a_job_that_ran_out_of_time(self) -> None:
        assert end_of("51", self.TIMEOUT) == JobStatus(
            JobState.TIME_LIMIT, "TimeLimit", "vm", -15, "slow"
        )

    def test_a_job_that_failed(self) -> None:
        text = self.TIMEOUT.replace("TIMEOUT", "FAILED").replace("0:15", "3:0")
        text = text.replace("TimeLimit ", "NonZeroExitCode ")
        assert end_of("51", text) == JobStatus(JobState.FAILED, "NonZeroExitCode", "vm", 3, "slow")

    def test_an_element_that_waits(self) -> None:
        assert end_of("10_7", self.PENDING) == JobStatus(
            JobState.QUEUED, "ReqNodeNotAvail,_May_be_reserved", None, 0, "wrap"
        )

    @pytest.mark.parametrize(
        ("reason", "code", "state", "exit_code"),
        [
            ("TimeLimit", "0:15", JobState.TIME_LIMIT, -15),
            ("NonZeroExitCode", "3:0", JobState.FAILED, 3),
            ("None", "3:0", JobState.FAILED, 3),
            ("OutOfMemory", "0:125", JobState.OUT_OF_MEMORY, None),
            ("None", "0:0", JobState.ENDING, 0),
        ],
    )
    def test_how_it_ended_is_known_before_its_epilog_has(
        self, reason: str, code: str, state: JobState, exit_code: int | None
    ) -> None:
        text = self.TIMEOUT.replace("TIMEOUT", "COMPLETING").replace("0:15", code)
        found = end_of("51", text.replace("Reason=TimeLimit", f"Reason={reason}"))
        assert found is not None
        assert (found.state, found.exit_code) == (state, exit_code)

    def test_a_prolog_that_fails_is_its_nodes(self) -> None:
        # slurmd kills what it may not requeue, as root, with an error's number for a signal.
        text = self.TIMEOUT.replace("TIMEOUT", "CANCELLED").replace("0:15", "0:54")
        for details in (
            text.replace("Reason=TimeLimit", "Reason=None"),
            "51|CANCELLED by 0|0:54|node1\n",
        ):
            found = end_of("51", details)
            assert found is not None
            assert found.state is JobState.NODE_FAILURE
            assert found.exit_code is None
            assert "Prolog" in found.reason

    def test_newer_releases_tell_of_a_prolog_only_by_the_nodes_reason(self) -> None:
        text = self.TIMEOUT.replace("TIMEOUT", "CANCELLED").replace("0:15", "0:0")
        text = text.replace("Reason=TimeLimit", "Reason=None") + "51|CANCELLED by 0|0:0|vm\n"
        found = end_of("51", f"{text}NodeReason=vm Prolog error\n")
        assert found is not None
        assert found.state is JobState.NODE_FAILURE
        found = end_of("51", f"{text}NodeReason=vm none\n")
        assert found is not None
        assert (found.state, found.reason) == (JobState.CANCELLED, "by 0")

    @pytest.mark.parametrize(
        ("line", "status"),
        [
            ("FAILED|3:0|n1", JobStatus(JobState.FAILED, "", "n1", 3)),
            ("TIMEOUT|0:0|n[1-2]", JobStatus(JobState.TIME_LIMIT, "", "n[1-2]", 0)),
            ("CANCELLED by 1002|0:15|n1", JobStatus(JobState.CANCELLED, "by 1002", "n1", -15)),
            ("CANCELLED by 7|0:0|None assigned", JobStatus(JobState.CANCELLED, "by 7", None, 0)),
            ("OUT_OF_MEMORY|0:125|n1", JobStatus(JobState.OUT_OF_MEMORY, "", "n1", None)),
            ("NODE_FAIL|1:0|n1", JobStatus(JobState.NODE_FAILURE, "", "n1", 1)),
            ("COMPLETED|0:0|n1", JobStatus(JobState.COMPLETED, "", "n1", 0)),
        ],
    )
    def test_what_only_the_accounting_knows(self, line: str, status: JobStatus) -> None:
        assert end_of("9_3", f"9_3|{line}\n") == status

    def test_who_cancelled_it(self) -> None:
        text = self.TIMEOUT.replace("TIMEOUT", "CANCELLED").replace("=TimeLimit ", "=None ")
        found = end_of("51", f"{text}\n51|CANCELLED by 1002|0:15|vm\n")
        assert found == JobStatus(JobState.CANCELLED, "by 1002", "vm", -15, "slow")

    def test_both_are_asked(self, tmp_path: Path) -> None:
        for name, lines in (
            ("scontrol", 'echo "no $*" >&2; exit 1'),
            ("sacct", 'echo "5163_2|FAILED|3:0|n1"'),
        ):
            (tmp_path / name).write_text(f"#!/bin/sh\n{lines}\n")
            (tmp_path / name).chmod(0o755)
        done = subprocess.run(
            SLURM.details_command(["5163_2"]),
            env={"PATH": f"{tmp_path}:/usr/bin:/bin"},
            capture_output=True,
            text=True,
            check=True,
        )
        assert end_of("5163_2", done.stdout) == JobStatus(JobState.FAILED, "", "n1", 3)

    @pytest.mark.parametrize(
        "stdout", ["", "Job 50_3 not found\n", TIMEOUT, "50_30|FAILED|3:0|n1\n"]
    )
    def test_a_job_that_is_forgotten(self, stdout: str) -> None:
        assert end_of("50_3", stdout) is None

    def test_many_elements_are_asked_for_as_their_array(self) -> None:
        few = ["7_1", "7_2", "9"]
        assert SLURM.details_command(few)[4:] == ["7_1,7_2,9", *few]
        many = [f"7_{index}" for index in range(1000)]
        assert SLURM.details_command(["6_5", *many])[4:] == ["6_5,7", "6_5", "7"]

    def test_each_job_of_many_has_its_own_end(self) -> None:
        def element(index: str, state: str, code: str, node: str) -> str:
            text = self.TIMEOUT.replace("TIMEOUT", state).replace("=TimeLimit", "=None")
            text = text.replace("0:15", code).replace("=vm", f"={node}")
            array = f"JobId=5{index[0]} ArrayJobId=50 ArrayTaskId={index} JobName=sweep"
            return text.replace("JobId=51 JobName=slow", array)

        told = "\n".join(
            [
                element("4-6,9", "PENDING", "0:0", ""),
                element("3", "FAILED", "3:0", "n1"),
                element("2", "CANCELLED", "0:0", "n[07-09,12]"),
                element("1", "CANCELLED", "0:0", "n2"),
                element("0", "COMPLETED", "0:0", "n1"),
                self.TIMEOUT,
            ]
        )
        accounted = "50_1|CANCELLED by 7|0:0|n2\n50_8|NODE_FAIL|1:0|n1\n50_[4-6]|PENDING|0:0|\n"
        nodes = "NodeReason=n08 Prolog error\nNodeReason=n2 none\n"
        ids = [*(f"50_{index}" for index in range(10)), "51", "52"]
        found = SLURM.parse_details(ids, told + accounted + nodes)
        assert {job: (status.state, status.exit_code) for job, status in found.items()} == {
            "50_0": (JobState.COMPLETED, 0),
            "50_1": (JobState.CANCELLED, 0),
            "50_2": (JobState.NODE_FAILURE, None),
            "50_3": (JobState.FAILED, 3),
            **{f"50_{index}": (JobState.QUEUED, 0) for index in (4, 5, 6, 9)},
            "50_8": (JobState.NODE_FAILURE, 1),
            "51": (JobState.TIME_LIMIT, -15),
        }
        assert found["50_1"].reason == "by 7"


class TestCancelling:
    def test_elements_are_folded(self) -> None:
        ids = ["12", "10_0", "10_1", "10_2", "10_7", "11_3"]
        assert SLURM.cancel_command(ids) == ["scancel", "12", "10_[0-2,7]", "11_[3]"]

    def test_what_runs_is_asked_to_end_and_then_made_to(self) -> None:
        term = ["scancel", "--signal=TERM", "--full", "10_[0-1]"]
        kill = ["scancel", "--signal=KILL", "--batch", "10_[0-1]"]
        assert SLURM.signal_command(["10_0", "10_1"], "TERM") == term
        assert SLURM.signal_command(["10_0", "10_1"], "KILL") == kill

    def test_a_large_array_fits_into_a_command_line(self) -> None:
        ids = [SLURM.element_id("10", index) for index in range(0, 10_000, 2)]
        assert len(" ".join(SLURM.cancel_command(ids))) < 100_000


class TestLimits:
    CONFIG = (
        "Configuration data as of 2026-11-23T17:58:19\n"
        "MaxArraySize            = 1001\n"
        "MaxDBDMsgs              = 0\n"
        "MaxJobCount             = 50000\n"
        "MaxMemPerNode           = UNLIMITED\n"
        "SLURM_VERSION           = 22.05.8\n"
        "\nSlurmctld(primary) at vm is UP\n"
    )

    # One accounting serves two clusters; the user has two accounts here, one of them tight.
    USERS = (
        "lab42\n--\n"
        "test|lab42||||normal\n"
        "test|tight||30|||\n"
        "test|lab42|gpu|7||\n"
        "other|lab42||2||\n"
        "--\nnormal|||\nsmall|20||400\n"
    )

    def test_without_accounting(self) -> None:
        found = SLURM.parse_limits([(0, self.CONFIG), (1, "")])
        assert (found.max_array_size(), found.max_submitted_jobs()) == (1001, 49_999)
        assert found.version == "SLURM 22.05.8"

    @pytest.mark.parametrize(
        ("placement", "most", "names"),
        [
            (LimitScope(), 49_999, ["MaxJobCount"]),
            (LimitScope(account="lab42"), 49_999, ["MaxJobCount"]),
            (
                LimitScope(account="tight"),
                30,
                ["MaxJobCount", "MaxSubmitJobs of the account tight"],
            ),
            (
                LimitScope(partition="gpu"),
                7,
                ["MaxJobCount", "MaxSubmitJobs of the account lab42 in the partition gpu"],
            ),
            (
                LimitScope(qos="small"),
                20,
                [
                    "MaxJobCount",
                    "MaxSubmitJobsPerUser of the QOS small",
                    "GrpSubmitJobs of the QOS small",
                ],
            ),
        ],
    )
    def test_each_counts_for_what_it_is_about(
        self, placement: LimitScope, most: int, names: list[str]
    ) -> None:
        config = f"{self.CONFIG}ClusterName             = test\n"
        found = SLURM.parse_limits([(0, config), (0, self.USERS)])
        assert found.max_submitted_jobs(placement) == most
        named = [each.name for each in found.on(placement) if each.max_submitted_jobs]
        assert named == names

    def test_what_a_call_asks_for_says_where_it_goes(self) -> None:
        site = SlurmScheduler(account="lab", extra_directives=["#SBATCH -q small --nice"])
        placement = site.placement_of(Resources.of(partition="p", account="other"))
        assert placement == LimitScope("p", "other", "small")

    def test_of_a_site_that_says_nothing(self) -> None:
        found = SLURM.parse_limits([(1, ""), (127, "")])
        assert (found.version, found.on(LimitScope())) == ("", [])

    def test_there_is_an_output_for_each_command(self) -> None:
        assert len(SLURM.limits_commands()) == 2


@pytest.mark.parametrize(
    "reason",
    [
        "PartitionConfig", "PartitionTimeLimit", "PartitionNodeLimit", "PartitionDown",
        "BadConstraints", "AssocMaxCpuPerJobLimit", "QOSMaxCpuPerJobLimit", "InvalidQOS",
        "AssocMaxWallDurationPerJobLimit", "QOSMaxMemoryPerJob", "QOSMaxNodePerJobLimit",
        "JobHeldAdmin", "DependencyNeverSatisfied",
    ],
)  # fmt: skip
def test_what_will_not_start_by_waiting(reason: str) -> None:
    assert SLURM.never_runs(reason)


@pytest.mark.parametrize(
    "reason",
    ["Priority", "Resources", "QOSMaxJobsPerUserLimit", "AssocGrpCpuLimit", "JobHeldUser", "",
     "QOSMaxCpuPerUserLimit", "AssocMaxJobsLimit", "BeginTime", "JobArrayTaskLimit"],
)  # fmt: skip
def test_what_may_start_by_waiting(reason: str) -> None:
    assert SLURM.never_runs(reason) is None


@pytest.mark.parametrize(
    ("reason", "words"),
    [
        ("Priority", "Priority: other jobs go first"),
        ("ReqNodeNotAvail, UnavailableNodes:n1", "a node that it needs is down"),
        ("QOSMaxJobsPerUserLimit", "a limit of the QoS is used up"),
        ("AssocGrpCpuLimit", "a limit of the account is used up"),
        ("SomethingNew", "SomethingNew"),
        ("", ""),
    ],
)
def test_why_a_job_waits_in_words(reason: str, words: str) -> None:
    told = SLURM.in_words(reason)
    assert told.startswith(reason)
    assert words in told
