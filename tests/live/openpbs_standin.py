"""Stands in for OpenPBS's commands, and answers as version 23.06.06 does: `NAME arguments...`.

Run as qsub, qstat, qselect, qdel, qrerun or qmgr by the names in `openpbs.py`. The queue is a
file that all of them lock; each job that runs has a process that watches it, as pbs_mom does.
"""

import contextlib
import fcntl
import getpass
import json
import os
import re
import shlex
import signal
import subprocess
import sys
import time

HOME = os.environ["OPENPBS_STANDIN"]
STATE = os.path.join(HOME, "state.json")
SERVER = "pbs"
UNKNOWN_JOB, FINISHED_JOB, UNKNOWN_QUEUE, LIMIT, VIOLATES = 153, 35, 170, 38, 188
NOT_RERUNNABLE, BAD_STATE = 184, 168
KILL_DELAY = 2.0
QUEUES = ("workq", "short", "lim")
LIMIT_OF_QUEUE = {"lim": 3}
BEGAN = "Job Array Began at Mon Nov 30 at 05:23"


@contextlib.contextmanager
def server():
    """The server's state, locked, and written back; jobs that fit are started."""
    with open(os.path.join(HOME, "lock"), "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        with open(STATE) as file:
            before = file.read()
        state = json.loads(before)
        yield state
        run_what_fits(state)
        after = json.dumps(state)
        if after != before:
            with open(STATE + ".new", "w") as file:
                file.write(after)
            os.rename(STATE + ".new", STATE)


def run_what_fits(state):
    jobs = state["jobs"]
    free = state["slots"] - sum(job["ncpus"] for job in jobs.values() if job["state"] in "RE")
    for job_id, job in jobs.items():
        if job["state"] != "Q" or job["array"]:
            continue
        parent = jobs.get(of(job_id), {})
        if parent.get("limit"):
            running = sum(e["state"] == "R" and of(id) == parent["id"] for id, e in jobs.items())
            if running >= parent["limit"]:
                continue
        if job["ncpus"] > free:
            room = f"(R: {job['ncpus']} A: {free} T: {state['slots']})"
            job["comment"] = f"Not Running: Insufficient amount of resource: ncpus {room}"
            continue
        free -= job["ncpus"]
        job.update(state="R", comment="Job run at now on (node:ncpus=1)", started=time.time())
        job["runs"] += 1
        if parent.get("array") and parent["state"] == "Q":
            parent.update(state="B", substate=70, comment=BEGAN)
        # Of each account one: jobs are started by whoever calls a command.
        log = open(os.path.join(HOME, f"mom-{os.getuid()}.log"), "ab")  # noqa: SIM115
        subprocess.Popen(
            [sys.executable, os.path.abspath(__file__), "mom", job_id],
            stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    for job in jobs.values():
        if job["array"] and job["state"] != "F":
            elements = [e for id, e in jobs.items() if id != job["id"] and of(id) == job["id"]]
            ended = [e["exit"] for e in elements if e["exit"] is not None]
            if ended:
                job["exit"] = int(any(ended))
            if all(e["state"] in "XF" for e in elements):
                job["state"] = "F"
                job["substate"] = 93 if job["exit"] else 92


def of(job_id):
    return re.sub(r"\[\d+\]", "[]", job_id)


def fail(code, text):
    print(text, file=sys.stderr)
    sys.exit(code)


def words(arguments, flags=""):
    """Options with values, and what is left."""
    options, rest, arguments = [], [], list(arguments)
    while arguments:
        word = arguments.pop(0)
        if word.startswith("-") and len(word) == 2 and word[1] not in flags:
            options.append((word[1], arguments.pop(0)))
        elif word.startswith("-"):
            options.append((word[1], ""))
        else:
            rest.append(word)
    return options, rest


def qsub(arguments):
    options, (script,) = words(arguments, "hV")
    with open(script) as file:
        text = file.read()
    for line in text.splitlines():
        if line.startswith("#PBS "):
            options += words(shlex.split(line[5:]), "hV")[0]
    given = dict(options)
    asked = dict(
        item.split("=", 1) for name, value in options if name == "l" for item in value.split(",")
    )
    chunk = dict(part.split("=", 1) for part in asked.get("select", "").split(":") if "=" in part)
    if "J" in given and given.get("r", "y") == "n":
        fail(2, "qsub:  cannot submit non-rerunable Array Job")
    if given.get("q", "workq") not in QUEUES:
        fail(UNKNOWN_QUEUE, "qsub: Unknown queue")
    with server() as state:
        queue = given.get("q", "workq")
        span = given["J"].partition("%")[0].split("-") if "J" in given else (0, 0)
        asks_for = int(span[1]) - int(span[0]) + 1
        # Elements count, their arrays do not.
        active = [
            job for job in state["jobs"].values() if job["state"] in "QRH" and not job["array"]
        ]
        if len(active) + asks_for > state["most"]:
            fail(LIMIT, "qsub: would exceed complex's per-user limit")
        if sum(j["queue"] == queue for j in active) + asks_for > LIMIT_OF_QUEUE.get(queue, 10**9):
            fail(LIMIT, "qsub: would exceed queue generic's per-user limit")
        if int(chunk.get("ncpus", 1)) > 1000:
            fail(VIOLATES, "qsub: Job violates queue and/or server resource limits")
        number, state["next"] = state["next"], state["next"] + 1
        script = os.path.join(HOME, "jobs", str(number))
        with open(script, "w") as file:
            file.write(text)
        job = {
            "name": given.get("N", "STDIN"), "array": False, "script": script, "comment": "",
            "state": "H" if "h" in given else "Q", "ncpus": int(chunk.get("ncpus", 1)),
            "walltime": asked.get("walltime", "01:00:00"), "shell": given.get("S", "/bin/sh"),
            "owner": getpass.getuser(), "limit": None, "exit": None, "substate": 10,
            "queue": given.get("q", "workq"), "rerunnable": given.get("r", "y"), "runs": 0,
        }  # fmt: skip
        if "J" in given:
            span, _, limit = given["J"].partition("%")
            first, last = map(int, span.split("-"))
            if last <= first:
                fail(2, "qsub: illegal -J value")
            job_id = f"{number}[]"
            job.update(array=True, ncpus=0, limit=int(limit) if limit else None)
            element = dict(job, array=False, ncpus=int(chunk.get("ncpus", 1)))
            for index in range(first, last + 1):
                state["jobs"][f"{number}[{index}]"] = dict(element, id=f"{number}[{index}]")
        else:
            job_id = str(number)
        state["jobs"][job_id] = dict(job, id=job_id)
    print(f"{job_id}.{SERVER}")


def mom(arguments):
    """Run one job and watch it."""
    (job_id,) = arguments
    with server() as state:
        job = state["jobs"][job_id]
    environment = {
        **{name: os.environ[name] for name in ("HOME", "PATH", "OPENPBS_STANDIN")},
        "PBS_JOBID": f"{job_id}.{SERVER}", "PBS_ENVIRONMENT": "PBS_BATCH", "PBS_O_HOST": "login",
    }  # fmt: skip
    if index := re.search(r"\[(\d+)\]", job_id):
        environment["PBS_ARRAY_INDEX"] = index[1]
    process = subprocess.Popen(
        [job["shell"], job["script"]], cwd=os.environ["HOME"], env=environment,
        stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    hours, minutes, seconds = map(int, job["walltime"].split(":"))
    over = time.time() + hours * 3600 + minutes * 60 + seconds
    asked_at, status = None, None
    seen, deleted, rerun = 0, None, None
    while process.poll() is None:
        time.sleep(0.1)
        if seen != (now := os.stat(STATE).st_mtime_ns):
            seen = now
            with open(STATE) as file:
                told = json.load(file)["jobs"][job_id]
            deleted, rerun = told.get("deleted"), told.get("rerun")
        if rerun:
            os.killpg(process.pid, signal.SIGKILL)
        elif asked_at is None and (deleted or time.time() > over):
            asked_at = time.time()
            status = None if deleted else -29
            os.killpg(process.pid, signal.SIGTERM)
        elif asked_at is not None and time.time() - asked_at > KILL_DELAY:
            os.killpg(process.pid, signal.SIGKILL)
    if status is None:
        status = process.returncode if process.returncode >= 0 else 256 - process.returncode
    with server() as state:
        job = state["jobs"][job_id]
        if job.pop("rerun", False) and not job.get("deleted"):
            job.update(state="Q", substate=10, comment="")
            return
        job.update(
            state="X" if "[" in job_id else "F", exit=status,
            substate=91 if job.get("deleted") else 93 if status else 92,
        )  # fmt: skip


def known(state, name):
    job_id = name.partition(".")[0]
    return job_id if job_id in state["jobs"] else None


def is_over(state, job_id):
    whole = state["jobs"].get(of(job_id), {})
    return whole.get("state") == "F"


def qstat(arguments):
    if "--version" in arguments:
        print("pbs_version = 23.06.06")
        return
    options, names = words(arguments, "fFtxQ")
    given = dict(options)
    if "Qf" in "".join(arguments):
        for queue in QUEUES:
            print(f"Queue: {queue}\n    queue_type = Execution\n    enabled = True")
            if queue in LIMIT_OF_QUEUE:
                print(f"    max_queued = [u:PBS_GENERIC={LIMIT_OF_QUEUE[queue]}]")
            print()
        return
    code, shown = 0, {}
    with server() as state:
        if "x" in given and not state["history"]:
            print("qstat: PBS is not configured to maintain job history", file=sys.stderr)
            return
        for name in names or [job for job in state["jobs"] if of(job) == job]:
            job_id = known(state, name)
            if job_id is not None and is_over(state, job_id) and not state["history"]:
                job_id = None
            if job_id is None:
                print(f"qstat: Unknown Job Id {name}", file=sys.stderr)
                code = UNKNOWN_JOB
            elif is_over(state, job_id) and "x" not in given:
                if names:
                    text = "Job has finished, use -x or -H to obtain historical job information"
                    print(f"qstat: {name} {text}", file=sys.stderr)
                    code = FINISHED_JOB
            else:
                shown[job_id] = as_told(state, job_id)
                if "t" in given:
                    elements = [e for e in state["jobs"] if of(e) == job_id != e]
                    shown.update({e: as_told(state, e) for e in elements})
    for job_id, job in shown.items():
        print(f"Job Id: {job_id}.{SERVER}")
        for name, value in attributes(job).items():
            print(broken(f"    {name} = {value}"))
        print()
    sys.exit(code)


def as_told(state, job_id):
    """A job as the server tells of it: of an element whose record is gone, its array's."""
    job = state["jobs"][job_id]
    parent = state["jobs"].get(of(job_id), job)
    if parent is job:
        return job
    if job["state"] == "Q" and parent["state"] == "B":
        return dict(job, comment=BEGAN)
    if job["state"] == "X" and ("started" not in job or not state["history"]):
        told = {name: parent[name] for name in ("exit", "substate")}
        over = {"state": "F"} if parent["state"] == "F" else {}
        record = {name: value for name, value in job.items() if name != "started"}
        return {**record, **told, **over, "comment": "Subjob finished"}
    return job


def broken(line, width=80):
    """Long lines go on in the next, after a tab."""
    lines = []
    while len(line) > width:
        lines.append(line[:width])
        line = "\t" + line[width:]
    return "\n".join([*lines, line])


def attributes(job):
    shown = {
        "Job_Name": job["name"], "Job_Owner": f"{job['owner']}@login", "job_state": job["state"],
        "queue": job["queue"], "server": SERVER, "Hold_Types": "u" if job["state"] == "H" else "n",
        "Rerunable": str(job["rerunnable"] == "y"), "Resource_List.ncpus": job["ncpus"],
        "Resource_List.place": "pack", "Resource_List.select": f"1:ncpus={job['ncpus']}",
        "Resource_List.walltime": job["walltime"], "substate": job["substate"],
        "Variable_List": "PBS_O_SYSTEM=Linux,ALPHA=.5,BETA=one\ntwo\tthree,PBS_O_QUEUE=workq",
    }  # fmt: skip
    if job["state"] in "RXF" and not job["array"] and "started" in job:
        shown["exec_host"] = f"{os.uname().nodename}/0*{job['ncpus']}"
    if job["comment"]:
        shown["comment"] = job["comment"]
    if job["exit"] is not None:
        shown["Exit_status"] = job["exit"]
    if job["array"]:
        shown["array"] = "True"
    return shown


def qselect(arguments):
    (user,) = [value for name, value in words(arguments)[0] if name == "u"]
    with server() as state:
        for job_id, job in state["jobs"].items():
            if of(job_id) == job_id and job["owner"] == user and job["state"] != "F":
                print(f"{job_id}.{SERVER}")


def qdel(names):
    code = 0
    with server() as state:
        for name in names:
            job_id = known(state, name)
            if job_id is None or (is_over(state, job_id) and not state["history"]):
                print(f"qdel: Unknown Job Id {name}", file=sys.stderr)
                code = UNKNOWN_JOB
                continue
            if is_over(state, job_id):
                print(f"qdel: Job has finished {name}", file=sys.stderr)
                code = FINISHED_JOB
                continue
            for part in [job_id, *(e for e in state["jobs"] if of(e) == job_id)]:
                job = state["jobs"][part]
                if job["state"] in "QH":
                    end = "X" if re.search(r"\[\d", part) else "F"
                    job.update(state=end, substate=91)
                job["deleted"] = True
    sys.exit(code)


def qrerun(names):
    """As an operator, a preemption or the loss of a node does it."""
    with server() as state:
        for name in names:
            job = state["jobs"][known(state, name)]
            if job["rerunnable"] == "n":
                fail(NOT_RERUNNABLE, f"qrerun: Job is not rerunnable {name}")
            if job["state"] != "R":
                fail(BAD_STATE, f"qrerun: Request invalid for state of job {name}")
            job["rerun"] = True


def qmgr(arguments):
    with server() as state:
        print(f"Server {SERVER}\n    server_state = Active\n    max_array_size = 10000")
        print("    default_queue = workq")
        print(f"    max_queued = [u:PBS_GENERIC={state['most']}]\n    pbs_version = 23.06.06")


if __name__ == "__main__":
    commands = (qsub, qstat, qselect, qdel, qrerun, qmgr, mom)
    {command.__name__: command for command in commands}[sys.argv[1]](sys.argv[2:])
