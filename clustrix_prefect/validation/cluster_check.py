"""A look at a cluster, from the way in to a trial job: what is there, and what is wrong."""

from __future__ import annotations

import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from datetime import datetime, timedelta, timezone
from typing import Any, cast

from clustrix_prefect.clusters.batch import BatchCluster
from clustrix_prefect.clusters.cluster import CallsRunIn, ClusterBlock
from clustrix_prefect.clusters.kubernetes import KubernetesCluster
from clustrix_prefect.clusters.loading import CLUSTER_TYPES
from clustrix_prefect.connections.agent import AgentClient
from clustrix_prefect.connections.certificates import told
from clustrix_prefect.connections.connection import Connection
from clustrix_prefect.dispatch.progress import in_words
from clustrix_prefect.display.nearest import what_was_meant
from clustrix_prefect.errors import AgentError, ClustrixError
from clustrix_prefect.far_side.wire import protocol
from clustrix_prefect.kubernetes.permissions import Permission
from clustrix_prefect.kubernetes.pods import MANAGED_BY
from clustrix_prefect.schedulers.scheduler import JobSpec, Scheduler, TryLater
from clustrix_prefect.sessions.discovery import ask_site
from clustrix_prefect.sessions.opened import open_agent
from clustrix_prefect.validation.check import Check

_GIB = 1024**3
_LITTLE_SPACE = _GIB // 10
_CLOCKS_APART = 60.0
_DAY = timedelta(days=1)
_MODULE_MISSING = re.compile(r"\bERROR\b|Unable to locate|command not found", re.IGNORECASE)

# Commands of a scheduler that is installed but not set up can take minutes to give up.
_QUICK_ANSWER = 5.0

_WORK_DIR_REMEDIES = {
    "WorkDirNotWritable": "Set the block's `remote_work_dir` to a directory you can write to.",
    "WorkDirNotPrivate": "Choose another `remote_work_dir`, where only you can write.",
    "DiskFull": "Free some space there, or choose another `remote_work_dir`.",
}


def check_cluster(cluster: ClusterBlock) -> Iterator[Check]:
    """Look at everything that calls will need; a problem ends what depends on it."""
    if cluster.unknown_fields:
        kind = type(cluster)
        first = cluster.unknown_fields[0]
        yield Check(
            "fields",
            problem=f"The block was saved with {', '.join(map(repr, cluster.unknown_fields))}; "
            f"{kind.__name__} has no field {first!r}{what_was_meant(first, kind.model_fields)}",
            remedy="Make it anew without what is unknown, and save it with overwrite=True.",
        )
    if cluster.calls_run_in is CallsRunIn.PODS:
        cluster = cast("KubernetesCluster", cluster)
        try:
            yield from _namespace(cluster)
        except ClustrixError as error:
            yield Check.failed("API server", error)
            return
        try:
            cluster.check_fields()
        except ClustrixError as error:
            yield Check.failed("pods", error)
            return
    began = time.monotonic()
    try:
        connection = cluster.connect()
    except ClustrixError as error:
        yield Check.failed("connection", error)
        return
    with closing(connection):
        yield from _way(connection, time.monotonic() - began)
        try:
            way = open_agent(cluster, lambda: connection)
        except ClustrixError as error:
            yield Check.failed("login", error)
            return
        with closing(way.agent):
            try:
                yield from _beyond_login(cluster, way.agent, way.hello)
            except ClustrixError as error:
                yield Check.failed("connection", error)


def _namespace(cluster: KubernetesCluster) -> Iterator[Check]:
    with closing(cluster.api()) as api:
        yield Check("API server", f"Kubernetes {api.server_version()}")
        missing = api.missing_permissions()
        if missing:
            yield Check(
                "permissions",
                f"in namespace {api.namespace}",
                f"The account may not {', '.join(map(str, missing))}.",
                f"Add to its Role: {'; '.join(one.rule for one in missing)}.",
            )
        else:
            yield Check("permissions", f"all that calls need in namespace {api.namespace}")
        if Permission("list", "jobs") not in missing:
            ours = api.list_jobs(MANAGED_BY)
            yield Check("jobs of ours", f"{len(ours)} (`clustrix-prefect jobs list` shows them)")
    yield Check("image", cluster.image)


def _way(connection: Connection, seconds: float) -> Iterator[Check]:
    yield Check("connection", f"{connection.description}, opened in {seconds:.1f} s")
    facts = connection.facts
    if facts.host_key:
        yield Check("host key", facts.host_key)
    if facts.authenticated_with:
        yield Check("logged in with", facts.authenticated_with)
    if facts.certificate_ends is not None:
        yield _certificate(facts.certificate_ends)
    if facts.jumps:
        yield Check("through", ", ".join(facts.jumps))


def _certificate(ends: datetime) -> Check:
    """Return when the certificate that was logged in with ends: a day before, it is warned of."""
    left = ends - datetime.now(timezone.utc)
    value = f"ends at {told(ends)}"
    if left > _DAY:
        return Check("certificate", value)
    return Check(
        "certificate",
        value,
        warning=f"It ends in {in_words(left.total_seconds())}.",
        remedy="Renew it before: who reconnects, also in a run, takes the new one.",
    )


def _beyond_login(
    cluster: ClusterBlock, agent: AgentClient, hello: dict[str, Any]
) -> Iterator[Check]:
    python = ".".join(map(str, hello["python"]))
    yield Check("host", f"{hello['user']} on {hello['host']}, {hello['cpus']} cores")
    yield Check("helper", f"runs under Python {python} ({hello['executable']})")
    yield _round_trip(agent)
    yield from _modules(cluster, agent)
    work_dir = _work_dir(cluster, agent)
    yield work_dir
    interpreter = _python(cluster, agent)
    yield interpreter
    at_once = cluster.calls_at_once(hello["cpus"])
    if at_once is not None:
        yield Check("calls at once", at_once)
    scheduler = cluster.scheduler()
    if scheduler is not None:
        yield from _jobs(cluster, scheduler, agent, hello["uid"])
    elif cluster.calls_run_in is CallsRunIn.WORKERS:
        yield from _recognised(agent)


def _round_trip(agent: AgentClient) -> Check:
    fastest = min(agent.measure() for _ in range(5))
    value = f"{fastest * 1000:.1f} ms"
    if abs(agent.clock_offset) > _CLOCKS_APART:
        apart = f"{abs(agent.clock_offset):.0f} s {'ahead' if agent.clock_offset > 0 else 'behind'}"
        value += f"; the clock there is {apart} (times are corrected for it)"
    return Check("round trip", value)


def _modules(cluster: ClusterBlock, agent: AgentClient) -> Iterator[Check]:
    if not cluster.modules:
        return
    names = ", ".join(cluster.modules)
    lines = " && ".join(f"module load {name}" for name in cluster.modules)
    done = agent.request(protocol.command(argv=["bash", "-lc", lines]))
    if done["returncode"] or _MODULE_MISSING.search(done["stderr"]):
        yield Check(
            "modules",
            names,
            f"They do not load: {_last_line(done['stderr'])}.",
            "Name modules as `module avail` on the cluster does; if there is no `module` after "
            "logging in, say in `setup` where it comes from.",
        )
    else:
        yield Check("modules", names)


def _work_dir(cluster: ClusterBlock, agent: AgentClient) -> Check:
    try:
        found = agent.request(
            protocol.configure(work_dir=cluster.remote_work_dir, alone=cluster.is_alone)
        )
    except AgentError as error:
        remedy = _WORK_DIR_REMEDIES.get(error.type, "Set the block's `remote_work_dir`.")
        return Check("work directory", problem=f"It cannot be used: {error.what}", remedy=remedy)
    free = found["free_bytes"]
    value = f"{found['work_dir']}, writable, {free / _GIB:.1f} GiB free"
    if free < _LITTLE_SPACE:
        return Check(
            "work directory", value, "Little space is left.", _WORK_DIR_REMEDIES["DiskFull"]
        )
    return Check("work directory", value)


def _python(cluster: ClusterBlock, agent: AgentClient) -> Check:
    here = sys.version_info[:2]
    found = agent.request(
        protocol.find_python(
            python=cluster.interpreter, prefer=list(here), prologue=cluster.prologue
        )
    )
    chosen = found["chosen"]
    others = [one for one in found["found"] if one != chosen]
    if chosen is None:
        what = f"{cluster.interpreter} is not one" if cluster.interpreter else "None was found"
        return Check(
            "Python",
            problem=f"{what}: 3.6 or newer is needed.",
            remedy="Set the block's `python` to one there, or name a module that brings one in "
            "`modules`.",
        )
    value = ", ".join(_interpreter(one) for one in (chosen, *others))
    version = (chosen["version"][0], chosen["version"][1])
    value += f"; the first runs the tasks, since {cluster.why_interpreter(version)}"
    if version != here:
        wanted = ".".join(map(str, here))
        value += f"; flows here run under Python {wanted}, and code travels to it as source"
    return Check("Python", value)


def _interpreter(found: protocol.Interpreter) -> str:
    return f"{'.'.join(map(str, found['version']))} ({found['path']})"


def _jobs(
    cluster: ClusterBlock, scheduler: Scheduler, agent: AgentClient, user_id: int
) -> Iterator[Check]:
    scheduler, limits = ask_site(agent, scheduler)
    if not limits.version:
        first = agent.request(protocol.command(argv=scheduler.limits_commands()[0]))
        other = next(_recognised(agent), None)
        yield Check(
            "scheduler",
            problem=f"{scheduler.name} does not answer: "
            f"{_last_line(first['stderr'] or first['stdout'])}.",
            remedy=f"{other.value[0].upper()}{other.value[1:]}."
            if other
            else "Is this its login node, and are its commands there after logging in by hand?",
        )
        return
    yield Check("scheduler", limits.version)
    placement = scheduler.placement_of(cluster.resources)
    largest, most = limits.max_array_size(placement), limits.max_submitted_jobs(placement)
    arrays = f"arrays of {largest}" if largest else "arrays: not told"
    jobs = f"{most} jobs" if most else "jobs: not told"
    yield Check("limits", f"{arrays}, {jobs}")
    yield _queue(scheduler, agent, user_id)
    yield from _trial(cluster, scheduler, agent)


def _recognised(agent: AgentClient) -> Iterator[Check]:
    """Yield the scheduler that answers there, if any, and the block that is made for it."""
    for kind in CLUSTER_TYPES:
        if not issubclass(kind, BatchCluster):
            continue
        _, limits = ask_site(agent, kind().scheduler(), timeout=_QUICK_ANSWER)
        if limits.version:
            block = kind.get_block_type_slug()
            yield Check(
                "scheduler",
                f"{limits.version} is there: to submit jobs, use {kind.__name__} ({block}/NAME)",
            )
            return


def _queue(scheduler: Scheduler, agent: AgentClient, user_id: int) -> Check:
    done = agent.request(protocol.command(argv=scheduler.status_command(user_id)))
    if done["returncode"]:
        return Check(
            "queue",
            problem=f"It cannot be listed: {_last_line(done['stderr'])}.",
            remedy="Try again; ask the administrators if it lasts.",
        )
    statuses = scheduler.parse_status(done["stdout"])
    waiting = sum(1 for status in statuses.values() if not status.state.is_final)
    return Check("queue", f"{waiting} jobs of yours in it")


def _trial(cluster: ClusterBlock, scheduler: Scheduler, agent: AgentClient) -> Iterator[Check]:
    spec = JobSpec("clustrix-prefect-check", cluster.resources, None, "/tmp", ["true"])  # noqa: S108
    command = scheduler.trial_command(spec)
    if command is None:
        return
    done = agent.request(protocol.command(argv=command))
    if done["returncode"] == 0:
        said = re.sub(r"^Job \d+ to", "would", _last_line(done["stderr"] or done["stdout"]))
        said = re.sub(r"\ba using\b", "using", said)  # "at TIME a using 1 processors"
        yield Check("trial job", said)
        return
    try:
        scheduler.parse_submit(done["returncode"], "", done["stderr"])
    except TryLater as refusal:
        yield Check("trial job", problem=f"Not taken now: {refusal}.", remedy="Try again later.")
    except ClustrixError as error:
        yield Check.failed("trial job", error)


def _last_line(text: str) -> str:
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    last = lines[-1] if lines else "it says nothing"
    return re.sub(r"^\w+: (?:error: )?", "", last).rstrip(".")
